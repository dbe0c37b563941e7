"""A request by team becomes a portal session, as the reference's createCustomerPortalSession makes it."""

import time

import pytest

from bed.emulator import CONFIGURATIONS, PRICES, PRODUCTS, SESSIONS
from bed.service import BASE_URL, REQUESTS

# What the reference gives to stripe.billingPortal.configurations.create, as a form; the prices come with each test.
REFERENCE = {
    "business_profile[headline]": "Manage your subscription",
    "features[subscription_update][enabled]": "true",
    "features[subscription_update][default_allowed_updates][0]": "price",
    "features[subscription_update][default_allowed_updates][1]": "quantity",
    "features[subscription_update][default_allowed_updates][2]": "promotion_code",
    "features[subscription_update][proration_behavior]": "create_prorations",
    "features[subscription_cancel][enabled]": "true",
    "features[subscription_cancel][mode]": "at_period_end",
    "features[subscription_cancel][cancellation_reason][enabled]": "true",
    "features[subscription_cancel][cancellation_reason][options][0]": "too_expensive",
    "features[subscription_cancel][cancellation_reason][options][1]": "missing_features",
    "features[subscription_cancel][cancellation_reason][options][2]": "switched_service",
    "features[subscription_cancel][cancellation_reason][options][3]": "unused",
    "features[subscription_cancel][cancellation_reason][options][4]": "other",
    "features[payment_method_update][enabled]": "true",
}


def features_with(product, prices):
    form = {**REFERENCE, "features[subscription_update][products][0][product]": product}
    form.update({f"features[subscription_update][products][0][prices][{n}]": price for n, price in enumerate(prices)})
    return form


def test_a_request_becomes_a_session_a_row_and_a_reply(service):
    service.emulator.product()
    team = service.team(customer="cus_ada")
    service.start_worker()
    sent = service.request({"team_id": team}, headers={"traceparent": "00-ab-cd-01", "tracestate": "a=b"})
    reply = service.wait_reply(sent)

    [call] = service.emulator.session_calls()
    [configuration] = service.emulator.made_configurations()
    assert reply.body == {
        "request_id": sent.request_id, "generation": 1, "outcome": "created", "status": 200,
        "session": {"id": call["effect"], "url": reply["session"]["url"], "customer": "cus_ada",
                    "return_url": f"{BASE_URL}/dashboard", "configuration": configuration["effect"],
                    "created": reply["session"]["created"], "expires_at": reply["session"]["created"] + 300},
        "redirect": None, "error": None}
    assert reply["session"]["url"].startswith(service.emulator.url)
    assert abs(reply["session"]["created"] - time.time()) < 60

    assert reply.properties.correlation_id == sent.correlation_id
    assert reply.properties.content_type == "application/json"
    assert reply.properties.delivery_mode == 2
    assert 0 < int(reply.properties.expiration) <= 300_000, "a reply with a URL expires when the URL does"
    assert reply.headers.get("traceparent") == "00-ab-cd-01"
    assert reply.headers.get("tracestate") == "a=b"

    [row] = service.sessions()
    assert row["request_id"] == sent.request_id
    assert (row["outcome"], row["generation"], row["team_id"]) == ("created", 1, team)
    assert (row["session_id"], row["url"]) == (call["effect"], reply["session"]["url"])
    assert (row["customer"], row["configuration"]) == ("cus_ada", configuration["effect"])
    assert row["url"] not in row["answer"]
    service.wait_empty(REQUESTS)


def test_the_session_is_asked_for_as_the_reference_asks(service):
    service.emulator.product()
    service.start_worker()
    sent = service.request({"team_id": service.team(customer="cus_ada")})
    reply = service.wait_reply(sent)
    [call] = service.emulator.session_calls()
    assert (call["method"], call["path"]) == ("POST", SESSIONS)
    assert call["parameters"] == {"customer": "cus_ada", "return_url": f"{BASE_URL}/dashboard",
                                  "configuration": reply["session"]["configuration"]}
    assert call["idempotency_key"] == f"portal:default:{sent.request_id}:1:0"


def test_the_message_id_serves_as_request_id(service):
    service.emulator.product()
    service.start_worker()
    reply = service.ask({"request_id": None, "team_id": service.team()}, message_id="message-7")
    assert (reply["request_id"], reply["outcome"]) == ("message-7", "created")


@pytest.mark.parametrize("missing", ["stripe_customer_id", "stripe_product_id"])
@pytest.mark.parametrize("value", [None, ""])
def test_a_team_without_customer_or_product_is_sent_to_the_prices(service, missing, value):
    team = service.team()
    service.query(f"UPDATE teams SET {missing} = %s WHERE id = %s", [value, team])
    service.start_worker()
    reply = service.ask({"team_id": team})
    assert (reply["outcome"], reply["status"], reply["session"], reply["error"]) == ("redirect", 303, None, None)
    assert reply["redirect"] == {"path": "/pricing", "url": f"{BASE_URL}/pricing", "code": "no_subscription"}
    assert service.emulator.session_calls() == []
    assert [(row["outcome"], row["code"]) for row in service.sessions()] == [("redirect", "no_subscription")]


def test_an_unknown_team_is_not_found(service):
    service.start_worker()
    reply = service.ask({"team_id": 2_000_000_000})
    assert (reply["outcome"], reply["status"], reply["session"], reply["redirect"]) == ("failed", 404, None, None)
    assert reply["error"] == {"code": "team_not_found", "message": "Team not found", "retryable": False,
                              "stripe_request_id": None}
    assert service.emulator.session_calls() == []


