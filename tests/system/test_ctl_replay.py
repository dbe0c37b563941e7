"""portalctl replay: sends what files hold, all of it, and checks what comes of it."""

import json
import os
import pty
import re
import signal
import subprocess
import time

import pytest

from bed.process import ROOT, SANITIZED, wait_until
from bed.service import DEAD, REPLIES, REQUESTS
from test_backpressure import memory_alarm
from test_ctl import (BAD_FILE, DONE, FAILED, INTERRUPTED, LATE, NO_FILE, UNAVAILABLE, finish, on_terminal, portalctl, start)

MEMORY_MIB = 32


def write(path, lines):
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return path


def requests(path, count, teams):
    return write(path, [{"request": {"request_id": f"{path.stem}-{n}", "team_id": teams[n % len(teams)]}}
                        for n in range(count)])


# --- sending ---

def test_all_requests_of_all_files_are_sent_and_answered(serving, tmp_path):
    teams = serving.teams(10)
    first, second = requests(tmp_path / "first.jsonl", 200, teams), requests(tmp_path / "second.jsonl", 100, teams)
    result = portalctl(serving, "replay", first, second)
    assert result.status == DONE, result
    assert result.output.startswith("300 requests in ")
    assert dict(re.findall(r"^ +(\d+)  (\w+)$", result.output, re.MULTILINE)) == {"10": "created", "290": "reused"}
    assert {row["request_id"] for row in serving.sessions()} == \
        {f"first-{n}" for n in range(200)} | {f"second-{n}" for n in range(100)}


def test_every_reply_is_a_line_of_json_without_its_url(serving, tmp_path):
    team = serving.team()
    path = write(tmp_path / "a.jsonl", [{"name": "one", "request": {"request_id": "r-1", "team_id": team}}, "\n", "# remark\n",
                                        {"request": {"team_id": 2_000_000_000}, "properties": {"message_id": "r-2"}}])
    result = portalctl(serving, "replay", "--json", "--concurrency", "1", path)
    one, two, whole = result.lines
    assert (one["line"], one["name"], one["request_id"], one["reply"]["outcome"]) == (1, "one", "r-1", "created")
    assert one["reply"]["session"]["url"] == "redacted" and serving.session("r-1")["url"] not in result.output
    assert (two["line"], two["request_id"], two["reply"]["error"]["code"]) == (4, "r-2", "team_not_found")
    assert whole["summary"]["outcomes"] == {"created": 1, "failed team_not_found": 1}
    shown = portalctl(serving, "replay", "--json", "--show-url", path)
    assert shown.lines[0]["reply"]["session"]["url"] == serving.session("r-1")["url"]


def test_a_message_is_sent_as_the_line_has_it(serving, tmp_path):
    raw = ['{"request": {"request_id" : "r-1",  "team_id":1.50, "x": [1e3, "\\u00e9 \\/", 123456789012345678901234567890]},',
           ' "properties": {"message_id": "m-1", "priority": 3, "type": "t", "app_id": "a", "user_id": "somebody",',
           ' "correlation_id": "c-1", "timestamp": 1580472000, "content_encoding": "identity",',
           ' "headers": {"n": 7, "s": "x", "b": true, "list": [1, "a"], "table": {"k": null}}}}\n']
    path = write(tmp_path / "a.jsonl", ["".join(raw), {"body": "é", "properties": {"reply_to": "portal.replies"}},
                                        {"body_base64": "/wA="}])
    result = portalctl(serving, "replay", path)
    assert result.status == DONE and "3 requests" in result.output, result
    letters = {letter.raw: letter for letter in serving.wait_dead_letters(3)}
    assert set(letters) == {b'{"request_id":"r-1","team_id":1.50,"x":[1e3,"\\u00e9 \\/",123456789012345678901234567890]}',
                            "é".encode(), b"\xff\x00"}
    letter = next(letter for raw, letter in letters.items() if b"r-1" in raw)
    original = letter.headers["x-portal-original"]
    assert (letter.properties.message_id, letter.properties.correlation_id) == ("m-1", "c-1")
    assert letter.properties.content_type == "application/json"
    assert (original["priority"], original["type"], original["app_id"]) == (3, "t", "a")
    assert original["user_id"] == "portal", "the only one that RabbitMQ takes"
    assert original["headers"] == {"n": 7, "s": "x", "b": True, "list": [1, "a"], "table": {"k": None}}
    [reply] = serving.take(REPLIES)
    assert reply["error"]["code"] == "invalid_request"


