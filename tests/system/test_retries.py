"""Calls to Stripe that fail: what is retried, when, under which key, how often, and what is given up."""

import time

import pytest

from bed.emulator import SESSIONS
from bed.outage import check_all_served, prepare, said, send, warm_up
from bed.process import wait_until
from bed.service import REQUESTS


@pytest.fixture
def quick(service):
    """A worker with short time-outs that knows its configuration."""
    prepare(service)
    warm_up(service, STRIPE_ANSWER_TIMEOUT_MS=400, STRIPE_TIMEOUT_MS=1500, STRIPE_MAX_RETRIES=3)
    service.before = len(service.emulator.session_calls())
    return service


def calls_of(service, sent):
    return [call for call in service.emulator.session_calls()
            if (call["idempotency_key"] or "").startswith(f"portal:default:{sent.request_id}:")]


def ask(service, **fields):
    sent = service.request({"team_id": service.some[1], "fresh": True, **fields})
    return sent, service.wait_reply(sent)


FAULTS = {
    "500": {"status": 500, "save": False}, "503": {"status": 503}, "409": {"status": 409},
    "reset_before": {"reset": "before"}, "reset_after": {"reset": "after"}, "half_body": {"half_body": True},
    "hang": {"hang": True}, "hang_with_effect": {"hang": True, "effect": "before"},
    "slower_than_the_time_out": {"delay_ms": 3000},
    "400_that_should_be_retried": {"status": 400, "should_retry": "true", "save": False},
}


@pytest.mark.refused  # while the first call is still being worked its key is in use
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_passing_fault_is_retried_under_the_same_key(quick, fault):
    quick.emulator.fault(SESSIONS, count=1, **fault)
    sent, reply = ask(quick)
    assert reply["outcome"] == "created"
    calls = calls_of(quick, sent)
    assert len(calls) >= 2 and len({call["idempotency_key"] for call in calls}) == 1
    quick.emulator.clear_faults()
    made = {call["effect"] for call in calls_of(quick, sent) if call["effect"]}
    assert made == {reply["session"]["id"]}, "one session is made for the key, and that one is handed out"
    assert quick.dead_letters() == []


@pytest.mark.refused
def test_stripe_should_retry_false_wins_over_the_status(quick):
    quick.emulator.fault(SESSIONS, count=1, status=503, should_retry="false")
    sent, reply = ask(quick)
    assert (reply["outcome"], reply["error"]["code"]) == ("failed", "stripe_error")
    assert len(calls_of(quick, sent)) == 1


@pytest.mark.parametrize("status", [429, 503, 409])
def test_retry_after_is_waited_for(quick, status):
    quick.emulator.fault(SESSIONS, count=1, status=status, retry_after="2")
    sent, reply = ask(quick)
    first, second = calls_of(quick, sent)
    print(f"{second['time'] - first['time']:.2f} s between the calls")
    assert reply["outcome"] == "created" and 1.9 < second["time"] - first["time"] < 5


@pytest.mark.slow
def test_backoff_grows_and_differs(quick):
    """Full jitter: each wait is at most twice as long as the one before could be, and none is like another's."""
    quick.emulator.fault(SESSIONS, match={"customer": "cus_many_2"}, status=500, save=False)
    sent = [quick.request({"team_id": quick.some[1], "fresh": True}) for _ in range(8)]
    keep_asking(quick, lambda: all(quick.replies_to(one) for one in sent))
    waits = []
    for one in sent:
        times = [call["time"] for call in calls_of(quick, one)]
        waits += [(n, after - before) for n, (before, after) in enumerate(zip(times, times[1:]))]
    assert len(waits) >= 20
    assert all(wait < 0.5 * 2**n + 0.5 for n, wait in waits), waits
    assert len({round(wait, 3) for _, wait in waits}) > len(waits) / 2