def test_the_first_active_configuration_is_used(service):
    service.emulator.data({"configurations": [{"id": "bpc_old", "active": False}, {"id": "bpc_second"}]})
    service.emulator.data({"configurations": [{"id": "bpc_newest"}]})
    service.start_worker()
    reply = service.ask({"team_id": service.team()})
    listed = service.emulator.calls(CONFIGURATIONS, "GET")
    assert [call["parameters"] for call in listed] == [{"active": "true", "limit": "100"}]
    assert reply["session"]["configuration"] == "bpc_newest", "Stripe lists the newest first"
    assert service.emulator.made_configurations() == []
    assert service.emulator.calls(PRODUCTS) == [] and service.emulator.calls(PRICES) == []


def test_a_new_configuration_equals_the_references(service):
    prices = service.emulator.product("prod_plus", prices=3, inactive_prices=2)
    service.emulator.product("prod_other", prices=2)
    service.start_worker()
    service.ask({"team_id": service.team(product="prod_plus")})
    [call] = service.emulator.made_configurations()
    assert call["parameters"] == features_with("prod_plus", prices[::-1]), "prices as Stripe lists them: newest first"
    assert [found["path"] for found in service.emulator.calls(PRODUCTS)] == [f"{PRODUCTS}prod_plus"]


def test_all_pages_of_prices_are_read(service):
    prices = service.emulator.product("prod_many", prices=250)
    service.start_worker()
    service.ask({"team_id": service.team(product="prod_many")})
    pages = service.emulator.calls(PRICES)
    assert len(pages) == 3
    assert all(page["parameters"]["product"] == "prod_many" and page["parameters"]["active"] == "true"
               for page in pages)
    [configuration] = service.emulator.configurations()
    [offered] = configuration["features"]["subscription_update"]["products"]
    used = offered["prices"]
    assert sorted(used) == sorted(prices) and len(set(used)) == 250


@pytest.mark.parametrize("product, code, message", [
    ({"active": False}, "product_inactive", "Team's product is not active in Stripe"),
    ({"prices": 0, "inactive_prices": 3}, "no_active_prices", "No active prices found for the team's product"),
])
def test_a_product_that_can_not_be_offered_fails_only_its_own_request(service, product, code, message):
    service.emulator.product("prod_bad", **product)
    service.emulator.product("prod_good")
    service.start_worker()
    reply = service.ask({"team_id": service.team(product="prod_bad")})
    assert (reply["outcome"], reply["status"]) == ("failed", 500)
    assert (reply["error"]["code"], reply["error"]["message"]) == (code, message)
    assert service.emulator.made_configurations() == [] and service.emulator.session_calls() == []
    assert service.ask({"team_id": service.team(product="prod_good")})["outcome"] == "created"


def test_a_configuration_is_made_once_and_used_by_all_teams_and_after_a_restart(service):
    service.emulator.product("prod_a")
    service.emulator.product("prod_b")
    service.start_worker()
    replies = [service.ask({"team_id": service.team(product=product)}) for product in ("prod_a", "prod_b", "prod_a")]
    assert service.workers[0].stop() == 0
    service.start_worker()
    replies.append(service.ask({"team_id": service.team(product="prod_b")}))
    [made] = service.emulator.made_configurations()
    assert {reply["session"]["configuration"] for reply in replies} == {made["effect"]}


def test_four_workers_that_start_cold_make_one_configuration(service):
    service.emulator.product()
    teams = service.teams(40)
    service.declare()
    sent = [service.request({"team_id": team}) for team in teams]
    # A prefetch of 10 spreads the requests over all four.
    workers = [service.start_worker(ready=False, PORTAL_CONCURRENCY=10) for _ in range(4)]
    replies = service.wait_replies(sent)
    for worker in workers:
        worker.wait_ready()
    [made] = service.emulator.made_configurations()
    assert {(reply["outcome"], reply["session"]["configuration"]) for reply in replies} == {("created", made["effect"])}


def test_the_same_request_again_is_answered_from_its_row(service):
    service.emulator.product()
    team = service.team()
    service.start_worker()
    first = service.ask({"request_id": "again", "team_id": team})
    second = service.ask({"request_id": "again", "team_id": team})
    assert second.body == first.body
    assert len(service.emulator.session_calls()) == 1 and len(service.sessions()) == 1


def test_another_ask_under_the_same_id_is_a_conflict_and_sees_no_url(service):
    service.emulator.product()
    mine, yours = service.team(), service.team()
    service.start_worker()
    first = service.ask({"request_id": "taken", "team_id": mine})
    reply = service.ask({"request_id": "taken", "team_id": yours})
    assert (reply["outcome"], reply["status"], reply["error"]["code"]) == ("failed", 409, "request_conflict")
    assert reply["generation"] is None and reply["session"] is None
    assert first["session"]["id"] not in reply.raw.decode()
    assert service.session("taken")["team_id"] == mine


def test_replies_go_to_the_default_queue_where_the_sender_names_none(service):
    service.emulator.product()
    service.start_worker()
    sent = service.request({"team_id": service.team()}, reply_to=None)
    service.wait_empty(REQUESTS)
    [reply] = service.take("portal.replies")
    assert (reply["request_id"], reply["outcome"]) == (sent.request_id, "created")


def test_the_queues_are_declared_as_the_contract_says(service):
    service.start_worker()
    service.declare()
    declared = service.bed.rabbitmq.queue_arguments(service.name)
    assert declared["portal.requests"] == {
        "x-queue-type": "quorum", "x-overflow": "reject-publish", "x-dead-letter-strategy": "at-least-once",
        "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "portal.dead"}
    assert declared["portal.dead"] == {"x-queue-type": "quorum"}
    assert declared["portal.replies"] == {
        "x-queue-type": "quorum", "x-message-ttl": 3_600_000, "x-overflow": "reject-publish",
        "x-max-length": declared["portal.replies"]["x-max-length"]}
