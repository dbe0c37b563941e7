"""The Stripe emulator behaves as Stripe does. Nothing but the emulator runs here."""

import json
import re
import threading
import time
import urllib.parse

import pytest
from emulator_client import FEATURES, KEY, LIVE_KEY, Client, emulator, running

from bed.emulator import CONFIGURATIONS, SESSIONS
from bed.process import wait_until

# --- keys and headers ---


def test_without_a_key_or_with_a_wrong_one_nothing_is_answered(emulator):
    answer = emulator.get("/v1/prices", key=None)
    assert answer.refused(status=401).startswith("You did not provide an API key.")
    answer = emulator.get("/v1/prices", key="sk_test_wrong_but_long_xyz9")
    assert answer.refused(status=401) == "Invalid API Key provided: sk_test_***************xyz9"
    assert answer.error["type"] == "invalid_request_error"


def test_a_key_may_come_as_the_user_of_basic_authentication(emulator):
    basic = "Basic c2tfdGVzdF9zZWxmX3Rlc3RfMDAwMTo="  # sk_test_self_test_0001:
    assert emulator.get("/v1/prices", key=None, headers={"Authorization": basic}).status == 200


def test_keys_can_be_revoked_restricted_and_given_back(emulator):
    emulator.keys(accept=[], restricted=["rk_test_no_rights_0001"])
    assert emulator.get("/v1/prices").status == 401
    answer = emulator.session(key="rk_test_no_rights_0001")
    assert "rak_customer_portal_write" in answer.refused(status=403, words="does not have the required permissions")
    emulator.keys(accept=[KEY])
    assert emulator.get("/v1/prices").status == 200


def test_answers_carry_stripes_headers(emulator):
    answer = emulator.session(idempotency_key="key-1")
    assert re.fullmatch(r"req_\w{14}", answer.headers["Request-Id"])
    assert answer.headers["Stripe-Version"] == "2025-04-30.basil"
    assert answer.headers["Idempotency-Key"] == "key-1"
    assert "Idempotent-Replayed" not in answer.headers
    emulator.get("/v1/prices", headers={"Stripe-Version": "soon"}).refused(words="Invalid Stripe API version: soon")


def test_the_mode_follows_the_key(emulator):
    live = emulator.session(key=LIVE_KEY).json
    assert live["livemode"] is True and "/p/session/live_" in live["url"]
    made = emulator.configuration().json["id"]
    assert emulator.get(f"{CONFIGURATIONS}/{made}", key=LIVE_KEY).status == 404


def test_what_stripe_does_not_have_is_an_unrecognized_url(emulator):
    message = emulator.get("/v1/nothing").refused(status=404)
    assert message.startswith("Unrecognized request URL (GET: /v1/nothing).")
    assert emulator.call("DELETE", SESSIONS).status == 404


# --- parameters ---


