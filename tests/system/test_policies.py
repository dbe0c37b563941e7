"""Which portal configuration a customer gets, how it is kept right, and what it lets the customer do."""

import json
import re
import signal
import time

import pytest
from test_session import features_with

from bed.emulator import CONFIGURATIONS, PRICES, PRODUCTS, SESSIONS
from bed.process import ROOT, wait_until

PER_PRODUCT = {"PORTAL_CONFIGURATION": "per-product"}


def without_metadata(form):
    """Where there is one for each product, the worker marks what it made; Stripe shows that to nobody."""
    return {name: value for name, value in form.items() if not name.startswith("metadata[")}


def configuration(reply):
    assert reply["session"], reply.raw
    return reply["session"]["configuration"]


def ask(service, **team):
    """A new team's request; returns the configuration that it was given."""
    return configuration(service.ask({"team_id": service.team(**team)}))


def products_of(service, identity):
    """What a configuration offers, by product: sets of prices."""
    [found] = [one for one in service.emulator.configurations() if one["id"] == identity]
    return {product["product"]: set(product["prices"])
            for product in found["features"]["subscription_update"]["products"] or []}


def updates(service):
    """The calls that changed a configuration."""
    return [call for call in service.emulator.calls(f"{CONFIGURATIONS}/", "POST") if call["effect"]]


# --- shared ---

@pytest.mark.refused
def test_an_inactive_configuration_is_replaced_by_one_look_up(service):
    service.emulator.product()
    service.emulator.data({"configurations": [{"id": "bpc_next"}, {"id": "bpc_first"}]})
    service.start_worker()
    assert ask(service) == "bpc_first"
    service.emulator.data({"configurations": [{"id": "bpc_first", "active": False}]})
    sent = [service.request({"team_id": team}) for team in service.teams(30)]
    assert {configuration(reply) for reply in service.wait_replies(sent)} == {"bpc_next"}
    assert len(service.emulator.calls(CONFIGURATIONS, "GET")) == 2, "the first look-up, and one more"
    assert ask(service) == "bpc_next"


def test_a_configuration_that_is_gone_is_replaced_by_a_new_one(service):
    service.emulator.product()
    service.start_worker()
    first = ask(service)
    gone = {"type": "invalid_request_error", "code": "resource_missing", "param": "configuration",
            "message": f"No such configuration: '{first}'"}
    service.emulator.fault(SESSIONS, match={"parameter": {"configuration": first}}, status=404, body={"error": gone})
    service.emulator.data({"configurations": [{"id": first, "active": False}]})
    sent = [service.request({"team_id": team}) for team in service.teams(30)]
    [second] = {configuration(reply) for reply in service.wait_replies(sent)}
    assert second != first and len(service.emulator.made_configurations()) == 2
    keys = [call["idempotency_key"] for call in service.emulator.made_configurations()]
    assert keys == ["portal:default:configuration:shared:0:0", "portal:default:configuration:shared:1:0"]


@pytest.mark.refused
def test_a_stale_configuration_heals_for_the_whole_fleet(service):
    service.emulator.product()
    service.emulator.data({"configurations": [{"id": "bpc_next"}, {"id": "bpc_first"}]})
    for _ in range(3):
        service.start_worker(PORTAL_CONCURRENCY=5)
    sent = [service.request({"team_id": team}) for team in service.teams(30)]
    assert {configuration(reply) for reply in service.wait_replies(sent)} == {"bpc_first"}
    service.emulator.data({"configurations": [{"id": "bpc_first", "active": False}]})
    sent = [service.request({"team_id": service.team()}) for _ in range(30)]
    assert {configuration(reply) for reply in service.wait_replies(sent)} == {"bpc_next"}
    [row] = service.query("SELECT * FROM portal.configurations")
    assert (row["id"], row["forgotten"], row["leased_by"]) == ("bpc_next", 1, None)


