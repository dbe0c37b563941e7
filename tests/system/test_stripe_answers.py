"""Answers of Stripe's that are not what its API promises, and those that are but fail: the worker copes with all."""

import time

import pytest

from bed.emulator import CONFIGURATIONS, PRICES, PRODUCTS, SESSIONS
from bed.outage import said

SESSION = {"id": "bps_1", "object": "billing_portal.session", "customer": "cus_ada", "configuration": "bpc_1",
           "livemode": False, "return_url": "https://app.example.com/dashboard",
           "url": "https://billing.stripe.com/p/session/x"}


def session(**fields):
    """One that was made just now, but for these fields; `...` takes one away."""
    fields = {**SESSION, "created": int(time.time()), **fields}
    return {name: value for name, value in fields.items() if value is not ...}


# What a call for a session is answered with, once, and what the log says of it.
BROKEN_SESSIONS = {
    "an_array": ([], "without a JSON object"),
    "a_text": ("yes", "without a JSON object"),
    "an_empty_object": ({}, "no id"),
    "another_object": ({"id": "in_1", "object": "invoice"}, "no https url"),
}
CHANGED_SESSIONS = {
    "no_id": ({"id": ...}, "no id"),
    "a_number_as_id": ({"id": 7}, "no id"),
    "an_endless_id": ({"id": "bps_" + "x" * 100_000}, "no id"),
    "no_url": ({"url": ...}, "no https url"),
    "url_null": ({"url": None}, "no https url"),
    "url_empty": ({"url": ""}, "no https url"),
    "url_of_another_kind": ({"url": "javascript:alert(1)"}, "no https url"),
    "another_customer": ({"customer": "cus_somebody_else"}, "not the customer's"),
    "configuration_missing": ({"configuration": ...}, "no return_url, configuration or created"),
    "created_missing": ({"created": ...}, "no return_url, configuration or created"),
    "created_a_text": ({"created": "today"}, "no return_url, configuration or created"),
    "created_long_ago": ({"created": 1_700_000_000}, "created too long ago"),
}


@pytest.fixture
def ready(service):
    service.emulator.product()
    service.start_worker()
    return service


def check_not_handed_out(service, answer, words):
    service.emulator.fault(SESSIONS, count=1, json=answer)
    reply = service.ask({"team_id": service.team(customer="cus_ada")})
    assert reply["outcome"] == "created"
    calls = service.emulator.session_calls()
    assert len(calls) == 2 and len({call["idempotency_key"] for call in calls}) == 1
    assert reply["session"]["id"] == calls[1]["effect"], "what is handed out is the real session"
    assert said(service.workers[0], f"not what its API promises: .*{words}")


@pytest.mark.parametrize("answer, words", BROKEN_SESSIONS.values(), ids=BROKEN_SESSIONS)
def test_what_is_no_session_is_not_handed_out(ready, answer, words):
    check_not_handed_out(ready, answer, words)


@pytest.mark.parametrize("fields, words", CHANGED_SESSIONS.values(), ids=CHANGED_SESSIONS)
def test_a_session_that_is_not_as_promised_is_not_handed_out(ready, fields, words):
    check_not_handed_out(ready, session(**fields), words)


def test_the_same_session_unchanged_is_handed_out(ready):
    """The cases above fail for nothing else."""
    ready.emulator.fault(SESSIONS, count=1, json=session())
    assert ready.ask({"team_id": ready.team(customer="cus_ada")})["session"]["id"] == SESSION["id"]


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
