"""A request that nobody waits for any more is told so, and no session is made or handed out for it."""

import datetime
import time

import pytest

from bed.emulator import CONFIGURATIONS, SESSIONS
from bed.outage import prepare, send, wait_intake_closed, waiting, warm_up
from bed.process import wait_until
from bed.service import REQUESTS


def after(seconds):
    return (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)).isoformat()


@pytest.fixture
def serving(service):
    prepare(service)
    warm_up(service, PORTAL_CONCURRENCY=32)
    return service


def check_exceeded(reply):
    assert (reply["outcome"], reply["status"], reply["error"]["code"]) == ("failed", 504, "deadline_exceeded")
    assert reply["session"] is None


def check_not_handed_out(service, sent):
    """Neither in a reply nor in the store."""
    check_exceeded(service.wait_reply(sent))
    row = service.session(sent.request_id)
    assert (row["code"], row["url"], row["session_id"]) == ("deadline_exceeded", None, None)
    service.wait_empty(REQUESTS)
    assert service.dead_letters() == []


def test_in_hand_it_is_answered_at_its_deadline(serving):
    serving.emulator.fault(SESSIONS, hang=True, match={"customer": "cus_many_2"})
    began = time.monotonic()
    sent = serving.request({"team_id": serving.some[1], "fresh": True, "deadline": after(2)})
    serving.wait_reply(sent)
    print(f"answered {time.monotonic() - began:.2f} s after it was sent")
    assert 1.9 < time.monotonic() - began < 6
    serving.emulator.clear_faults()
    check_not_handed_out(serving, sent)


def test_waiting_for_a_configuration_it_is_answered_at_its_deadline(service):
    service.emulator.product()
    service.emulator.fault(CONFIGURATIONS, hang=True)
    team = service.team()
    service.start_worker()
    check_exceeded(service.ask({"team_id": team, "deadline": after(2)}, seconds=5))
    service.emulator.clear_faults()
    assert service.ask({"team_id": team})["outcome"] == "created"


def test_who_follows_another_call_goes_at_its_own_deadline(serving):
    """Requests of one shape share a call; the first of them and one that follows leave, the rest get the session."""
    serving.emulator.fault(SESSIONS, count=2, delay_ms=4000)
    shape = {"team_id": serving.some[1]}
    first = serving.request({**shape, "deadline": after(1)})
    follower = serving.request({**shape, "deadline": after(1.5)})
    patient = [serving.request(shape) for _ in range(3)]
    check_exceeded(serving.wait_reply(first))
    check_exceeded(serving.wait_reply(follower))
    replies = serving.wait_replies(patient)
    assert sorted(reply["outcome"] for reply in replies) == ["created", "reused", "reused"]
    assert len({reply["session"]["id"] for reply in replies}) == 1


def test_during_an_outage_of_stripe_it_is_answered_at_its_deadline(serving):
    serving.emulator.kill()
    began = time.monotonic()
    sent = send(serving, 20, serving.some, deadline=after(5))
    for reply in serving.wait_replies(sent, 15):
        check_exceeded(reply)
    assert time.monotonic() - began > 4.9
    serving.emulator.start()
    assert serving.ask({"team_id": serving.some[1], "fresh": True})["outcome"] == "created"
    assert serving.emulator.counters()["sessions_made"] == 1


def test_what_is_still_queued_is_answered_when_the_intake_resumes(serving):
    serving.emulator.kill()
    held = send(serving, 32, serving.some)
    wait_intake_closed(serving)
    queued = send(serving, 20, serving.some, deadline=after(1))
    wait_until(lambda: waiting(serving)[0] >= 20, "them to be queued")
    time.sleep(1.5)
    assert not any(serving.replies_to(one) for one in queued)
    serving.emulator.start()
    for reply in serving.wait_replies(queued):
        check_exceeded(reply)
    assert {reply["outcome"] for reply in serving.wait_replies(held)} == {"created"}
    assert serving.emulator.counters()["sessions_made"] == 32


def test_a_session_that_could_not_be_saved_in_time_is_not_handed_out(serving):
    """Stripe makes it, then PostgreSQL is away beyond the deadline."""
    serving.emulator.fault(SESSIONS, count=1, delay_ms=500)
    sent = serving.request({"team_id": serving.some[1], "fresh": True, "deadline": after(2.5)})
    wait_until(lambda: len(serving.emulator.session_calls()) == 2, "the call")
    serving.bed.postgres.freeze()
    try:
        wait_until(lambda: len([call for call in serving.emulator.session_calls() if call["effect"]]) == 2,
                   "the session to be made")
        time.sleep(3)
    finally:
        serving.bed.postgres.kill()
    serving.bed.postgres.start()
    serving.bed.postgres.wait_ready()
    serving.reconnect()
    check_not_handed_out(serving, sent)


def test_a_request_that_is_answered_already_is_answered_again_after_its_deadline(serving):
    fields = {"request_id": "answered", "team_id": serving.some[1], "deadline": after(1)}
    first = serving.ask(fields)
    assert first["outcome"] == "created"
    time.sleep(1.2)
    assert serving.ask(fields)["session"]["id"] == first["session"]["id"], "the stored answer comes before the deadline"


def test_the_default_counts_from_the_senders_timestamp(service):
    service.emulator.product()
    team = service.team()
    service.start_worker(PORTAL_DEADLINE_SECONDS=60)
    check_exceeded(service.ask({"team_id": team}, timestamp=int(time.time()) - 61))
    assert service.ask({"team_id": team}, timestamp=int(time.time()) - 50)["outcome"] == "created"
    assert service.ask({"team_id": team})["outcome"] == "reused", "without a timestamp from its arrival on"


def test_none_at_all_where_the_setting_says_so(service):
    service.emulator.product()
    service.start_worker(PORTAL_DEADLINE_SECONDS=0)
    assert service.ask({"team_id": service.team()}, timestamp=1)["outcome"] == "created"


@pytest.mark.parametrize("header,body,exceeded", [("none", after(-60), False), (after(3600), after(-60), False),
                                                  (after(-60), after(3600), True)],
                         ids=["none", "later", "earlier"])
def test_the_header_wins_over_the_body(serving, header, body, exceeded):
    reply = serving.ask({"team_id": serving.some[1], "fresh": True, "deadline": body},
                        headers={"x-portal-deadline": header})
    if exceeded:
        check_exceeded(reply)
    else:
        assert reply["outcome"] == "created"


def test_a_deadline_that_was_missed_is_worked_anew_with_the_next_generation(serving):
    fields = {"request_id": "replayed", "team_id": serving.some[1], "deadline": after(-60)}
    check_exceeded(serving.ask(fields))
    again = serving.ask(fields, headers={"x-portal-deadline": "none", "x-portal-generation": 2})
    assert (again["outcome"], again["generation"]) == ("created", 2)