@pytest.mark.parametrize("form, param, code, words", [
    ({"custmer": "cus_1"}, "custmer", "parameter_unknown", "Received unknown parameter: custmer"),
    ({"flow_data[tipe]": "x"}, "flow_data[tipe]", "parameter_unknown", "Received unknown parameter: flow_data[tipe]"),
    ({"a": "1", "b": "2"}, "a", "parameter_unknown", "Received unknown parameters: a, b"),
    ({"customer": ""}, "customer", "parameter_invalid_empty", "You passed an empty string for 'customer'."),
    ({"customer": "cus_x"}, "customer", "resource_missing", "No such customer: 'cus_x'"),
    ({"configuration": "bpc_x"}, "configuration", "resource_missing", "No such configuration: 'bpc_x'"),
    ({"on_behalf_of": "me"}, "on_behalf_of", "resource_missing", "No such account: 'me'"),
    ({"locale": "xx"}, "locale", None, "Invalid locale: must be one of auto, bg, "),
    ({"return_url": "nowhere"}, "return_url", "url_invalid", "Not a valid URL"),
    ({"return_url": "javascript:x"}, "return_url", "url_invalid", "Not a valid URL"),
    ({"return_url": "https://x/" + "a" * 5000}, "return_url", None, "must be at most 5000 characters"),
    ({"flow_data": "x"}, "flow_data", None, "Invalid object"),
    ({"customer[id]": "x"}, "customer[id]", None, "Invalid hash"),
    ({"expand[]": "customer"}, "expand", None, "This property cannot be expanded (customer)."),
    ({"flow_data[type]": "x"}, "flow_data[type]", None, "Invalid flow_data[type]: must be one of payment_method_update"),
    ({"flow_data[after_completion][type]": "portal_homepage"}, "flow_data[type]", "parameter_missing",
     "Missing required param: flow_data[type]."),
    ({"flow_data[type]": "subscription_cancel"}, "flow_data[subscription_cancel]", "parameter_missing", ""),
    ({"flow_data[type]": "payment_method_update", "flow_data[subscription_update][subscription]": "sub_1"},
     "flow_data[subscription_update]", None, "can only be passed when flow_data[type] is subscription_update"),
    ({"flow_data[type]": "payment_method_update", "flow_data[after_completion][type]": "hosted_confirmation",
      "flow_data[after_completion][hosted_confirmation][custom_message]": "ä" * 501},
     "flow_data[after_completion][hosted_confirmation][custom_message]", None, "must be at most 500 characters"),
    ({"flow_data[type]": "payment_method_update", "flow_data[after_completion][type]": "redirect"},
     "flow_data[after_completion][redirect]", "parameter_missing", ""),
    ({"flow_data[type]": "subscription_update_confirm", "flow_data[subscription_update_confirm][subscription]": "sub_1",
      "flow_data[subscription_update_confirm][items][0][id]": "si_1",
      "flow_data[subscription_update_confirm][items][0][quantity]": "two"},
     "flow_data[subscription_update_confirm][items][0][quantity]", "parameter_invalid_integer", "Invalid integer: two"),
    ({"flow_data[type]": "subscription_update_confirm", "flow_data[subscription_update_confirm][subscription]": "sub_1",
      "flow_data[subscription_update_confirm][items][0][id]": "si_1",
      "flow_data[subscription_update_confirm][items][0][price]": "price_4"},
     "flow_data[subscription_update_confirm][items][0][price]", None, "is not included"),
    ({"flow_data[type]": "subscription_update_confirm", "flow_data[subscription_update_confirm][subscription]": "sub_1",
      "flow_data[subscription_update_confirm][items][0][id]": "si_1",
      "flow_data[subscription_update_confirm][items][1][id]": "si_2"},
     "flow_data[subscription_update_confirm][items]", None, "at most 1 entries"),
])
def test_a_wrong_session_is_refused_in_stripes_words(emulator, form, param, code, words):
    emulator.session(form).refused(param, code, words=words)
    assert emulator.counters()["sessions_made"] == 0


def test_a_session_needs_a_customer(emulator):
    answer = emulator.post(SESSIONS, {"configuration": "bpc_all"})
    assert answer.refused("customer", "parameter_missing") == "Missing required param: customer."
    assert answer.error["doc_url"] == "https://stripe.com/docs/error-codes/parameter-missing"


def test_a_session_without_a_configuration_uses_the_default_one(emulator):
    answer = emulator.post(SESSIONS, {"customer": "cus_1"})
    assert "until you save your customer portal settings in test mode" in answer.refused()
    emulator.data({"configurations": [{"id": "bpc_default", "is_default": True}]})
    assert emulator.post(SESSIONS, {"customer": "cus_1"}).json["configuration"] == "bpc_default"


def test_an_inactive_configuration_is_refused(emulator):
    assert emulator.post(f"{CONFIGURATIONS}/bpc_all", {"active": "false"}).json["active"] is False
    assert "inactive" in emulator.session().refused("configuration")