def test_a_run_has_a_name_of_its_own(serving, tmp_path):
    path = write(tmp_path / "a.jsonl", [{"request": {"request_id": "a-{run}-b", "team_id": serving.team()}}])
    for arguments in ([], [], ["--run", "mine"], ["--run", "mine"]):
        assert portalctl(serving, "replay", *arguments, path).status == DONE
    names = [row["request_id"] for row in serving.sessions()]
    assert len(names) == 3 and "a-mine-b" in names
    assert all(re.fullmatch(r"a-([a-z0-9]{8}|mine)-b", name) for name in names)


def test_standard_input_is_answered_line_by_line(serving, tmp_path):
    team = serving.team()
    replaying = start(serving, "replay", "--json", "-", stdin=-1)
    for n in range(3):
        replaying.stdin.write(json.dumps({"request": {"request_id": f"r-{n}", "team_id": team}}) + "\n")
        replaying.stdin.flush()
        assert json.loads(replaying.stdout.readline())["request_id"] == f"r-{n}"
    assert finish(replaying).status == DONE


def test_standard_input_may_be_a_file_which_is_looked_through_first(serving, tmp_path):
    path = requests(tmp_path / "a.jsonl", 5, serving.teams(2))
    with open(path) as file:
        result = finish(start(serving, "replay", "-", stdin=file))
    assert result.status == DONE and result.output.startswith("5 requests in "), result
    with open(write(tmp_path / "bad.jsonl", [path.read_text(), "nonsense\n"])) as file:
        result = finish(start(serving, "replay", "-", stdin=file))
    assert result.status == BAD_FILE and "standard input:6: not JSON" in result.errors and "Nothing was sent" in result.errors


def test_a_rate_is_kept(serving, tmp_path):
    path = requests(tmp_path / "a.jsonl", 30, serving.teams(3))
    began = time.monotonic()
    assert portalctl(serving, "replay", "--rate", "20", path).status == DONE
    assert 1.3 < time.monotonic() - began < 10


def test_no_more_than_told_are_under_way_at_once(service, tmp_path):
    service.declare()
    path = requests(tmp_path / "a.jsonl", 30, [1])
    replaying = start(service, "replay", "--concurrency", "7", path)
    wait_until(lambda: service.queue_depth(REQUESTS) == 7, "seven requests")
    time.sleep(0.5)
    assert service.queue_depth(REQUESTS) == 7
    service.start_worker()
    assert finish(replaying).status == DONE


def test_an_old_request_is_served_when_its_deadline_is_set_anew(serving, tmp_path):
    path = write(tmp_path / "a.jsonl", [{"request": {"request_id": f"r-{{run}}-{n}", "team_id": serving.team(), **old}} for n, old
                                        in enumerate([{"deadline": "2020-01-31T12:00:00Z"}, {}])])
    assert portalctl(serving, "replay", path).output.count("failed deadline_exceeded") == 1
    for deadline in ("none", "10m"):
        result = portalctl(serving, "replay", "--deadline", deadline, path)
        assert result.status == DONE and "failed" not in result.output, result


