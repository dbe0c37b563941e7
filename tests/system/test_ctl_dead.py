"""portalctl dead: looks into portal.dead without changing it, sends letters again, drops them."""

import collections
import json
import os
import pty
import re
import time

import pytest

from bed.process import PATIENCE, wait_until
from bed.service import DEAD, REQUESTS
from test_ctl import (DENIED, DONE, FAILED, INTERRUPTED, UNAVAILABLE, USAGE, finish, on_terminal, portalctl, start)

NO_KEYS_LEFT = {"status": 400, "body": {"error": {"type": "idempotency_error", "message": "Keys can be used only once."}}}
KINDS = ("stripe_unavailable", "invalid_request", "reply_refused", "forbidden_sender", "expired")
HOPELESS = ("invalid_request", "reply_refused", "forbidden_sender")


def fill(service, each):
    """Puts so many letters of each of five kinds into portal.dead, mingled; returns the teams of the requests by their
    ids. Nothing is at work afterwards."""
    service.emulator.product()
    service.emulator.fault("/v1/billing_portal/sessions", **NO_KEYS_LEFT)
    service.declare()
    teams = service.teams(each)
    # While nothing is at work, what expires at once goes to portal.dead as it is.
    for n, team in enumerate(teams):
        service.request({"request_id": f"expired-{n}", "team_id": team}, bulk=True, expiration="0")
    wait_until(lambda: service.queue_depth(DEAD) == each, "all that expire")
    worker = service.start_worker(PORTAL_TEAM_SENDERS="sender,portal")
    for n, team in enumerate(teams):
        user = {"user_id": "sender"}
        service.request({"request_id": f"unavailable-{n}", "team_id": team}, bulk=True, **user)
        service.request({"request_id": f"invalid-{n}", "team_id": team, "locale": 7}, bulk=True, **user)
        service.request({"request_id": f"refused-{n}", "team_id": team}, bulk=True, reply_to=REQUESTS, **user)
        service.request({"request_id": f"forbidden-{n}", "team_id": team}, bulk=True)
    wait_until(lambda: service.queue_depth(DEAD) == 5 * each, lambda: f"all letters\n{service.logs()[-3000:]}", 60)
    service.wait_empty()
    assert worker.stop() == 0
    service.emulator.clear_faults()
    return teams


def listed(service, *arguments):
    result = portalctl(service, "dead", "list", "--json", *arguments)
    assert result.status == DONE, result
    return result.lines


def reasons(letters):
    return collections.Counter(letter["reason"] for letter in letters)


def order(service):
    """Every letter in the order of the queue, taken out of it for good."""
    return [letter.raw for letter in service.take(DEAD)]


# --- looking ---

@pytest.mark.refused
def test_a_thousand_letters_of_five_kinds_are_all_there_after_two_lists_and_one_kind_is_brought_back(service):
    fill(service, 200)
    first = listed(service)
    assert reasons(first) == {kind: 200 for kind in KINDS}
    table = portalctl(service, "dead", "list")
    assert table.status == DONE and "1000 letters" in table.errors
    assert [line.split()[0] for line in table.output.splitlines()[1:]] == [letter["letter"] for letter in first]
    assert service.queue_depth(DEAD) == 1000
    assert listed(service) == first, "the same, in the same order"
    assert len({letter["letter"] for letter in first}) == 1000
    result = portalctl(service, "dead", "requeue", "--reason", "stripe_unavailable", "--rate", "0")
    assert result.status == DONE and "requeued 200 letters; 800 others" in result.output, result
    service.start_worker(PORTAL_TEAM_SENDERS="sender,portal")
    service.wait_empty()
    answers = {row["request_id"]: (row["outcome"], row["generation"]) for row in service.sessions()}
    assert all(answers[f"unavailable-{n}"] == ("created", 2) for n in range(200))
    assert [json.loads(raw)["request_id"] for raw in order(service)] == \
        [letter["request_id"] for letter in first if letter["reason"] != "stripe_unavailable"]


