"""What a sender can get wrong: each gets its answer and its dead letter, the worker lives on, nothing is lost."""

import datetime
import json

import pytest
from conftest import check_discreet

from bed.process import SANITIZED
from bed.service import DEAD, REQUESTS

HUGE = 10**30


def text(**fields):
    return json.dumps({"request_id": "bad", **fields}).encode()


# Name of the case, the body as it is sent, and a word that the answer's message has to have.
MALFORMED = [
    ("empty", b"", "JSON"),
    ("not_json", b"team 1, please", "JSON"),
    ("half_json", b'{"request_id": "bad", "team_id": ', "JSON"),
    ("an_array", b"[1, 2]", "object"),
    ("a_number", b"17", "JSON"),
    ("null", b"null", "JSON"),
    ("a_string", b'"team"', "JSON"),
    ("nul_in_a_string", b'{"request_id": "bad", "team_id": 1, "return_path": "/a\\u0000b"}', "JSON"),
    ("nul_byte", b'{"request_id": "bad", "team_id": 1}\0', "JSON"),
    ("invalid_utf8", b'{"request_id": "bad", "team_id": 1, "return_path": "/\xff\xfe"}', "UTF-8"),
    ("utf16", '{"request_id": "bad", "team_id": 1}'.encode("utf-16"), "JSON"),
    ("deeply_nested", b"[" * 16000, "JSON"),
    ("a_key_twice", b'{"request_id": "bad", "team_id": 1, "team_id": 2}', "JSON"),
    ("no_ids_at_all", b"{}", "request_id"),
    ("no_request_id", b'{"team_id": 1}', "request_id"),
    ("request_id_empty", text(request_id="", team_id=1), "request_id"),
    ("request_id_number", text(request_id=7, team_id=1), "request_id"),
    ("request_id_too_long", text(request_id="x" * 129, team_id=1), "request_id"),
    ("request_id_with_space", text(request_id="a b", team_id=1), "request_id"),
    ("request_id_with_newline", text(request_id="ab\n", team_id=1), "request_id"),
    ("neither_team_nor_user", text(), "team_id"),
    ("team_id_string", text(team_id="1"), "team_id"),
    ("team_id_fraction", text(team_id=1.5), "team_id"),
    ("team_id_boolean", text(team_id=True), "team_id"),
    ("team_id_list", text(team_id=[1]), "team_id"),
    ("team_id_zero", text(team_id=0), "team_id"),
    ("team_id_negative", text(team_id=-1), "team_id"),
    ("team_id_huge", text(team_id=HUGE), "team_id"),
    ("team_id_beyond_64_bits", text(team_id=2**63), "team_id"),
    ("user_id_zero", text(user_id=0), "user_id"),
    ("user_id_string", text(team_id=1, user_id="1"), "user_id"),
    ("return_path_number", text(team_id=1, return_path=1), "return_path"),
    ("return_path_relative", text(team_id=1, return_path="dashboard"), "return_path"),
    ("return_path_other_host", text(team_id=1, return_path="//evil.example"), "return_path"),
    ("return_path_backslash", text(team_id=1, return_path="/\\evil.example"), "return_path"),
    ("return_path_scheme", text(team_id=1, return_path="https://evil.example/"), "return_path"),
    ("return_path_control", text(team_id=1, return_path="/a\r\nb"), "return_path"),
    ("fresh_string", text(team_id=1, fresh="yes"), "fresh"),
    ("deadline_not_a_time", text(team_id=1, deadline="soon"), "deadline"),
]


@pytest.fixture(scope="module")
def shared(bed):
    """One service for the many small cases of this file: also a test that none of them hurts the next."""
    bed.heal()
    corner = bed.service(tapped=True)
    corner.emulator.product()
    corner.good_team = corner.team()
    corner.start_worker()
    yield corner
    try:
        corner.end()
    finally:
        corner.close()


@pytest.fixture
def served(shared, request):
    request.node.service = shared  # whose logs to show where the test fails
    return shared


@pytest.mark.parametrize("body, word", [case[1:] for case in MALFORMED], ids=[case[0] for case in MALFORMED])
def test_a_malformed_request_is_answered_and_dead_lettered(served, body, word):
    sent = served.request(raw=body)
    reply = served.wait_reply(sent)
    assert (reply["outcome"], reply["status"], reply["generation"]) == ("failed", 400, None)
    assert reply["error"]["code"] == "invalid_request" and reply["error"]["retryable"] is False
    assert word in reply["error"]["message"]
    served.wait_empty(REQUESTS)
    [letter] = [one for one in served.dead_letters() if one.properties.correlation_id == sent.correlation_id]
    assert letter.raw == body
    assert "invalid_request" in letter.headers.values(), letter.headers
    assert served.ask({"team_id": served.good_team})["outcome"] in ("created", "reused")


def test_a_malformed_request_without_an_id_is_answered_with_null(served):
    assert served.ask(raw=b"?")["request_id"] is None