def test_a_body_that_is_no_form_is_refused(emulator):
    answer = emulator.session(headers={"Content-Type": "application/json"})
    assert "application/x-www-form-urlencoded" in answer.refused()
    for body in ("customer=%00cus_1", "customer=%FF", "customer=\0cus_1"):
        answer = emulator.ask("POST", SESSIONS, body, {"Authorization": f"Bearer {KEY}"})
        assert "UTF-8" in answer.refused()
    answer = emulator.ask("POST", SESSIONS, "customer=" + "a" * 300000, {"Authorization": f"Bearer {KEY}"})
    answer.refused(status=413)


@pytest.mark.parametrize("form, param, code, words", [
    ({"limit": "x"}, "limit", "parameter_invalid_integer", "Invalid integer: x"),
    ({"limit": "0"}, "limit", "parameter_invalid_integer", "greater than or equal to 1"),
    ({"limit": "101"}, "limit", "parameter_invalid_integer", "less than or equal to 100"),
    ({"active": "yes"}, "active", None, "Invalid boolean: yes"),
    ({"product": "prod_x"}, "product", "resource_missing", "No such product: 'prod_x'"),
    ({"starting_after": "price_x"}, "starting_after", "resource_missing", "No such price: 'price_x'"),
    ({"starting_after": "price_1", "ending_before": "price_1"}, "starting_after", "parameters_exclusive", ""),
    ({"recurring[interval]": "eon"}, "recurring[interval]", None, "must be one of day, month, week, or year"),
])
def test_a_wrong_list_is_refused_in_stripes_words(emulator, form, param, code, words):
    emulator.get("/v1/prices", form).refused(param, code, words=words)


# --- sessions ---


def test_a_session_is_complete(emulator):
    before = int(time.time())
    session = emulator.session({"return_url": "https://example.com/dashboard", "locale": "pt-BR",
                                "on_behalf_of": "acct_1"}).json
    assert re.fullmatch(r"bps_1\w{23}", session["id"])
    assert session["url"].startswith(f"{emulator.url}/p/session/test_")
    assert before <= session["created"] <= time.time()
    del session["id"], session["url"], session["created"]
    assert session == {"object": "billing_portal.session", "configuration": "bpc_all", "customer": "cus_1", "flow": None,
                       "livemode": False, "locale": "pt-BR", "on_behalf_of": "acct_1",
                       "return_url": "https://example.com/dashboard"}
    expanded = emulator.session({"expand[]": "configuration"}).json["configuration"]
    assert (expanded["object"], expanded["id"]) == ("billing_portal.configuration", "bpc_all")


@pytest.mark.parametrize("flow, shown", [
    ({"type": "payment_method_update"}, {}),
    ({"type": "subscription_cancel", "subscription_cancel[subscription]": "sub_1"},
     {"subscription_cancel": {"subscription": "sub_1", "retention": None}}),
    ({"type": "subscription_cancel", "subscription_cancel[subscription]": "sub_1",
      "subscription_cancel[retention][type]": "coupon_offer",
      "subscription_cancel[retention][coupon_offer][coupon]": "c"},
     {"subscription_cancel": {"subscription": "sub_1", "retention": {"type": "coupon_offer",
                                                                      "coupon_offer": {"coupon": "c"}}}}),
    ({"type": "subscription_update", "subscription_update[subscription]": "sub_1", "after_completion[type]": "redirect",
      "after_completion[redirect][return_url]": "https://example.com/"},
     {"subscription_update": {"subscription": "sub_1"},
      "after_completion": {"type": "redirect", "redirect": {"return_url": "https://example.com/"},
                           "hosted_confirmation": None}}),
    ({"type": "subscription_update_confirm", "subscription_update_confirm[subscription]": "sub_1",
      "subscription_update_confirm[items][0][id]": "si_1", "subscription_update_confirm[items][0][price]": "price_1",
      "subscription_update_confirm[items][0][quantity]": "3",
      "subscription_update_confirm[discounts][0][coupon]": "c",
      "after_completion[type]": "hosted_confirmation",
      "after_completion[hosted_confirmation][custom_message]": "Thanks"},
     {"subscription_update_confirm": {"subscription": "sub_1", "discounts": [{"coupon": "c", "promotion_code": None}],
                                      "items": [{"id": "si_1", "price": "price_1", "quantity": 3}]},
      "after_completion": {"type": "hosted_confirmation", "hosted_confirmation": {"custom_message": "Thanks"},
                           "redirect": None}}),
])
def test_every_flow_is_shown_as_it_was_asked_for(emulator, flow, shown):
    form = {"flow_data" + re.sub(r"^\w+", lambda m: f"[{m[0]}]", name): value for name, value in flow.items()}
    whole = {"type": flow["type"], "subscription_cancel": None, "subscription_update": None,
             "subscription_update_confirm": None,
             "after_completion": {"type": "portal_homepage", "hosted_confirmation": None, "redirect": None}}
    assert emulator.session(form).json["flow"] == {**whole, **shown}