@pytest.mark.refused
def test_what_stays_refused_is_looked_up_only_once_more(service):
    service.emulator.data({"configurations": [{"id": "bpc_here"}]})
    service.emulator.fault(SESSIONS, status=400, body={
        "error": {"type": "invalid_request_error", "param": "configuration", "message": "never good enough"}})
    service.start_worker()
    reply = service.ask({"team_id": service.team()})
    assert reply["error"]["code"] == "stripe_error" and "never good enough" in reply["error"]["message"]
    assert len(service.emulator.session_calls()) == 2
    assert len(service.emulator.calls(CONFIGURATIONS, "GET")) == 2


# --- chosen by a setting or by the request ---

def test_a_fixed_configuration_is_taken_without_a_look(service):
    service.emulator.data({"configurations": [{"id": "bpc_fixed"}, {"id": "bpc_other"}]})
    service.start_worker(PORTAL_CONFIGURATION="bpc_fixed")
    assert ask(service, product="prod_unknown") == "bpc_fixed"
    assert service.emulator.calls(CONFIGURATIONS) == []


def test_a_requests_own_configuration_goes_before_the_policy(service):
    service.emulator.data({"configurations": [{"id": "bpc_own"}, {"id": "bpc_fixed"}]})
    service.start_worker(PORTAL_CONFIGURATION="bpc_fixed")
    team = service.team()
    assert configuration(service.ask({"team_id": team, "configuration": "bpc_own"})) == "bpc_own"
    assert configuration(service.ask({"team_id": team})) == "bpc_fixed"


@pytest.mark.refused
@pytest.mark.parametrize("chosen_by", ["setting", "request"])
def test_a_chosen_configuration_is_never_replaced(service, chosen_by):
    service.emulator.data({"configurations": [{"id": "bpc_off", "active": False}, {"id": "bpc_other"}]})
    service.start_worker(**({"PORTAL_CONFIGURATION": "bpc_off"} if chosen_by == "setting" else {}))
    reply = service.ask({"team_id": service.team(), **({"configuration": "bpc_off"} if chosen_by == "request" else {})})
    assert (reply["status"], reply["error"]["code"]) == (500, "stripe_error")
    assert "bpc_off" in reply["error"]["message"]
    assert len(service.emulator.session_calls()) == 1 and service.emulator.calls(CONFIGURATIONS) == []


# --- per product ---

def test_each_product_has_a_configuration_of_its_own(service):
    prices = {name: set(service.emulator.product(name, prices=count, inactive_prices=1))
              for name, count in (("prod_a", 2), ("prod_b", 3))}
    service.start_worker(**PER_PRODUCT)
    given = {name: ask(service, product=name) for name in prices}
    assert len(set(given.values())) == 2
    assert [ask(service, product=name) for name in prices] == list(given.values())
    for name, identity in given.items():
        assert products_of(service, identity) == {name: prices[name]}, "customers are offered their own product only"
    assert len(service.emulator.made_configurations()) == 2
    for call in service.emulator.made_configurations():
        name = call["parameters"]["features[subscription_update][products][0][product]"]
        listed = [value for key, value in call["parameters"].items() if "[prices]" in key]
        assert without_metadata(call["parameters"]) == features_with(name, listed)


@pytest.mark.refused
def test_a_products_configuration_that_was_switched_off_is_replaced_by_one_look_up(service):
    for name in ("prod_a", "prod_b"):
        service.emulator.product(name)
    for _ in range(2):
        service.start_worker(PORTAL_CONCURRENCY=10, **PER_PRODUCT)
    old, other = ask(service, product="prod_a"), ask(service, product="prod_b")
    service.emulator.data({"configurations": [{"id": old, "active": False}]})
    sent = [service.request({"team_id": service.team(product="prod_a")}) for _ in range(30)]
    [new] = {configuration(reply) for reply in service.wait_replies(sent)}
    assert new != old and products_of(service, new).keys() == {"prod_a"}
    assert ask(service, product="prod_b") == other, "another product's stays as it was"
    keys = [call["idempotency_key"] for call in service.emulator.made_configurations()]
    assert keys == [f"portal:default:configuration:product/{name}:0" for name in ("prod_a:0", "prod_b:0", "prod_a:1")]