@pytest.mark.refused
def test_letters_are_chosen_by_reason_time_team_and_name(service):
    teams = fill(service, 3)
    everything = listed(service)
    assert len(everything) == 15
    assert reasons(listed(service, "--reason", "expired")) == {"expired": 3}
    assert reasons(listed(service, "--reason", "expired,invalid_request", "--reason", "reply_refused")) == \
        {"expired": 3, "invalid_request": 3, "reply_refused": 3}
    assert {letter["team_id"] for letter in listed(service, "--team", str(teams[1]))} == {teams[1]}
    assert len(listed(service, "--team", str(teams[1]))) == 5
    assert len(listed(service, "--since", "1h")) == 15 and listed(service, "--until", "1h") == []
    newest = max(letter["died_at"] for letter in everything)
    assert {letter["died_at"] for letter in listed(service, "--since", newest)} == {newest}
    assert len(listed(service, "--until", newest)) == sum(letter["died_at"] < newest for letter in everything)
    [one] = listed(service, "unavailable-1")
    assert one["request_id"] == "unavailable-1" and one["attempts"] > 0 and one["next_generation"] == 2
    assert listed(service, one["letter"]) == [one]
    assert len(listed(service, "--limit", "4")) == 4 and service.queue_depth(DEAD) == 15
    missing = portalctl(service, "dead", "list", "unavailable-1", "nobody")
    assert missing.status == FAILED and "nobody" in missing.errors and "unavailable-1" in missing.output


@pytest.mark.refused
def test_a_letter_is_shown_with_all_there_is_to_know(service):
    service.start_worker()
    service.request({"request_id": "r-1", "team_id": 7, "locale": "https://portal.example/secret?x=1"},
                    headers={"traceparent": "00-ab-cd-01", "extra": 5}, priority=4, message_id="m-1", reply_to="portal.replies")
    service.wait_empty()
    result = portalctl(service, "dead", "show", "r-1")
    assert result.status == DONE and "secret" not in result.output
    for words in ("invalid_request", "locale", "portal.example/redacted", "00-ab-cd-01", "priority", "m-1", "portal.replies",
                  "0 calls to Stripe", "if requeued"):
        assert words in result.output, words
    [letter] = portalctl(service, "dead", "show", "--json").lines
    assert letter["message"]["request"]["team_id"] == 7 and letter["message"]["properties"]["headers"]["extra"] == 5
    assert service.queue_depth(DEAD) == 1


def test_a_letter_says_whose_it_is(service):
    service.start_worker()
    for n, who in enumerate(({"team_id": 7}, {"user_id": 8}, {"team_id": 7, "user_id": 8})):
        service.request({"request_id": f"r-{n}", "locale": 7, **who})
    service.wait_empty()
    table = portalctl(service, "dead", "list").output
    assert [re.search(rf"invalid_request +(.*?) +r-{n} ", table)[1] for n in range(3)] == ["7", "user 8", "7, user 8"]
    shown = portalctl(service, "dead", "show", "r-2").output
    assert re.search(r"^  team +7$", shown, re.MULTILINE) and re.search(r"^  user +8$", shown, re.MULTILINE)


def test_what_somebody_else_takes_meanwhile_is_not_waited_for(service):
    service.declare()
    for n in range(700):
        service.request({"request_id": f"r-{n}", "team_id": 1, "note": "x" * 100}, bulk=True, expiration="0")
    wait_until(lambda: service.queue_depth(DEAD) == 700, "all letters")
    looking = start(service, "capture", "--dead")  # stuck as soon as the pipe is full, with 500 in hand
    ready = lambda: service.channel.queue_declare(DEAD, passive=True).method.message_count
    wait_until(lambda: ready() == 200, "so many to be held")
    held = [service.channel.basic_get(DEAD) for _ in range(200)]
    assert all(method for method, _, _ in held)
    result = finish(looking)
    assert result.status == DONE and len(result.lines) == 500
    assert "200 of the messages in portal.dead are held or were taken by somebody else" in result.errors
    service.channel.basic_nack(0, multiple=True)
    wait_until(lambda: ready() == 700, "all to be given back")
    assert len(listed(service)) == 700


def test_bodies_of_any_kind_can_be_listed(service):
    service.start_worker()
    for raw in (b"", b"\xff\xfe", b"[]", b"{", b"x" * 100_000, b'{"team_id": 1e400}'):
        service.request(raw=raw, reply_to=None)
    service.wait_empty()
    wait_until(lambda: service.queue_depth(DEAD) == 6, "all letters")
    assert {letter["bytes"] for letter in listed(service)} == {0, 2, 1, 100_000, 18}
    assert portalctl(service, "dead", "show").status == DONE
    assert reasons(listed(service)) == {"invalid_request": 5, "rejected": 1}
    assert service.queue_depth(DEAD) == 6