def test_a_flow_needs_its_feature_and_the_customers_own_subscription(emulator):
    form = {"flow_data[type]": "subscription_cancel", "flow_data[subscription_cancel][subscription]": "sub_1"}
    param = "flow_data[subscription_cancel][subscription]"
    emulator.data({"subscriptions": {"sub_2": "cus_2"}, "configurations": [{"id": "bpc_bare"}]})
    emulator.session(form).refused(param, "resource_missing", words="No such subscription: 'sub_1'")
    emulator.data({"subscriptions": {"sub_1": "cus_1"}})
    assert emulator.session(form).status == 200
    emulator.session({**form, "customer": "cus_2"}).refused(param, words="does not belong")
    emulator.session({**form, "configuration": "bpc_bare"}).refused("flow_data[type]", words="disabled")


def test_a_portal_page_shows_the_way_back_until_it_expires(emulator):
    url = emulator.session({"return_url": "https://example.com/?a=1&b=2"}).json["url"]
    page = emulator.ask("GET", urllib.parse.urlsplit(url).path)
    assert page.status == 200
    assert 'href="https://example.com/?a=1&amp;b=2"' in page.text and "cus_1" in page.text and "Cancel" in page.text
    assert emulator.ask("GET", "/p/session/test_nothing_00000000").status == 404


def test_a_portal_page_expires_and_a_data_file_is_read(tmp_path):
    data = tmp_path / "data.json"
    data.write_text(json.dumps({"customers": {"prefix": "cus_", "count": 3},
                                "configurations": [{"id": "bpc_all", "default_return_url": "https://example.com/"}]}))
    emulator = Client(tmp_path / "emulator.log", keys=(), arguments=["--session-seconds", "0", "--data", data])
    session = emulator.session({"customer": "cus_3"}).json
    assert session["return_url"] == "https://example.com/"
    assert emulator.ask("GET", urllib.parse.urlsplit(session["url"]).path).status == 410
    for unknown in ("cus_4", "cus_0", "cus_03", "cus_"):
        emulator.session({"customer": unknown}).refused("customer", "resource_missing")
    emulator.get("/v1/prices", key="nonsense").refused(status=401)
    assert emulator.process.stop() == 0


# --- configurations ---


REASONS = ["too_expensive", "missing_features", "switched_service", "unused", "other"]


