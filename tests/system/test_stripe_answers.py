"""Answers of Stripe's that are not what its API promises, and those that are but fail: the worker copes with all."""

import pytest

from bed.emulator import CONFIGURATIONS, PRICES, PRODUCTS, SESSIONS

SESSION = {"id": "bps_1", "object": "billing_portal.session", "created": 1_700_000_000, "customer": "cus_ada",
           "configuration": "bpc_1", "livemode": False, "return_url": "https://app.example.com/dashboard",
           "url": "https://billing.stripe.com/p/session/x"}


def changed(**fields):
    return {name: value for name, value in {**SESSION, **fields}.items() if value is not ...}


# What a call for a session is answered with, once.
BROKEN_SESSIONS = {
    "an_array": [],
    "a_text": "yes",
    "an_empty_object": {},
    "another_object": {"id": "in_1", "object": "invoice"},
    "no_id": changed(id=...),
    "a_number_as_id": changed(id=7),
    "no_url": changed(url=...),
    "url_null": changed(url=None),
    "url_empty": changed(url=""),
    "url_of_another_kind": changed(url="javascript:alert(1)"),
    "another_customer": changed(customer="cus_somebody_else"),
    "created_missing": changed(created=...),
    "created_a_text": changed(created="today"),
    "an_endless_id": changed(id="bps_" + "x" * 100_000),
}


@pytest.fixture
def ready(service):
    service.emulator.product()
    service.start_worker()
    return service


@pytest.mark.parametrize("answer", BROKEN_SESSIONS.values(), ids=BROKEN_SESSIONS)
def test_a_session_that_is_none_is_not_handed_out(ready, answer):
    ready.emulator.fault(SESSIONS, count=1, json=answer)
    reply = ready.ask({"team_id": ready.team(customer="cus_ada")})
    assert reply["outcome"] == "created"
    calls = ready.emulator.session_calls()
    assert len(calls) == 2 and len({call["idempotency_key"] for call in calls}) == 1
    assert reply["session"]["id"] == calls[1]["effect"], "what is handed out is the real session"
    assert "Stripe" in ready.workers[0].text(), "the log says what was wrong"


@pytest.mark.parametrize("fault", [
    {"not_json": True}, {"half_body": True}, {"reset": "before"}, {"reset": "after"},
    {"status": 500}, {"status": 503}, {"status": 409}, {"status": 429}, {"status": 429, "retry_after": "1"},
], ids=lambda fault: "_".join(f"{name}_{value}" for name, value in fault.items()))
@pytest.mark.parametrize("path", [SESSIONS, CONFIGURATIONS, PRICES, PRODUCTS],
                         ids=["session", "configuration", "prices", "product"])
def test_a_passing_fault_is_retried_and_makes_nothing_twice(ready, path, fault):
    ready.emulator.fault(path, count=2, **fault)
    reply = ready.ask({"team_id": ready.team()})
    assert reply["outcome"] == "created"
    assert ready.emulator.counters()["sessions_made"] == 1
    assert len(ready.emulator.made_configurations()) == 1


def test_what_stripe_refuses_for_good_is_told_in_its_own_words(ready):
    ready.emulator.data({"configurations": [{"id": "bpc_here"}]})
    ready.emulator.fault(SESSIONS, status=400, body={"error": {
        "type": "invalid_request_error", "code": "resource_missing", "param": "customer",
        "message": "No such customer: 'cus_gone'"}})
    reply = ready.ask({"team_id": ready.team(customer="cus_gone")})
    assert (reply["outcome"], reply["status"], reply["error"]["code"]) == ("failed", 500, "stripe_error")
    for word in ("invalid_request_error", "resource_missing", "customer", "No such customer: 'cus_gone'"):
        assert word in reply["error"]["message"]
    [call] = ready.emulator.session_calls()
    assert reply["error"]["stripe_request_id"] == call["request_id"]


def test_a_list_that_never_ends_does_not_hang_the_worker(ready):
    endless = {"object": "list", "url": "/v1/prices", "has_more": True,
               "data": [{"id": "price_prod_base_1", "object": "price", "product": "prod_base", "active": True}]}
    ready.emulator.fault(PRICES, count=3, json=endless)
    assert ready.ask({"team_id": ready.team()})["outcome"] == "created"


def test_a_saved_failure_is_left_behind_with_the_next_key(ready):
    ready.emulator.fault(SESSIONS, count=1, status=500, save=True)
    sent = ready.request({"team_id": ready.team()})
    assert ready.wait_reply(sent)["outcome"] == "created"
    keys = [call["idempotency_key"] for call in ready.emulator.session_calls()]
    assert keys[0] == f"portal:default:{sent.request_id}:1:0"
    assert keys[-1] == f"portal:default:{sent.request_id}:1:1"