def test_a_queue_at_its_limit_costs_only_time(service, tmp_path):
    service.emulator.product()
    service.declare()
    service.bed.rabbitmq.evaluate(f'rabbit_policy:set(<<"{service.name}">>, <<"few">>, <<"^portal.requests$">>, '
                                  '[{<<"max-length">>, 5}], 0, <<"queues">>, <<"bed">>)')
    path = requests(tmp_path / "a.jsonl", 40, service.teams(4))
    replaying = start(service, "replay", path)
    wait_until(lambda: service.queue_depth(REQUESTS) >= 5, "the queue to be full")
    service.start_worker()
    result = finish(replaying)
    assert result.status == DONE and result.output.startswith("40 requests in "), result
    assert len(service.sessions()) == 40


def test_where_nobody_takes_requests_the_rest_is_told(serving, tmp_path):
    path = requests(tmp_path / "a.jsonl", 200, serving.teams(4))
    replaying = start(serving, "replay", "--rate", "50", path)
    wait_until(lambda: len(serving.sessions()) > 5, "some answers")
    serving.channel.queue_unbind(REQUESTS, "portal", "request")
    result = finish(replaying)
    assert result.status == UNAVAILABLE and "no queue takes requests" in result.errors, result
    assert re.search(r"^  portalctl replay --run \w+ --from \d+ --rate 50 ", result.errors, re.MULTILINE)


def test_what_gets_no_reply_is_counted(service, tmp_path):
    service.declare()
    result = portalctl(service, "replay", "--timeout", "1s", requests(tmp_path / "a.jsonl", 3, [1]))
    assert result.status == LATE and "3 requests got no reply in time" in result.errors, result


# --- checking ---

def test_replies_are_compared_with_what_is_expected(serving, tmp_path):
    team = serving.team()
    right = {"outcome": "~created|reused", "status": 200.0, "redirect": None, "session": {"id": "~bps_.+", "customer": f"cus_{team}"}}
    path = write(tmp_path / "a.jsonl", [
        {"name": "right", "request": {"request_id": "r-{run}", "team_id": team}, "expect": {"reply": right}},
        {"name": "same", "request": {"request_id": "r-{run}", "team_id": team}, "expect": {"same_as": "right"}},
        {"name": "wrong", "request": {"request_id": "r-{run}", "team_id": team},
         "expect": {"reply": {"outcome": "~fail.*", "session": {"expires_at": "soon"}}}},
        {"name": "refused", "request": {"request_id": "s-{run}", "team_id": team}, "properties": {"reply_to": "portal.dead"},
         "expect": {"reply": None}},
        {"name": "properties", "request": {"request_id": "r-{run}", "team_id": team}, "properties": {"correlation_id": "c"},
         "expect": {"properties": {"correlation_id": "c", "content_type": "application/json", "headers": {}}}},
        {"name": "not same", "request": {"request_id": "t-{run}", "team_id": 2_000_000_000}, "expect": {"same_as": "right"}}])
    result = portalctl(serving, "replay", "--check", path)
    assert result.status == FAILED, result
    verdicts = {name: verdict for verdict, name in
                re.findall(r"^(ok|FAIL) .* ms +(\w+(?: same)?) ", result.output, re.MULTILINE)}
    assert verdicts == {"right": "ok", "same": "ok", "wrong": "FAIL", "refused": "ok", "properties": "ok", "not same": "FAIL"}
    assert 'reply.outcome is "created", expected "~fail.*"; reply.session.expires_at is ' in result.output
    assert "4 as expected, 2 not" in result.output
    assert serving.session(serving.sessions()[0]["request_id"])["url"] not in result.output
    as_json = portalctl(serving, "replay", "--check", "--json", path)
    assert [line.get("ok") for line in as_json.lines] == [True, True, False, True, True, False, None]


def test_a_line_can_only_be_the_same_as_one_before_it(serving, tmp_path):
    team = serving.team()
    path = write(tmp_path / "a.jsonl", [{"name": name, "request": {"request_id": "r-{run}", "team_id": team},
                                         "before": {}, "expect": {"same_as": other}} for name, other in
                                        (("first", "second"), ("second", "first"))])
    result = portalctl(serving, "replay", "--check", path)
    assert result.status == FAILED and 'no line before this one is called "second"' in result.output
    assert "1 as expected, 1 not" in result.output and "which only tests can do" in result.errors