def test_eleven_products_and_hundreds_of_prices_work(service):
    names = [f"prod_{number}" for number in range(11)]
    prices = {name: set(service.emulator.product(name, prices=130 if name == "prod_0" else 1)) for name in names}
    service.start_worker(**PER_PRODUCT)
    sent = [service.request({"team_id": service.team(product=name)}) for name in names]
    given = [configuration(reply) for reply in service.wait_replies(sent)]
    assert len(set(given)) == 11
    for name, identity in zip(names, given):
        assert products_of(service, identity) == {name: prices[name]}


def test_what_stripe_says_of_a_limit_is_told(service):
    service.emulator.product()
    service.emulator.fault(CONFIGURATIONS, match={"method": "POST"}, status=400, body={"error": {
        "type": "invalid_request_error", "param": "features[subscription_update][products][0][prices]",
        "message": "You can have at most 20 prices."}})
    service.start_worker()
    reply = service.ask({"team_id": service.team()})
    assert reply["error"]["code"] == "stripe_error" and "at most 20 prices" in reply["error"]["message"]


def test_a_products_configuration_is_known_by_its_metadata(service):
    service.emulator.product("prod_a")
    service.start_worker(**PER_PRODUCT)
    first = ask(service, product="prod_a")
    assert service.workers[0].stop() == 0
    # Another database, and so many configurations of others that the list has pages.
    service.query("DELETE FROM portal.configurations")
    service.emulator.data({"configurations": [{"id": f"bpc_{number}"} for number in range(150)]})
    service.start_worker(**PER_PRODUCT)
    assert ask(service, product="prod_a") == first
    assert len(service.emulator.calls(CONFIGURATIONS, "POST")) == 1, "none is even tried to be made"


def test_a_configuration_of_others_is_not_taken_for_a_products_own(service):
    service.emulator.product("prod_a")
    service.emulator.data({"configurations": [{"id": "bpc_theirs", "metadata": {"portal_worker": "product/prod_b"}}]})
    service.start_worker(**PER_PRODUCT)
    assert ask(service, product="prod_a") != "bpc_theirs"


def test_four_workers_that_start_cold_make_one_for_each_product(service):
    names = [f"prod_{number}" for number in range(5)]
    for name in names:
        service.emulator.product(name)
    service.declare()
    sent = [service.request({"team_id": service.team(product=name)}) for name in names * 8]
    for _ in range(4):
        service.start_worker(ready=False, PORTAL_CONCURRENCY=10, **PER_PRODUCT)
    replies = service.wait_replies(sent)
    assert len(service.emulator.made_configurations()) == 5
    for number in range(5):
        assert len({configuration(reply) for reply in replies[number::5]}) == 1


def follow_prices(service, identity, product, prices):
    """Requests keep coming until the configuration offers these prices; each gets the same one."""
    def followed():
        assert ask(service, product=product) == identity
        return products_of(service, identity) == {product: set(prices)}

    wait_until(followed, lambda: f"{prices}, it offers {products_of(service, identity)}", seconds=15, every=0.2)


def test_new_and_withdrawn_prices_are_followed(service):
    prices = service.emulator.product("prod_a")
    service.start_worker(PORTAL_PRICES_SECONDS=1, **PER_PRODUCT)
    identity = ask(service, product="prod_a")
    service.emulator.data({"prices": [{"id": "price_new", "product": "prod_a"}]})
    follow_prices(service, identity, "prod_a", [*prices, "price_new"])
    service.emulator.data({"prices": [{"id": prices[0], "active": False}]})
    follow_prices(service, identity, "prod_a", [prices[1], "price_new"])
    assert len(service.emulator.made_configurations()) == 1, "it is changed, not multiplied"
    assert len(updates(service)) == 2, "and only when there is something to change"