def test_a_configuration_says_all_that_it_was_told(emulator):
    made = emulator.configuration({
        **FEATURES, "metadata[portal]": "x", "name": "Mine", "login_page[enabled]": "true",
        "features[subscription_update][schedule_at_period_end][conditions][0][type]": "shortening_interval",
        "expand[]": "features.subscription_update.products"}).json
    assert re.fullmatch(r"bpc_1\w{23}", made["id"])
    assert made["features"] == {
        "customer_update": {"allowed_updates": [], "enabled": False},
        "invoice_history": {"enabled": False},
        "payment_method_update": {"enabled": True},
        "subscription_cancel": {"cancellation_reason": {"enabled": True, "options": REASONS}, "enabled": True,
                                "mode": "at_period_end", "proration_behavior": "none"},
        "subscription_pause": {"enabled": False},
        "subscription_update": {"default_allowed_updates": ["price", "quantity", "promotion_code"], "enabled": True,
                                "products": [{"product": "prod_1", "prices": ["price_1", "price_2"],
                                              "adjustable_quantity": {"enabled": False, "maximum": None, "minimum": 0}}],
                                "proration_behavior": "create_prorations",
                                "schedule_at_period_end": {"conditions": [{"type": "shortening_interval"}]}},
    }
    assert made["business_profile"] == {"headline": "Manage your subscription", "privacy_policy_url": None,
                                        "terms_of_service_url": None}
    assert (made["active"], made["is_default"], made["livemode"], made["name"]) == (True, False, False, "Mine")
    assert made["metadata"] == {"portal": "x"}
    assert made["login_page"]["url"].startswith(emulator.url)
    # Like Stripe, it shows the products only where they are asked for.
    again = emulator.get(f"{CONFIGURATIONS}/{made['id']}").json
    del made["features"]["subscription_update"]["products"]
    assert again == made


@pytest.mark.parametrize("change, param, code, words", [
    ({"features[payment_method_update][enabled]": "false"}, None, None,
     "Cannot enable subscription updates while payment method update is disabled."),
    ({"business_profile[headline]": "a" * 61}, "business_profile[headline]", None, "must be at most 60 characters"),
    ({"features[subscription_update][enabled]": None}, "features[subscription_update][enabled]", "parameter_missing", ""),
    ({"features[subscription_update][products][0][prices][1]": "price_x"},
     "features[subscription_update][products][0][prices][1]", "resource_missing", "No such price: 'price_x'"),
    ({"features[subscription_update][products][0][prices][1]": "price_4"},
     "features[subscription_update][products][0][prices][1]", None, "does not belong"),
    ({"features[subscription_update][products][0][prices][1]": "price_3"},
     "features[subscription_update][products][0][prices][1]", None, "The price specified is inactive."),
    ({"features[subscription_update][products][0][product]": "prod_x"},
     "features[subscription_update][products][0][product]", "resource_missing", "No such product: 'prod_x'"),
    ({f"features[subscription_update][products][{n}][product]": "prod_1" for n in range(11)} |
     {f"features[subscription_update][products][{n}][prices][0]": "price_1" for n in range(11)},
     "features[subscription_update][products]", None, "at most 10 entries"),
    ({"features[subscription_cancel][cancellation_reason][options][0]": "bored"},
     "features[subscription_cancel][cancellation_reason][options][0]", None, "must be one of customer_service"),
    ({"metadata[" + "k" * 41 + "]": "x"}, "metadata", None, "Metadata keys can have up to 40 characters"),
    ({"metadata[k]": "x" * 501}, "metadata[k]", None, "Metadata values can have up to 500 characters"),
    ({"metadata[k]": "x"} | {f"metadata[k{n}]": "x" for n in range(50)}, "metadata", None, "up to 50 keys"),
])
def test_a_wrong_configuration_is_refused_in_stripes_words(emulator, change, param, code, words):
    form = {name: value for name, value in {**FEATURES, **change}.items() if value is not None}
    emulator.configuration(form).refused(param, code, words=words)
    assert emulator.counters()["configurations_made"] == 0


def test_a_configuration_without_features_is_refused(emulator):
    emulator.configuration({"name": "x"}).refused("features", "parameter_missing")
    emulator.configuration({name: value for name, value in FEATURES.items() if "products" not in name}).refused(
        "features[subscription_update][products]", "parameter_missing")