def test_a_reply_that_must_not_come_is_noticed(serving, tmp_path):
    path = write(tmp_path / "a.jsonl", [{"request": {"team_id": 1}, "expect": {"reply": None}}])
    result = portalctl(serving, "replay", "--check", path)
    assert result.status == FAILED and "a reply came, expected none" in result.output


# --- what is wrong with a file ---

@pytest.mark.parametrize("text, words", [
    ('{"request": {}, "expected": {}}', "unknown in line: expected"),
    ('{"request": {}, "properties": {"replyTo": "x"}}', "unknown in properties: replyTo"),
    ('{"request": {}, "properties": {"priority": "high"}}', "properties.priority has to be a whole number from 0 to 255"),
    ('{"request": {}, "properties": {"message_id": 7}}', "properties.message_id has to be a text"),
    ('{"request": {}, "properties": {"headers": []}}', "properties.headers has to be an object"),
    ('{"request": {}, "expect": {"calls": [{"url": "/"}]}}', "unknown in call: url"),
    ('{"name": "nothing to send"}', "exactly one of"), ('{"request": {}, "body": "x"}', "exactly one of"),
    ('{"body": {}}', "body has to be a text"), ('{"body_base64": "x"}', "base64"), ('{"request": {}', "not JSON"),
    ('["request"]', "has to be a JSON object"), ('{"request": {}, "request": {}}', "not JSON"),
    ('{"body": "' + "x" * (1 << 20) + '"}', "longer than 1"),
])
def test_a_bad_line_is_named_and_nothing_is_sent(service, tmp_path, text, words):
    service.declare()
    path = write(tmp_path / "bad.jsonl", ['{"request": {"request_id": "r-1", "team_id": 1}, "x-remark": "fine"}\n', "# remark\n",
                                          "\n", text + "\n"])
    result = portalctl(service, "replay", path)
    assert (result.status, result.output) == (BAD_FILE, "")
    assert f"{path}:4: " in result.errors and words in result.errors and "Nothing was sent" in result.errors
    assert service.queue_depth(REQUESTS) == 0


def test_all_bad_lines_are_named_at_once(service, tmp_path):
    path = write(tmp_path / "bad.jsonl", ["x\n", "{}\n", '{"request": {}}\n', "y\n"])
    result = portalctl(service, "replay", path)
    assert re.findall(r"bad.jsonl:(\d):", result.errors) == ["1", "2", "4"] and "3 lines are wrong" in result.errors


def test_a_bad_line_of_standard_input_ends_it_with_what_is_left(serving):
    team = serving.team()
    replaying = start(serving, "replay", "-", stdin=-1)
    output, errors = replaying.communicate(f'{{"request": {{"request_id": "r-1", "team_id": {team}}}}}\nnonsense\n', timeout=60)
    assert replaying.returncode == BAD_FILE and output == ""
    assert "standard input:2: not JSON" in errors and re.search(r"portalctl replay --run \w+ --from [12] -$", errors.strip())


def test_a_file_that_is_not_there_is_named(service, tmp_path):
    for path in (tmp_path / "absent.jsonl", tmp_path):
        result = portalctl(service, "replay", path)
        assert result.status == NO_FILE and str(path) in result.errors, result


def test_a_dry_run_sends_nothing_and_says_what_would_be_refused(service, tmp_path):
    service.declare()
    path = write(tmp_path / "a.jsonl", [{"request": {"request_id": "r-1", "team_id": 1}}, {"body": "x"},
                                        {"request": {"request_id": "r-3", "team_id": -1}}])
    result = portalctl(service, "replay", "--dry-run", path, AMQP_URL=None)
    assert result.status == DONE and "3 requests would be sent; the worker would refuse 2 of them" in result.output
    assert re.search(r"a.jsonl:2: invalid_request: .*JSON", result.output)
    assert re.search(r"a.jsonl:3: invalid_request: team_id", result.output)
    first, second, whole = portalctl(service, "replay", "--dry-run", "--json", path).lines
    assert (first["line"], first["code"], second["line"]) == (2, "invalid_request", 3) and "team_id" in second["message"]
    assert whole == {"summary": {"dry_run": True, "requests": 3, "refused": 2}}
    assert service.queue_depth(REQUESTS) == 0