def test_an_empty_queue_and_a_missing_one_are_told_apart(service):
    assert portalctl(service, "dead", "list").status == UNAVAILABLE
    service.declare()
    result = portalctl(service, "dead", "list")
    assert (result.status, result.output) == (DONE, "") and "no letters" in result.errors


# --- sending again ---

@pytest.mark.refused
def test_the_replies_to_what_is_requeued_go_where_they_were_wanted(service):
    fill(service, 10)
    result = portalctl(service, "dead", "requeue", "--reason", "stripe_unavailable", "--rate", "0")
    assert result.status == DONE and "requeued 10 letters; 40 others" in result.output, result
    assert service.queue_depth(REQUESTS) == 10 and service.queue_depth(DEAD) == 40
    service.start_worker(PORTAL_TEAM_SENDERS="sender,portal")
    service.wait_empty()
    assert reasons(listed(service)) == {kind: 10 for kind in KINDS if kind != "stripe_unavailable"}
    rows = {row["request_id"]: row for row in service.sessions()}
    for n in range(10):
        row = rows[f"unavailable-{n}"]
        assert (row["outcome"], row["generation"]) == ("created", 2), row
    wanted = {f"unavailable-{n}" for n in range(10)}

    def answered():
        service.poll(0.1)
        return [reply["request_id"] for reply in service.replies if reply["outcome"] == "created"]

    # Acknowledged as soon as its reply is confirmed; the sender's client may take it in some time later.
    wait_until(lambda: set(answered()) == wanted, "a reply to each where its sender wanted it", every=0)
    assert len(answered()) == 10


@pytest.mark.refused
def test_what_would_fail_again_stays_unless_forced(service):
    fill(service, 2)
    result = portalctl(service, "dead", "requeue", "--all", "--rate", "0")
    assert result.status == FAILED and "--force" in result.errors, result
    assert "requeued 4 letters" in result.output
    for reason in HOPELESS:
        assert f"2 would fail again: {reason}" in result.output
    assert service.queue_depth(REQUESTS) == 4 and service.queue_depth(DEAD) == 6
    assert reasons(listed(service)) == {reason: 2 for reason in HOPELESS}
    forced = portalctl(service, "dead", "requeue", "--reason", "forbidden_sender", "--force")
    assert forced.status == DONE and service.queue_depth(REQUESTS) == 6
    service.start_worker(PORTAL_TEAM_SENDERS="sender,portal")
    service.wait_empty()
    assert {row["request_id"]: row["outcome"] for row in service.sessions()}["forbidden-0"] in ("created", "reused"), \
        "portalctl may"


@pytest.mark.refused
def test_what_is_refused_is_told_as_json_as_well(service):
    fill(service, 1)
    result = portalctl(service, "dead", "requeue", "--all", "--json", "--deadline", "none")
    assert result.status == FAILED
    assert result.json == {"dry_run": False, "requeued": 2, "others": 0, "refused": 3, "refusals": dict.fromkeys(HOPELESS, 1)}
    first, second = service.take(REQUESTS)
    assert {one.headers["x-portal-deadline"] for one in (first, second)} == {"none"}


def test_letters_stay_where_nobody_takes_requests(service):
    service.declare()
    service.request({"request_id": "r-1", "team_id": 1}, expiration="0")
    wait_until(lambda: service.queue_depth(DEAD) == 1, "the letter")
    service.channel.queue_unbind(REQUESTS, "portal", "request")
    result = portalctl(service, "dead", "requeue", "--all")
    assert result.status == UNAVAILABLE and "no queue takes requests" in result.errors, result
    assert "0 letters were requeued; the others are in portal.dead still" in result.errors
    assert [letter["request_id"] for letter in listed(service)] == ["r-1"]


def test_an_expired_request_that_is_malformed_as_well_stays(service):
    service.declare()
    service.request(raw=b"not JSON", expiration="0", reply_to=None)
    wait_until(lambda: service.queue_depth(DEAD) == 1, "the letter")
    result = portalctl(service, "dead", "requeue", "--reason", "expired")
    assert result.status == FAILED and "JSON" in result.output and service.queue_depth(DEAD) == 1, result


