"""What nobody can serve is put into portal.dead, once each, with the reason; and delays nobody."""

import collections
import time

import pytest
from test_bad_input import MALFORMED, text

from bed.outage import said, wait_queues
from bed.process import SANITIZED
from bed.service import REQUESTS

GOOD = {"user_id": "sender"}  # the AMQP login that may ask for any team

# By name: body, properties, reason. What is malformed is so in itself; the rest in what comes with it.
KINDS = {f"malformed_{name}": (body, {}, "invalid_request") for name, body, _ in MALFORMED}
KINDS |= {
    "reply_to_the_requests": (text(team_id=1), {"reply_to": "portal.requests"}, "reply_refused"),
    "reply_to_the_dead": (text(team_id=1), {"reply_to": "portal.dead"}, "reply_refused"),
    "reply_to_somebody_else": (text(team_id=1), {"reply_to": "somebody.elses"}, "reply_refused"),
    "reply_to_nothing_like_it": (text(team_id=1), {"reply_to": "portal.repliesx"}, "reply_refused"),
    "malformed_with_reply_refused": (b"?", {"reply_to": "portal.dead"}, "reply_refused"),
    "sender_unknown": (text(team_id=1), {"user_id": None}, "forbidden_sender"),
    "generation_zero": (text(team_id=1), {"headers": {"x-portal-generation": 0}}, "invalid_request"),
    "generation_a_text": (text(team_id=1), {"headers": {"x-portal-generation": "two"}}, "invalid_request"),
    "generation_huge": (text(team_id=1), {"headers": {"x-portal-generation": 2**40}}, "invalid_request"),
    "deadline_no_time": (text(team_id=1), {"headers": {"x-portal-deadline": "soon"}}, "invalid_request"),
    "deadline_a_number": (text(team_id=1), {"headers": {"x-portal-deadline": 7}}, "invalid_request"),
    "headers_too_large": (text(team_id=1), {"headers": {"x": "y" * 17000}}, "rejected"),
    "body_too_large": (b'{"request_id": "bad", "team_id": 1, "padding": "' + b"x" * 17000 + b'"}', {}, "rejected"),
    "user_id_twice": (b'{"request_id": "bad", "user_id": 1, "user_id": 1}', {}, "invalid_request"),
    "locale_unknown": (text(team_id=1, locale="xx-XX"), {}, "invalid_request"),
    "configuration_of_another_kind": (text(team_id=1, configuration="sub_1"), {}, "invalid_request"),
    "flow_unknown": (text(team_id=1, flow={"type": "subscription_pause"}), {}, "invalid_request"),
}
assert len(KINDS) >= 50


def reason_of(letter):
    """The worker's, or where the broker itself put it aside the broker's."""
    return letter.headers.get("x-portal-reason") or letter.headers["x-death"][0]["reason"]


def send_mixed(service, garbage_each, good_count):
    """Garbage of every kind by turns, and good requests evenly between."""
    garbage, good = {}, []
    total = garbage_each * len(KINDS)
    number = 0
    for _ in range(garbage_each):
        for name, (body, properties, _) in KINDS.items():
            if number * good_count // total > len(good) - 1 and len(good) < good_count:
                good.append(service.request({"team_id": service.some[number % 20], "fresh": True}, bulk=True, **GOOD))
            sent = service.request(raw=body, bulk=True, correlation_id=f"{name}/{number}", **{**GOOD, **properties})
            garbage[sent.correlation_id] = name
            number += 1
    while len(good) < good_count:
        good.append(service.request({"team_id": service.some[0], "fresh": True}, bulk=True, **GOOD))
    return garbage, good