def test_saved_failures_are_walked_past_key_by_key(quick):
    for number in range(3):
        quick.emulator.fault(SESSIONS, count=1, match={"key_contains": f":1:{number}"}, status=500, save=True)
    sent, reply = ask(quick)
    assert reply["outcome"] == "created"
    calls = calls_of(quick, sent)
    keys = [call["idempotency_key"].rpartition(":")[2] for call in calls]
    assert sorted(set(keys)) == ["0", "1", "2", "3"] and keys == sorted(keys)
    assert [call["replayed"] for call in calls].count(True) == 3, "each key is left once its failure was replayed"


def test_another_worker_walks_the_same_keys_to_the_same_session(quick):
    """The answer was lost with the worker: the next one finds the session under the key."""
    quick.emulator.fault(SESSIONS, count=1, match={"key_contains": ":1:0"}, status=500, save=True)
    quick.emulator.fault(SESSIONS, count=1, match={"key_contains": ":1:1"}, hang=True, effect="before")
    sent = quick.request({"team_id": quick.some[1], "fresh": True})
    wait_until(lambda: any(call["effect"] for call in calls_of(quick, sent)), "the session to be made")
    quick.worker.kill()
    quick.start_worker()
    reply = quick.wait_reply(sent, 60)
    assert {call["effect"] for call in calls_of(quick, sent) if call["effect"]} == {reply["session"]["id"]}
    assert quick.emulator.counters()["sessions_made"] == 2


def keep_asking(service, until):
    """Requests of others, for as long as it takes."""
    sent = []
    while not until():
        sent += send(service, 2, service.some[5:], bulk=False)
        service.poll(0.1)
    return sent


def test_retries_are_spent_only_while_stripe_serves_others(quick):
    quick.emulator.fault(SESSIONS, match={"customer": "cus_many_2"}, status=500, save=False)
    sent = quick.request({"team_id": quick.some[1], "fresh": True})
    others = keep_asking(quick, lambda: quick.replies_to(sent))
    reply = quick.wait_reply(sent)
    assert (reply["outcome"], reply["status"], reply["error"]["code"]) == ("failed", 503, "stripe_unavailable")
    assert reply["error"]["retryable"] is True
    calls = calls_of(quick, sent)
    assert 4 <= len(calls) <= 20, "STRIPE_MAX_RETRIES is 3, and only failures between which others were served count"
    [letter] = quick.wait_dead_letters()
    assert letter.headers["x-portal-reason"] == "stripe_unavailable" and letter.raw == sent.body
    assert letter.headers["x-portal-attempts"] == len(calls)
    assert {one["outcome"] for one in quick.wait_replies(others)} == {"created"}
    quick.wait_empty(REQUESTS)


@pytest.mark.slow
def test_a_request_that_always_fails_alone_is_not_given_up_and_keeps_nobody_waiting(quick):
    quick.emulator.fault(SESSIONS, match={"customer": "cus_many_2"}, status=500, save=False)
    sent = quick.request({"team_id": quick.some[1], "fresh": True})
    wait_until(lambda: len(calls_of(quick, sent)) > 4, "more failures than STRIPE_MAX_RETRIES", 60)
    assert quick.replies_to(sent) == [] and quick.dead_letters() == []
    began = time.monotonic()
    other = quick.request({"team_id": quick.some[2], "fresh": True})
    assert quick.wait_reply(other)["outcome"] == "created"
    print(f"another request was answered after {time.monotonic() - began:.2f} s")
    assert time.monotonic() - began < 6
    assert len(said(quick.worker, "waiting for Stripe")) <= 2
    quick.emulator.clear_faults()
    assert quick.wait_reply(sent, 60)["outcome"] == "created"


def test_calls_that_hang_take_no_slot_for_good(quick):
    """More hang than there are slots; the rest is served once they are timed out."""
    quick.emulator.fault(SESSIONS, count=150, hang=True)
    sent = send(quick, 300, quick.some)
    check_all_served(quick, sent, 60)
    quick.emulator.clear_faults()