def test_a_malformed_request_is_answered_under_its_message_id(served):
    assert served.ask(raw=b"?", message_id="m-1")["request_id"] == "m-1"


def test_a_field_that_is_wrong_is_named_with_the_request_id_that_is_right(served):
    reply = served.ask(raw=text(request_id="good-id", team_id=0))
    assert reply["request_id"] == "good-id"


def test_the_largest_request_is_served(served):
    body = json.dumps({"request_id": "large", "team_id": served.good_team, "padding": ""}).encode()
    padded = body.replace(b'"padding": ""', b'"padding": "' + b"x" * (16 * 1024 - len(body)) + b'"')
    assert len(padded) == 16 * 1024
    assert served.ask(raw=padded)["outcome"] in ("created", "reused")


@pytest.mark.parametrize("size", [16 * 1024 + 1, 1024 * 1024, 20 * 1024 * 1024])
def test_a_request_that_is_too_large_is_refused_whole_and_kept_whole(served, size):
    before = served.workers[0].peak_memory()
    body = b'{"request_id": "big", "team_id": 1, "padding": "' + b"x" * size
    body = body[:size]
    sent = served.request(raw=body, message_id=f"big-{size}")
    reply = served.wait_reply(sent)
    assert (reply["request_id"], reply["error"]["code"]) == (f"big-{size}", "invalid_request")
    served.wait_empty(REQUESTS)
    [letter] = [one for one in served.dead_letters() if one.properties.correlation_id == sent.correlation_id]
    assert letter.raw == body, "the broker itself carries the body to the dead letters"
    grown = served.workers[0].peak_memory() - before
    assert SANITIZED or grown < 8, "memory does not follow what a sender puts in a message"


def test_unknown_fields_are_ignored(served):
    reply = served.ask({"team_id": served.good_team, "colour": {"deep": [1, None, HUGE]}})
    assert reply["outcome"] in ("created", "reused")


def test_a_deadline_that_has_passed_is_said_so(served):
    calls = len(served.emulator.session_calls())
    past = (datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=1)).isoformat()
    reply = served.ask({"team_id": served.good_team, "deadline": past, "fresh": True})
    assert (reply["outcome"], reply["status"], reply["error"]["code"]) == ("failed", 504, "deadline_exceeded")
    assert len(served.emulator.session_calls()) == calls


@pytest.mark.parametrize("queue", ["portal.requests", "portal.dead", "somebody.elses", "portal.repliesx", "x" * 255])
def test_a_reply_to_that_is_not_allowed_is_dead_lettered_and_not_answered(served, queue):
    channel = served.channel
    if queue not in ("portal.requests", "portal.dead"):
        channel.queue_declare(queue)
    sent = served.request({"team_id": served.good_team}, reply_to=queue)
    served.wait_empty(REQUESTS)
    [letter] = [one for one in served.dead_letters() if one.properties.correlation_id == sent.correlation_id]
    assert letter.raw == sent.body and "reply_refused" in letter.headers.values(), letter.headers
    assert served.session(sent.request_id) is None
    if queue not in ("portal.requests", "portal.dead"):
        assert served.take(queue) == []
        channel.queue_delete(queue)
    else:
        assert served.queue_depth(DEAD) == 0, "the letter and nothing else came"


def test_a_reply_queue_that_does_not_exist_costs_only_the_reply(served):
    sent = served.request({"team_id": served.good_team}, reply_to="amq.gen-nobody-is-there")
    served.wait_empty(REQUESTS)
    row = served.session(sent.request_id)
    assert row["outcome"] in ("created", "reused"), "the answer is kept"
    again = served.ask({"request_id": sent.request_id, "team_id": served.good_team})
    assert again["session"]["id"] == row["session_id"]


def test_properties_of_every_kind_do_no_harm(served):
    reply = served.ask({"team_id": served.good_team}, correlation_id="c" * 255, priority=9, app_id="app", type="type",
                       content_type="text/plain", content_encoding="gzip", timestamp=2**62, cluster_id="c",
                       headers={"x-portal-generation": 1, "x": [1, {"y": None}], "CC": ["elsewhere"], "traceparent": 7})
    assert reply["outcome"] in ("created", "reused")


def test_without_a_correlation_id_the_reply_has_none(served):
    sent = served.request({"request_id": "no-correlation", "team_id": served.good_team}, correlation_id=None)
    assert sent.correlation_id is None
    assert served.wait_reply(sent).properties.correlation_id is None


def test_garbage_between_good_requests_delays_none_of_them(served):
    good = []
    for number in range(200):
        served.request(raw=MALFORMED[number % len(MALFORMED)][1])
        good.append(served.request({"team_id": served.good_team}))
    for reply in served.wait_replies(good):
        assert reply["outcome"] in ("created", "reused")


def test_after_all_that_the_worker_ends_in_order(served):
    [worker] = served.workers
    assert worker.stop() == 0
    check_discreet(served, worker.text())