@pytest.mark.parametrize("garbage_each,good_count", [
    (6, 100), pytest.param(-(-10_000 // len(KINDS)), 1000, marks=pytest.mark.slow)], ids=["short", "10000"])
def test_garbage_of_fifty_kinds_between_good_requests(service, garbage_each, good_count):
    service.emulator.product()
    service.some = service.teams(20)
    service.declare()
    garbage, good = send_mixed(service, garbage_each, good_count)
    print(f"{len(garbage)} messages of garbage of {len(KINDS)} kinds, {len(good)} good ones")
    began = time.monotonic()
    worker = service.start_worker(PORTAL_TEAM_SENDERS="sender")
    assert {reply["outcome"] for reply in service.wait_replies(good, 120)} == {"created"}
    service.wait_empty(REQUESTS, 120)
    print(f"all done in {time.monotonic() - began:.1f} s, {worker.peak_memory():.1f} MiB at most")

    letters = service.wait_dead_letters(len(garbage), 120)
    times = collections.Counter(letter.properties.correlation_id for letter in letters)
    assert times == dict.fromkeys(garbage, 1), "each is there once, and nothing else"
    for letter in letters:
        body, _, reason = KINDS[garbage[letter.properties.correlation_id]]
        assert (letter.raw, reason_of(letter)) == (body, reason), garbage[letter.properties.correlation_id]

    answered = collections.Counter(reply.properties.correlation_id for reply in service.replies)
    refused = {name for name, (_, _, reason) in KINDS.items() if reason == "reply_refused"}
    assert {one for one in garbage if one not in answered} == {one for one, name in garbage.items() if name in refused}
    assert set(answered.values()) == {1}
    assert SANITIZED or worker.peak_memory() < 32
    assert worker.alive() and not said(worker, "waiting for Stripe")


def test_a_letter_that_portal_dead_does_not_take_stays_owed(service):
    """portal.dead is gone and may not be made: nothing is acknowledged until it is back."""
    service.emulator.product()
    team = service.team()
    service.start_worker()
    assert service.ask({"team_id": team})["outcome"] == "created"
    service.channel.queue_delete("portal.dead")
    rabbitmq = service.bed.rabbitmq
    rabbitmq.set_permissions(service.name, "portal", configure="nothing")
    try:
        sent = service.request(raw=b"?", message_id="owed")
        assert service.wait_reply(sent)["error"]["code"] == "invalid_request"
        service.workers[0].wait_status("waiting for", "RabbitMQ", "portal.dead")
        assert service.queue_depth(REQUESTS) == 1
    finally:
        rabbitmq.set_permissions(service.name, "portal")
    wait_queues(service, "portal.dead")
    [letter] = service.wait_dead_letters()
    assert letter.raw == b"?" and reason_of(letter) == "invalid_request"
    service.wait_empty(REQUESTS)


def test_a_letter_says_all_that_a_replay_needs(service):
    service.start_worker(PORTAL_TEAM_SENDERS="somebody")
    body = {"request_id": "letter", "team_id": 1}
    sent = service.request(body, message_id="m-1", timestamp=1_700_000_000, user_id="sender", priority=3, app_id="app",
                           type="kind", headers={"traceparent": "00-a-b-01", "CC": ["portal.dead"], "mine": 1})
    assert service.wait_reply(sent)["error"]["code"] == "forbidden_sender"
    [letter] = service.wait_dead_letters()
    properties, headers = letter.properties, letter.headers
    assert letter.raw == sent.body and properties.correlation_id == sent.correlation_id
    assert (properties.message_id, properties.timestamp, properties.reply_to) == \
        ("m-1", 1_700_000_000, service.reply_to)
    assert properties.user_id is None and properties.expiration is None and "CC" not in headers
    assert headers["x-portal-reason"] == "forbidden_sender" and headers["x-portal-next-generation"] == 1
    original = headers["x-portal-original"]
    assert (original["user_id"], original["priority"], original["app_id"], original["type"]) == \
        ("sender", 3, "app", "kind")
    assert original["headers"]["CC"] == ["portal.dead"] and original["headers"]["mine"] == 1
    service.wait_empty(REQUESTS)
    assert service.dead_letters() == [letter]