def test_prices_are_not_looked_at_before_their_time(service):
    service.emulator.product("prod_a")
    service.start_worker(PORTAL_PRICES_SECONDS=3600, **PER_PRODUCT)
    for _ in range(5):
        ask(service, product="prod_a")
    assert len(service.emulator.calls(PRICES)) == 1


def test_a_product_without_prices_left_keeps_its_configuration(service):
    prices = service.emulator.product("prod_a")
    service.start_worker(PORTAL_PRICES_SECONDS=1, **PER_PRODUCT)
    identity = ask(service, product="prod_a")
    service.emulator.data({"prices": [{"id": price, "active": False} for price in prices]})
    seen = len(service.emulator.calls(PRICES))

    def looked():
        assert ask(service, product="prod_a") == identity
        return len(service.emulator.calls(PRICES)) > seen

    wait_until(looked, "the prices to be looked at again", every=0.2)
    for _ in range(6):
        time.sleep(0.3)  # longer, in all, than between two looks that find prices
        assert ask(service, product="prod_a") == identity
    assert len(service.emulator.calls(PRICES)) == seen + 1, "they are not asked for every second"
    assert updates(service) == []


def test_an_inactive_product_fails_alone(service):
    service.emulator.product("prod_bad", active=False)
    service.emulator.product("prod_empty", prices=0)
    service.emulator.product("prod_good")
    service.start_worker(**PER_PRODUCT)
    names = ["prod_bad", "prod_empty", "prod_good"] * 10
    replies = service.wait_replies([service.request({"team_id": service.team(product=name)}) for name in names])
    told = {name: {(reply["error"] or {}).get("code", reply["outcome"]) for reply in replies[number::3]}
            for number, name in enumerate(names[:3])}
    assert told == {"prod_bad": {"product_inactive"}, "prod_empty": {"no_active_prices"}, "prod_good": {"created"}}


@pytest.mark.refused
def test_a_product_that_stripe_does_not_know_is_told(service):
    service.start_worker(**PER_PRODUCT)
    reply = service.ask({"team_id": service.team(product="prod_gone")})
    assert reply["error"]["code"] == "stripe_error" and "No such product" in reply["error"]["message"]


@pytest.mark.refused
@pytest.mark.parametrize("product", ["prod_1/../../customers", "prod_1?limit=1#", "prod_1\r\nX: y", "prod ü"])
def test_a_products_name_can_not_lead_elsewhere(service, product):
    service.start_worker(**PER_PRODUCT)
    assert service.ask({"team_id": service.team(product=product)})["error"]["code"] == "stripe_error"
    assert [call["path"] for call in service.emulator.calls("/v1/")[1:]] == [f"{PRODUCTS}{product}"]


# --- features from a file ---

ALL_FEATURES = {
    "name": "Portal of the application",
    "business_profile": {"headline": "Ihr Abo, schön verwaltet", "privacy_policy_url": "https://example.com/privacy",
                         "terms_of_service_url": "https://example.com/terms"},
    "default_return_url": "https://example.com/account",
    "login_page": {"enabled": True},
    "features": {
        "customer_update": {"enabled": True, "allowed_updates": ["email", "tax_id"]},
        "invoice_history": {"enabled": True},
        "payment_method_update": {"enabled": True},
        "subscription_cancel": {"enabled": True, "mode": "immediately", "proration_behavior": "none",
                                "cancellation_reason": {"enabled": True, "options": ["too_complex", "other"]}},
        "subscription_update": {"enabled": True, "default_allowed_updates": ["price"],
                                "proration_behavior": "always_invoice",
                                "schedule_at_period_end": {"conditions": [{"type": "decreasing_item_amount"}]}},
    },
}


