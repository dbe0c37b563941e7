"""portalctl capture: records requests without taking them, in a form that replay sends again."""

import json
import os
import stat

from bed.process import wait_until
from bed.service import DEAD
from test_ctl import BAD_FILE, DONE, FAILED, UNAVAILABLE, USAGE, finish, portalctl, start


def recording(service, *arguments):
    """A capture that is already at it."""
    before = len(service.bed.rabbitmq.bound(service.name, "portal"))
    capturing = start(service, "capture", *arguments)
    wait_until(lambda: len(service.bed.rabbitmq.bound(service.name, "portal")) > before, "the queue to be bound")
    return capturing


def test_requests_are_recorded_and_answered_all_the_same(serving, tmp_path):
    path = tmp_path / "new.jsonl"
    capturing = recording(serving, "--output", path, "--count", "2")
    team = serving.team()
    first = serving.ask({"request_id": "r-1", "team_id": team, "note": "see https://user:pw@x.example/p?token=1 there"},
                        headers={"traceparent": "00-ab-cd-01", "n": 5}, priority=2, user_id="sender", timestamp=1580472000,
                        expiration="60000")
    assert first["outcome"] == "failed" and first["error"]["code"] == "deadline_exceeded"
    serving.ask(raw=b"\xff\x00")
    result = finish(capturing)
    assert result.status == DONE and "recorded 2 requests" in result.errors, result
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    one, two = map(json.loads, path.read_text().splitlines())
    assert one["request"] == {"request_id": "r-1", "team_id": team, "note": "see https://x.example/redacted there"}
    assert one["properties"]["headers"] == {"traceparent": "00-ab-cd-01", "n": 5} and one["properties"]["priority"] == 2
    assert one["properties"]["x-reply_to"] == serving.reply_to and one["properties"]["x-timestamp"] == 1580472000
    assert not {"reply_to", "correlation_id", "timestamp", "expiration"} & one["properties"].keys()
    assert two["body_base64"] == "/wA="
    assert serving.bed.rabbitmq.bound(serving.name, "portal") == ["portal.requests"], "and its queue is gone"


def test_what_was_recorded_is_replayed_with_the_answers_coming_to_whoever_replays(serving, tmp_path):
    path = tmp_path / "new.jsonl"
    capturing = recording(serving, "--output", path)
    sent = [serving.request({"request_id": f"r-{n}", "team_id": serving.team()}, user_id="sender") for n in range(5)]
    serving.wait_replies(sent)
    wait_until(lambda: path.read_text().count("\n") == 5, "five lines")
    capturing.send_signal(2)
    assert finish(capturing).status == DONE, "Ctrl-C is how it ends"
    result = portalctl(serving, "replay", "--json", path)
    assert result.status == DONE, result
    assert {line["request_id"] for line in result.lines[:-1]} == {one.request_id for one in sent}
    assert {line["reply"]["generation"] for line in result.lines[:-1]} == {1}, "the stored answers"


def test_it_ends_by_itself_after_its_time(serving):
    result = portalctl(serving, "capture", "--for", "1s")
    assert (result.status, result.output) == (DONE, "") and "recorded 0 requests" in result.errors


def test_a_broker_that_restarts_is_waited_for(serving, tmp_path):
    path = tmp_path / "new.jsonl"
    capturing = recording(serving, "--output", path, "--count", "2")
    serving.ask({"request_id": "before", "team_id": serving.team()})
    wait_until(lambda: path.read_text().count("\n") == 1, "a line")
    serving.bed.rabbitmq.restart()
    wait_until(lambda: len(serving.bed.rabbitmq.bound(serving.name, "portal")) == 2, "the queue to be bound again")
    serving.connect()
    serving.ask({"request_id": "after", "team_id": serving.team()})
    result = finish(capturing)
    assert result.status == DONE and "what was published meanwhile is not recorded" in result.errors
    assert [json.loads(line)["request"]["request_id"] for line in path.read_text().splitlines()] == ["before", "after"]


def test_dead_letters_are_recorded_and_stay(service, tmp_path):
    service.declare()
    for n in range(4):
        service.request({"request_id": f"r-{n}", "team_id": n + 1}, expiration="0", message_id=f"m-{n}", type="ask")
    wait_until(lambda: service.queue_depth(DEAD) == 4, "the letters")
    result = portalctl(service, "capture", "--dead", "--reason", "expired", "r-1", "r-2")
    assert result.status == DONE and service.queue_depth(DEAD) == 4, result
    lines = result.lines
    assert [line["request"] for line in lines] == [{"request_id": "r-1", "team_id": 2}, {"request_id": "r-2", "team_id": 3}]
    assert lines[0]["properties"]["message_id"] == "m-1" and lines[0]["properties"]["type"] == "ask"
    assert lines[0]["properties"]["x-expiration"] == "0" and lines[0]["x-reason"] == "expired"
    assert "headers" not in lines[0]["properties"], "what the broker put there is none of the request's"
    path = tmp_path / "dead.jsonl"
    assert portalctl(service, "capture", "--dead", "--output", path).status == DONE
    dry = portalctl(service, "replay", "--dry-run", path)
    assert dry.status == DONE and dry.output == "4 requests would be sent\n"


def test_a_message_too_large_to_keep_is_left_out_with_a_remark(serving, tmp_path):
    path = tmp_path / "new.jsonl"
    capturing = recording(serving, "--output", path, "--count", "1")
    serving.request(raw=b"x" * 100_000, reply_to=None)
    assert finish(capturing).status == DONE
    assert path.read_text() == "# a message of 100000 bytes is left out\n"
    assert portalctl(serving, "replay", "--dry-run", path).output == "0 requests would be sent\n"


def test_only_as_many_dead_letters_as_told_are_recorded(service):
    service.declare()
    for n in range(3):
        service.request({"request_id": f"r-{n}", "team_id": 1}, expiration="0")
    wait_until(lambda: service.queue_depth(DEAD) == 3, "the letters")
    assert len(portalctl(service, "capture", "--dead", "--count", "2").lines) == 2
    missing = portalctl(service, "capture", "--dead", "r-1", "r-9")
    assert missing.status == FAILED and "r-9: there is no such letter" in missing.errors and len(missing.lines) == 1
    assert portalctl(service, "capture", "--dead", "--for", "1s").status == USAGE
    with open("/dev/full", "w") as full:
        result = finish(start(service, "capture", "--dead", stdout=full))
    assert result.status == FAILED and "standard output: No space left" in result.errors
    assert service.queue_depth(DEAD) == 3


def test_a_file_that_is_there_is_not_overwritten(service, tmp_path):
    service.declare()
    path = tmp_path / "old.jsonl"
    path.write_text("precious\n")
    result = portalctl(service, "capture", "--for", "1s", "--output", path)
    assert result.status == BAD_FILE and str(path) in result.errors and path.read_text() == "precious\n"


def test_what_could_not_begin_leaves_no_file_in_the_way_of_the_next_try(service, tmp_path):
    path = tmp_path / "new.jsonl"
    assert portalctl(service, "capture", "--output", path, AMQP_URL="amqp://127.0.0.1:1").status == UNAVAILABLE
    assert not path.exists()