@pytest.mark.refused
def test_a_requeued_request_is_as_its_sender_sent_it_with_a_new_deadline(service):
    service.emulator.product()
    service.emulator.fault("/v1/billing_portal/sessions", **NO_KEYS_LEFT)
    worker = service.start_worker()
    sent = service.request({"request_id": "r-1", "team_id": service.team(), "deadline": "2199-01-31T12:00:00Z"}, priority=3,
                           message_id="m-1", type="ask", app_id="shop", content_encoding="identity", user_id="sender",
                           expiration="3600000", headers={"traceparent": "00-ab-cd-01", "x-portal-generation": 1, "own": {"a": [1, "x"]}})
    service.wait_reply(sent)
    service.wait_empty()
    assert worker.stop() == 0
    began = time.time()
    assert portalctl(service, "dead", "requeue", "r-1", "--deadline", "10m").status == DONE
    assert service.queue_depth(DEAD) == 0
    method, properties, raw = service.channel.basic_get(REQUESTS, auto_ack=True)
    assert raw == sent.body
    assert (properties.message_id, properties.correlation_id, properties.reply_to) == ("m-1", sent.correlation_id, service.reply_to)
    assert (properties.priority, properties.type, properties.app_id, properties.content_encoding) == (3, "ask", "shop", "identity")
    assert properties.user_id == "portal" and properties.expiration is None and properties.delivery_mode == 2
    assert properties.headers["traceparent"] == "00-ab-cd-01" and properties.headers["own"] == {"a": [1, "x"]}
    assert properties.headers["x-portal-generation"] == 2
    deadline = time.strftime("%Y-%m-%dT%H:%M", time.gmtime(began + 600))
    assert properties.headers["x-portal-deadline"][:16] in (deadline, time.strftime("%Y-%m-%dT%H:%M", time.gmtime(began + 601)))
    assert set(properties.headers) == {"traceparent", "own", "x-portal-generation", "x-portal-deadline", "x-delivery-count"}


@pytest.mark.refused
def test_a_rate_is_kept_and_a_dry_run_does_nothing(service):
    fill(service, 8)
    dry = portalctl(service, "dead", "requeue", "--reason", "stripe_unavailable", "--dry-run")
    assert dry.status == DONE and "would requeue 8 letters" in dry.output and service.queue_depth(DEAD) == 40
    began = time.monotonic()
    result = portalctl(service, "dead", "requeue", "--reason", "stripe_unavailable", "--rate", "5", "--json")
    assert result.json == {"dry_run": False, "requeued": 8, "others": 32, "refused": 0, "refusals": {}}
    assert 1.2 < time.monotonic() - began < 15


@pytest.mark.refused
def test_killed_in_the_middle_of_requeueing_it_loses_none(service):
    fill(service, 100)
    for share in (10, 20):
        # Slow enough for the rest to be there still when a busy machine comes to look.
        requeueing = start(service, "dead", "requeue", "--reason", "stripe_unavailable", "--rate", "12")
        wait_until(lambda: service.queue_depth(REQUESTS) >= share, "a part of them", every=0.005)
        requeueing.kill()
        finish(requeueing)
    wait_until(lambda: service.bed.rabbitmq.connections() <= 3, "the connections to be gone")
    left = [letter for letter in listed(service) if letter["reason"] == "stripe_unavailable"]
    assert 0 < len(left) < 100
    assert portalctl(service, "dead", "requeue", "--reason", "stripe_unavailable", "--rate", "0").status == DONE
    assert reasons(listed(service)) == {kind: 100 for kind in KINDS if kind != "stripe_unavailable"}
    service.start_worker(PORTAL_TEAM_SENDERS="sender,portal")
    service.wait_empty()
    rows = {row["request_id"]: row for row in service.sessions()}
    assert all(rows[f"unavailable-{n}"]["outcome"] == "created" for n in range(100))
    assert all(rows[f"unavailable-{n}"]["generation"] == 2 for n in range(100)), "sent twice, it is one working"