def test_an_update_changes_what_it_names_and_nothing_else(emulator):
    made = emulator.configuration({**FEATURES, "metadata[a]": "1", "metadata[b]": "2"}).json
    changed = emulator.post(f"{CONFIGURATIONS}/{made['id']}", {
        "metadata[a]": "", "metadata[c]": "3", "business_profile[headline]": "",
        "features[subscription_update][products][0][product]": "prod_1",
        "features[subscription_update][products][0][prices][0]": "price_2",
        "expand[]": "features.subscription_update.products"}).json
    update = changed["features"]["subscription_update"]
    assert [product["prices"] for product in update["products"]] == [["price_2"]]
    assert changed["metadata"] == {"b": "2", "c": "3"}
    assert changed["business_profile"]["headline"] is None
    assert update["default_allowed_updates"] == ["price", "quantity", "promotion_code"]
    assert changed["features"]["subscription_cancel"] == made["features"]["subscription_cancel"]
    assert emulator.post(f"{CONFIGURATIONS}/{made['id']}", {"metadata": ""}).json["metadata"] == {}
    # One that is refused leaves all as it was.
    emulator.post(f"{CONFIGURATIONS}/{made['id']}", {"name": "x", "features[payment_method_update][enabled]": "false"}
                  ).refused(words="Cannot enable subscription updates")
    assert emulator.get(f"{CONFIGURATIONS}/{made['id']}").json["name"] is None
    emulator.post(f"{CONFIGURATIONS}/bpc_x").refused("configuration", "resource_missing", 404)


def test_configurations_are_listed_newest_first_page_by_page(emulator):
    ids = [emulator.configuration({"features[invoice_history][enabled]": "true"}).json["id"] for _ in range(4)]
    newest_first = [*reversed(ids), "bpc_all"]

    def page(**form):
        answer = emulator.get(CONFIGURATIONS, form).json
        assert (answer["object"], answer["url"]) == ("list", CONFIGURATIONS)
        return [item["id"] for item in answer["data"]], answer["has_more"]

    assert page() == (newest_first, False)
    assert page(limit=2) == (newest_first[:2], True)
    assert page(limit=2, starting_after=newest_first[1]) == (newest_first[2:4], True)
    assert page(limit=2, starting_after=newest_first[3]) == (newest_first[4:], False)
    assert page(limit=2, ending_before=newest_first[4]) == (newest_first[2:4], True)
    assert page(ending_before=newest_first[2]) == (newest_first[:2], False)
    emulator.post(f"{CONFIGURATIONS}/{ids[3]}", {"active": "false"})
    assert page(active="true", limit=1) == ([ids[2]], True)
    assert page(active="false") == ([ids[3]], False)
    assert page(is_default="true") == ([], False)


# --- products and prices ---


def test_products_are_found_by_their_id(emulator):
    product = emulator.get("/v1/products/prod_2").json
    assert (product["object"], product["name"], product["active"]) == ("product", "Plus", False)
    emulator.get("/v1/products/prod_x").refused("id", "resource_missing", 404, "No such product: 'prod_x'")
    emulator.data({"products": "any"})
    assert emulator.get("/v1/products/prod_x").json["active"] is True


def test_customers_are_listed_by_name(emulator):
    emulator.data({"customers": {"prefix": "cus_many_", "count": 1000}})
    assert [one["id"] for one in emulator.get("/v1/customers").json["data"]] == ["cus_2", "cus_1"]
    page = emulator.get("/v1/customers", {"limit": 1}).json
    assert (page["data"][0]["object"], page["has_more"]) == ("customer", True)
    assert emulator.get("/v1/customers", {"email": "ada@example.com"}).json["data"] == []
    assert emulator.get("/v1/customers", {"created[lt]": "10"}).json["data"] == []