def flat(value, name=""):
    """As Stripe's form has it."""
    if isinstance(value, dict):
        pairs = [(f"{name}[{key}]" if name else key, one) for key, one in value.items()]
    elif isinstance(value, list):
        pairs = [(f"{name}[{number}]", one) for number, one in enumerate(value)]
    else:
        return {name: json.dumps(value) if isinstance(value, bool) else str(value)}
    return {key: text for part, one in pairs for key, text in flat(one, part).items()}


@pytest.fixture
def file(tmp_path):
    """Writes a file of features; returns the setting that names it."""
    def write(content):
        path = tmp_path / "features.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return {"PORTAL_CONFIGURATION_FILE": path}

    return write


def made(service):
    """The one configuration that was made, as a form."""
    [call] = service.emulator.made_configurations()
    return without_metadata(call["parameters"])


def test_every_feature_can_be_set(service, file):
    [price] = service.emulator.product(prices=1)
    service.start_worker(**file(ALL_FEATURES))
    ask(service)
    assert made(service) == {**flat(ALL_FEATURES), **flat({"features": {"subscription_update": {
        "products": [{"product": "prod_base", "prices": [price]}]}}})}


def test_a_file_sets_field_by_field_over_the_references_features(service, file):
    prices = service.emulator.product()
    service.start_worker(**file({"features": {"invoice_history": {"enabled": True},
                                              "subscription_cancel": {"mode": "immediately"}}}))
    ask(service)
    form = made(service)
    listed = [value for key, value in form.items() if "[prices]" in key]
    assert form == {**features_with("prod_base", listed), "features[invoice_history][enabled]": "true",
                    "features[subscription_cancel][mode]": "immediately"} and set(listed) == set(prices)


def test_the_example_in_the_man_page_is_taken(service, file):
    page = (ROOT / "systemd/man/portal-worker.5").read_text()
    example = re.search(r"^\.It Ev PORTAL_CONFIGURATION_FILE.*?^\.Bd[^\n]*\n(.*?)^\.Ed", page, re.MULTILINE | re.DOTALL)[1]
    service.emulator.product()
    service.start_worker(**file(example))
    ask(service)
    assert flat(json.loads(example)).items() <= made(service).items()


def test_an_empty_file_of_features_is_the_reference(service, file):
    service.emulator.product(prices=1)
    service.start_worker(**file({}))
    ask(service)
    assert made(service) == features_with("prod_base", ["price_prod_base_0"])


def test_without_updates_no_products_are_offered(service, file):
    service.emulator.product()
    service.start_worker(**file({"features": {"subscription_update": {"enabled": False}}}))
    ask(service)
    assert not [key for key in made(service) if "products" in key]