@pytest.mark.refused
def test_a_broker_that_restarts_in_the_middle_of_requeueing_costs_only_time(service):
    fill(service, 100)
    requeueing = start(service, "dead", "requeue", "--reason", "stripe_unavailable", "--rate", "12")
    wait_until(lambda: service.queue_depth(REQUESTS) >= 20, "a part of them", every=0.01)
    service.bed.rabbitmq.restart()
    result = finish(requeueing, 90)
    assert result.status == DONE and "RabbitMQ is there again" in result.errors, result
    assert reasons(listed(service)) == {kind: 100 for kind in KINDS if kind != "stripe_unavailable"}
    service.start_worker(PORTAL_TEAM_SENDERS="sender,portal")
    service.wait_empty()
    rows = {row["request_id"]: row for row in service.sessions()}
    assert all(rows[f"unavailable-{n}"]["outcome"] == "created" for n in range(100))


@pytest.mark.refused
def test_ctrl_c_leaves_the_rest_where_it_is(service):
    fill(service, 30)
    requeueing = start(service, "dead", "requeue", "--reason", "stripe_unavailable", "--rate", "4")
    wait_until(lambda: service.queue_depth(REQUESTS) >= 5, "a part of them", every=0.01)
    requeueing.send_signal(2)
    result = finish(requeueing)
    assert result.status == INTERRUPTED and "the others are in portal.dead still" in result.errors, result
    done = int(re.search(r"(\d+) letters? (?:was|were) requeued", result.errors)[1])
    assert 5 <= done < 30
    wait_until(lambda: service.queue_depth(DEAD) + service.queue_depth(REQUESTS) in (150, 151), service.queues)


# --- dropping ---

@pytest.mark.refused
def test_only_what_was_named_is_dropped(service):
    fill(service, 3)
    assert portalctl(service, "dead", "drop", "--reason", "invalid_request").status == USAGE
    result = portalctl(service, "dead", "drop", "--reason", "invalid_request", "--yes")
    assert (result.status, result.output) == (DONE, "deleted 3 letters\n")
    assert portalctl(service, "dead", "drop", "expired-1", "--yes").output == "deleted 1 letter\n"
    assert reasons(listed(service)) == {"stripe_unavailable": 3, "reply_refused": 3, "forbidden_sender": 3, "expired": 2}
    missing = portalctl(service, "dead", "drop", "expired-1", "--yes")
    assert missing.status == FAILED and "expired-1" in missing.errors


@pytest.mark.refused
def test_a_person_is_asked_first(service):
    fill(service, 2)
    status, shown = on_terminal(service, "dead", "drop", "--all", answer=b"n\n")
    assert status == FAILED and "Delete 10 letters" in shown and "nothing was deleted" in shown
    assert service.queue_depth(DEAD) == 10
    status, shown = on_terminal(service, "dead", "drop", "--all", answer=b"y\n")
    assert status == DONE and "deleted 10 letters" in shown
    assert service.queue_depth(DEAD) == 0


def test_ctrl_c_is_an_answer_too(service):
    service.declare()
    service.request({"request_id": "r-1", "team_id": 1}, expiration="0", reply_to=None)
    wait_until(lambda: service.queue_depth(DEAD) == 1, "the letter")
    leader, follower = pty.openpty()
    dropping = start(service, "dead", "drop", "--all", stdin=follower, stderr=follower)
    os.close(follower)
    shown = b""
    while b"[y/N]" not in shown:
        shown += os.read(leader, 65536)
    dropping.send_signal(2)
    while b"nothing was deleted" not in shown:
        shown += os.read(leader, 65536)
    assert dropping.wait(PATIENCE) == INTERRUPTED
    dropping.stdout.close()
    os.close(leader)
    assert service.queue_depth(DEAD) == 1


def test_a_missing_right_to_publish_loses_no_letter(service):
    service.declare()
    service.request({"request_id": "r-1", "team_id": 1}, expiration="0", reply_to=None)
    wait_until(lambda: service.queue_depth(DEAD) == 1, "the letter")
    service.bed.rabbitmq.set_permissions(service.name, "portal", write="^$")
    try:
        result = portalctl(service, "dead", "requeue", "--all")
    finally:
        service.bed.rabbitmq.set_permissions(service.name, "portal")
    assert result.status == DENIED and service.queue_depth(DEAD) == 1, result