def test_prices_are_filtered_and_paged(emulator):
    def ids(**form):
        answer = emulator.get("/v1/prices", {name.replace("__", "[") + "]" * ("__" in name): value
                                             for name, value in form.items()}).json
        return [price["id"] for price in answer["data"]]

    assert ids() == ["price_4", "price_3", "price_2", "price_1"]
    assert ids(product="prod_1", active="true") == ["price_2", "price_1"]
    assert ids(product="prod_1", active="true", limit=1, starting_after="price_2") == ["price_1"]
    assert ids(recurring__interval="year") == ["price_2"]
    assert ids(type="one_time") == ["price_3"]
    assert ids(currency="eur") == []
    assert ids(created__lt="10") == [] and len(ids(created__gte="10")) == 4
    emulator.data({"prices": [{"id": "price_1", "lookup_key": "base", "active": False}]})
    assert ids(lookup_keys__0="base") == ["price_1"]
    assert ids(product="prod_1", active="true") == ["price_2"]
    price = emulator.get("/v1/prices", {"limit": 1, "expand[0]": "data.product"}).json["data"][0]
    assert price["product"]["id"] == "prod_2"


# --- idempotency ---


def test_a_key_used_again_gets_the_saved_answer(emulator):
    first = emulator.session(idempotency_key="a")
    again = emulator.session(idempotency_key="a")
    assert (again.status, again.text, again.headers["Idempotent-Replayed"]) == (200, first.text, "true")
    assert again.headers["Original-Request"] == first.headers["Request-Id"] != again.headers["Request-Id"]
    assert emulator.session(idempotency_key="b").json["id"] != first.json["id"]
    counters = emulator.counters()
    assert (counters["sessions_made"], counters["idempotency_keys"], counters["replays"]) == (2, 2, 1)


def test_a_key_is_for_one_endpoint_and_one_set_of_parameters(emulator):
    emulator.session(idempotency_key="a")
    answer = emulator.session({"locale": "de"}, idempotency_key="a")
    assert "can only be used with the same parameters" in answer.refused()
    assert answer.error["type"] == "idempotency_error"
    answer = emulator.configuration(idempotency_key="a")
    assert f"('{CONFIGURATIONS}' vs '{SESSIONS}')" in answer.refused()
    # The order of parameters is no difference, and reading takes no notice of keys.
    swapped = {"configuration": "bpc_all", "customer": "cus_1"}
    assert emulator.post(SESSIONS, swapped, idempotency_key="a").headers["Idempotent-Replayed"] == "true"
    assert emulator.get("/v1/prices", idempotency_key="a").status == 200
    assert "Idempotent-Replayed" not in emulator.get("/v1/prices", idempotency_key="a").headers


def test_refusals_are_saved_only_once_the_endpoint_ran(emulator):
    assert emulator.session({"locale": "xx"}, idempotency_key="a").status == 400
    assert emulator.session(idempotency_key="a").status == 200
    emulator.session({"customer": "cus_3"}, idempotency_key="b").refused("customer", "resource_missing")
    emulator.data({"customers": ["cus_3"]})
    replayed = emulator.session({"customer": "cus_3"}, idempotency_key="b")
    replayed.refused("customer", "resource_missing")
    assert replayed.headers["Idempotent-Replayed"] == "true"


def test_a_key_whose_request_still_runs_is_in_use(emulator):
    emulator.fault(count=1, delay_ms=1500)
    answers = []
    slow = threading.Thread(target=lambda: answers.append(emulator.session(idempotency_key="a")))
    slow.start()
    wait_until(emulator.calls, "the call")
    answer = emulator.session(idempotency_key="a")
    answer.refused(code="idempotency_key_in_use", status=409, words="another in-progress request")
    assert answer.error["type"] == "idempotency_error"
    slow.join()
    assert answers[0].status == 200
    assert emulator.session(idempotency_key="a").text == answers[0].text


def test_work_goes_on_when_the_client_has_gone(emulator):
    emulator.fault(count=1, delay_ms=200)
    with emulator.open_socket() as leaving:
        leaving.sendall(f"POST {SESSIONS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nIdempotency-Key: a\r\n"
                        "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 36\r\n\r\n"
                        "customer=cus_1&configuration=bpc_all".encode())
        wait_until(emulator.calls, "the call")
    wait_until(lambda: emulator.counters()["sessions_made"] == 1, "the session")
    assert emulator.session(idempotency_key="a").headers["Idempotent-Replayed"] == "true"