WRONG_FILES = [
    ("not JSON", "{", "not JSON"),
    ("a list", "[]", "object"),
    ("a field twice", '{"name": "a", "name": "b"}', "not JSON"),
    ("unknown", {"colour": "red"}, "colour"),
    ("unknown feature", {"features": {"pause": {"enabled": True}}}, "features.pause"),
    ("unknown in a feature", {"features": {"invoice_history": {"on": True}}}, "features.invoice_history.on"),
    ("products", {"features": {"subscription_update": {"products": []}}}, "features.subscription_update.products"),
    ("metadata", {"metadata": {"a": "b"}}, "metadata"),
    ("active", {"active": False}, "active"),
    ("features", {"features": []}, "features"),
    ("name", {"name": 7}, "name"),
    ("business_profile", {"business_profile": "x"}, "business_profile"),
    ("headline", {"business_profile": {"headline": 7}}, "business_profile.headline"),
    ("headline's length", {"business_profile": {"headline": "x" * 61}}, "business_profile.headline"),
    ("privacy_policy_url", {"business_profile": {"privacy_policy_url": "example.com"}},
     "business_profile.privacy_policy_url"),
    ("terms_of_service_url", {"business_profile": {"terms_of_service_url": "ftp://example.com"}},
     "business_profile.terms_of_service_url"),
    ("default_return_url", {"default_return_url": "javascript:alert(1)"}, "default_return_url"),
    ("login_page", {"login_page": {"enabled": "yes"}}, "login_page.enabled"),
    ("customer_update", {"features": {"customer_update": {"enabled": 1}}}, "features.customer_update.enabled"),
    ("allowed_updates", {"features": {"customer_update": {"allowed_updates": ["email", "password"]}}},
     "features.customer_update.allowed_updates"),
    ("allowed_updates' type", {"features": {"customer_update": {"allowed_updates": "email"}}},
     "features.customer_update.allowed_updates"),
    ("invoice_history", {"features": {"invoice_history": True}}, "features.invoice_history"),
    ("payment_method_update", {"features": {"payment_method_update": {"enabled": None}}},
     "features.payment_method_update.enabled"),
    ("cancel mode", {"features": {"subscription_cancel": {"mode": "now"}}}, "features.subscription_cancel.mode"),
    ("cancel proration", {"features": {"subscription_cancel": {"proration_behavior": "prorate"}}},
     "features.subscription_cancel.proration_behavior"),
    ("cancel reasons", {"features": {"subscription_cancel": {"cancellation_reason": {"options": ["bored"]}}}},
     "features.subscription_cancel.cancellation_reason.options"),
    ("update's updates", {"features": {"subscription_update": {"default_allowed_updates": ["plan"]}}},
     "features.subscription_update.default_allowed_updates"),
    ("update's proration", {"features": {"subscription_update": {"proration_behavior": 7}}},
     "features.subscription_update.proration_behavior"),
    ("update's schedule", {"features": {"subscription_update": {"schedule_at_period_end": {
        "conditions": [{"type": "always"}]}}}}, "features.subscription_update.schedule_at_period_end.conditions"),
    ("customer_update's enabled", {"features": {"customer_update": {"allowed_updates": ["email"]}}},
     "features.customer_update.enabled is missing"),
    ("invoice_history's enabled", {"features": {"invoice_history": {}}}, "features.invoice_history.enabled is missing"),
    ("login_page's enabled", {"login_page": {}}, "login_page.enabled is missing"),
    ("no updates to allow", {"features": {"subscription_update": {"default_allowed_updates": []}}},
     "features.subscription_update.default_allowed_updates"),
    ("updates without payment methods", {"features": {"payment_method_update": {"enabled": False}}},
     "features.payment_method_update"),
]


@pytest.mark.parametrize("content, word", [case[1:] for case in WRONG_FILES], ids=[case[0] for case in WRONG_FILES])
def test_a_wrong_feature_ends_the_start_and_is_named(service, file, content, word):
    setting = file(content)
    status, _, errors = service.run_worker(**setting)
    assert status == 78
    assert str(setting["PORTAL_CONFIGURATION_FILE"]) in errors and word in errors, errors


def test_all_that_is_wrong_with_a_file_is_told_at_once(service, file):
    status, _, errors = service.run_worker(**file({"colour": "red", "name": 7, "features": {"invoice_history": 1}}))
    assert status == 78 and all(word in errors for word in ("colour", "name", "features.invoice_history")), errors


def test_a_file_that_can_not_be_read_ends_the_start(service, tmp_path):
    status, _, errors = service.run_worker(PORTAL_CONFIGURATION_FILE=tmp_path / "nothing.json")
    assert status == 78 and "nothing.json" in errors, errors


# --- when the features change ---

def changed_headline(service, identity, headline):
    """Requests keep coming until the configuration has the headline; each gets the same one."""
    def changed():
        assert ask(service) == identity
        [found] = [one for one in service.emulator.configurations() if one["id"] == identity]
        return found["business_profile"]["headline"] == headline

    wait_until(changed, f"the headline {headline}", seconds=15, every=0.1)