@pytest.mark.parametrize("path", sorted((ROOT / "tests/replay").glob("*.jsonl")), ids=lambda path: path.stem)
def test_the_projects_own_replay_files_are_understood(service, path):
    result = portalctl(service, "replay", "--dry-run", path)
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    assert result.status == DONE and f"\n{len(lines)} requests would be sent" in result.output, result


# --- on the way ---

def test_progress_is_a_bar_on_a_terminal_only(serving, tmp_path):
    path = requests(tmp_path / "a.jsonl", 40, serving.teams(4))
    status, shown = on_terminal(serving, "replay", "--rate", "40", path)
    assert status == DONE and re.search(r"\r\033\[K\[#+\.*\] \d+ of 40, \d+/s, \d+ s left", shown), shown
    assert shown.index("40 requests in") > shown.rindex("\r\033[K")
    result = portalctl(serving, "replay", path)
    assert "\r" not in result.errors + result.output and "\033" not in result.errors + result.output


def test_what_is_printed_does_not_run_into_the_bar(serving, tmp_path):
    path = requests(tmp_path / "a.jsonl", 30, serving.teams(4))
    status, shown = on_terminal(serving, "replay", "--rate", "30", "--json", path)
    lines = [line.split("\r\033[K") for line in shown.split("\r\n")]
    assert status == DONE and any(parts[0].startswith("[") or len(parts) > 2 for parts in lines), "there is a bar"
    assert [json.loads(parts[-1]) for parts in lines if parts[-1]][-1]["summary"]["requests"] == 30


def test_without_an_end_in_sight_the_bar_is_a_count(serving):
    lines = "".join(json.dumps({"request": {"request_id": f"r-{n}", "team_id": serving.team()}}) + "\n" for n in range(3))
    leader, follower = pty.openpty()
    replaying = start(serving, "replay", "--rate", "3", "-", stdin=-1, stderr=follower, env={"TERM": "xterm"})
    replaying.communicate(lines, timeout=60)
    os.close(follower)
    shown = os.read(leader, 65536).decode()
    os.close(leader)
    assert replaying.returncode == DONE and re.match(r"(\r\033\[K\d, \d+/s)+\r\033\[K$", shown), shown


def test_ctrl_c_leaves_a_command_that_sends_the_rest(serving, tmp_path):
    teams = serving.teams(4)
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    for path in (first, second):
        write(path, [{"request": {"request_id": f"{path.stem}-{{run}}-{n}", "team_id": teams[n % 4]}} for n in range(60)])
    options = ["--concurrency", "8", "--deadline", "10m", "--timeout", "90s", "--check", "--json", "--show-url"]
    replaying = start(serving, "replay", "--rate", "20", *options, first, second, stdout=subprocess.DEVNULL)
    wait_until(lambda: len(serving.sessions()) > 75, "some of the second file's answers")
    replaying.send_signal(2)
    result = finish(replaying)
    assert result.status == INTERRUPTED
    command = re.search(r"^  portalctl (replay .*)$", result.errors, re.MULTILINE)[1].split()
    assert command[-1] == str(second) and str(first) not in command
    assert command[5:-1] == ["--rate", "20", *options], "as it was called"
    before = len(serving.sessions())
    assert before < 120
    rest = portalctl(serving, *command)
    assert rest.status == DONE, rest
    assert len(serving.sessions()) == 120, "every line was sent, and none under another name"