@pytest.mark.parametrize("policy", ["shared", "per-product"])
def test_changed_features_change_the_managed_configuration(service, file, policy):
    service.emulator.product(prices=1)
    settings = {"PORTAL_CONFIGURATION": policy}
    service.start_worker(**settings)
    identity = ask(service)
    changed_headline(service, identity, "Manage your subscription")
    assert service.workers[0].stop() == 0
    service.start_worker(**settings, **file({"business_profile": {"headline": "After a restart"}}))
    changed_headline(service, identity, "After a restart")
    file({"business_profile": {"headline": "After a signal"}})
    service.workers[1].send(signal.SIGHUP)
    changed_headline(service, identity, "After a signal")
    assert len(service.emulator.made_configurations()) == 1 and len(updates(service)) == 2
    [offered] = [value for key, value in updates(service)[-1]["parameters"].items() if "[prices]" in key]
    assert offered == "price_prod_base_0"


@pytest.mark.refused
def test_a_corrected_file_is_taken_up_though_stripe_refused_the_one_before(service, file):
    service.emulator.product(prices=1)
    worker = service.start_worker(**file({"business_profile": {"headline": "First"}}))
    identity = ask(service)
    service.emulator.fault(f"{CONFIGURATIONS}/{identity}", status=400, body={
        "error": {"type": "invalid_request_error", "message": "not this headline"}})
    file({"business_profile": {"headline": "Refused"}})
    worker.send(signal.SIGHUP)
    wait_until(lambda: (ask(service), "not this headline" in worker.text())[1], "the refusal to be told", every=0.1)
    service.emulator.clear_faults()
    file({"business_profile": {"headline": "Corrected"}})
    worker.send(signal.SIGHUP)
    changed_headline(service, identity, "Corrected")


def test_what_is_taken_out_of_the_file_is_taken_back_at_stripe(service, file):
    service.emulator.product(prices=1)
    worker = service.start_worker(**file(ALL_FEATURES))
    identity = ask(service)
    file({"features": {"customer_update": {"enabled": True, "allowed_updates": []}}})
    worker.send(signal.SIGHUP)
    changed_headline(service, identity, "Manage your subscription")
    [found] = service.emulator.configurations()
    profile, features = found["business_profile"], found["features"]
    assert (profile["privacy_policy_url"], profile["terms_of_service_url"]) == (None, None)
    assert (found["default_return_url"], found["login_page"]["enabled"]) == (None, False)
    assert not features["invoice_history"]["enabled"]
    assert features["customer_update"] == {"enabled": True, "allowed_updates": []}
    assert features["subscription_cancel"]["proration_behavior"] == "none"
    assert features["subscription_update"]["schedule_at_period_end"]["conditions"] == []


def test_a_configuration_of_somebody_elses_making_is_never_touched(service, file):
    service.emulator.product()
    service.emulator.data({"configurations": [{"id": "bpc_theirs"}]})
    service.start_worker(**file({"business_profile": {"headline": "First"}}), PORTAL_PRICES_SECONDS=1)
    assert ask(service) == "bpc_theirs"
    file({"business_profile": {"headline": "Second"}})
    service.workers[0].send(signal.SIGHUP)
    for _ in range(10):
        assert ask(service) == "bpc_theirs"
    assert service.emulator.calls(CONFIGURATIONS, "POST") == []
    [row] = service.query("SELECT * FROM portal.configurations")
    assert (row["id"], row["managed"]) == ("bpc_theirs", False)


def test_a_wrong_file_after_a_signal_changes_nothing(service, file):
    service.emulator.product()
    worker = service.start_worker(**file({"business_profile": {"headline": "Right"}}))
    identity = ask(service)
    file({"business_profile": {"headline": 7}})
    worker.send(signal.SIGHUP)
    wait_until(lambda: "business_profile.headline" in worker.text(), "the log to say what is wrong")
    assert ask(service) == identity and updates(service) == []