def test_a_broker_that_restarts_costs_only_time(serving, tmp_path):
    teams = serving.teams(100)
    path = requests(tmp_path / "a.jsonl", 3000, teams)
    with open(tmp_path / "output", "w") as output:  # no pipe, which somebody would have to empty
        replaying = start(serving, "replay", "--rate", "600", "--json", path, stdout=output)
        wait_until(lambda: len(serving.sessions()) > 500, "some answers")
        serving.bed.rabbitmq.restart()
        result = finish(replaying, 120)
    assert result.status == DONE and "RabbitMQ is there again" in result.errors, result.errors
    *replies, whole = map(json.loads, (tmp_path / "output").read_text().splitlines())
    assert {line["request_id"] for line in replies} == {f"a-{n}" for n in range(3000)}
    assert whole["summary"]["requests"] == 3000 and whole["summary"]["unanswered"] == 0
    assert len(serving.sessions()) == 3000 and serving.queue_depth(DEAD) == 0


@pytest.mark.slow
def test_a_broker_that_stops_behind_its_socket_costs_only_time(serving, tmp_path):
    path = requests(tmp_path / "a.jsonl", 2000, serving.teams(10))
    replaying = start(serving, "replay", "--rate", "100", path)
    wait_until(lambda: len(serving.sessions()) > 50, "some answers")
    serving.bed.rabbitmq.freeze()
    try:
        time.sleep(20)
    finally:
        serving.bed.rabbitmq.thaw()
    result = finish(replaying, 120)
    assert result.status == DONE and "RabbitMQ does not confirm" in result.errors, result
    assert "RabbitMQ is there again" in result.errors and len(serving.sessions()) == 2000


def check_all_sent_once(serving, replaying, count):
    result = finish(replaying, 60)
    assert result.status == DONE and "trying again" not in result.errors, result
    assert len(serving.sessions()) == count


@pytest.mark.slow
def test_a_memory_alarm_is_no_broker_that_stopped(serving, tmp_path):
    with memory_alarm(serving.bed.rabbitmq):
        replaying = start(serving, "replay", requests(tmp_path / "a.jsonl", 100, serving.teams(10)))
        time.sleep(17)  # it waits for a confirm for 15
    check_all_sent_once(serving, replaying, 100)


@pytest.mark.slow
def test_a_portalctl_that_stood_still_blames_nobody(serving, tmp_path):
    with serving.bed.rabbitmq.stalled(serving.name, REQUESTS):
        replaying = start(serving, "replay", requests(tmp_path / "a.jsonl", 100, serving.teams(10)))
        time.sleep(2)
        replaying.send_signal(signal.SIGSTOP)
    time.sleep(17)
    replaying.send_signal(signal.SIGCONT)
    check_all_sent_once(serving, replaying, 100)


@pytest.mark.slow
def test_a_hundred_thousand_requests_go_through_a_restart_in_bounded_memory(serving, tmp_path):
    total = 100_000
    path = requests(tmp_path / "many.jsonl", total, serving.teams(1000))
    with open(tmp_path / "errors", "w") as errors:
        replaying = start(serving, "replay", path, stderr=errors)
        wait_until(lambda: serving.query("SELECT count(*) AS n FROM portal.sessions")[0]["n"] > total / 4, "a quarter", 300, 1)
        serving.bed.rabbitmq.restart()
        peak = 0
        while replaying.poll() is None:
            for line in open(f"/proc/{replaying.pid}/status"):
                if line.startswith("VmHWM:"):
                    peak = max(peak, int(line.split()[1]) / 1024)
            time.sleep(0.2)
        result = finish(replaying, 600)
    said = (tmp_path / "errors").read_text()
    print(f"peak resident memory: {peak:.1f} MiB\n{said}{result.output}")
    assert result.status == DONE, said
    assert result.output.startswith(f"{total} requests in ")
    assert serving.query("SELECT count(*) AS n FROM portal.sessions")[0]["n"] == total
    assert "RabbitMQ is there again" in said and re.search(rf"\d+ of {total}, \d+/s, .* left", said)
    assert SANITIZED or 0 < peak < MEMORY_MIB
