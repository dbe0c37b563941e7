"""portalctl sessions, retry and purge: what was answered, and working it again."""

import datetime
import json
import os
import re
import signal
import time

import pytest

from bed.process import SANITIZED, wait_until
from bed.service import REQUESTS
from test_ctl import DENIED, DONE, FAILED, INTERRUPTED, LATE, UNAVAILABLE, finish, portalctl, start

REFUSAL = {"status": 400, "body": {"error": {"type": "invalid_request_error", "code": "odd", "message": "No such thing."}}}


@pytest.fixture
def answered(service):
    """Answers of every outcome, two of them of one team; and the worker goes on."""
    service.emulator.product()
    service.start_worker()
    teams = {"good": service.team(customer="cus_good"), "bad": service.team(customer="cus_bad"),
             "none": service.team(customer=None)}
    service.emulator.fault("/v1/billing_portal/sessions", match={"customer": "cus_bad"}, **REFUSAL)
    sent = [service.request({"request_id": name, "team_id": team}) for name, team in
            (("r-created", teams["good"]), ("r-failed", teams["bad"]), ("r-redirect", teams["none"]))]
    service.wait_replies(sent)
    service.ask({"request_id": "r-reused", "team_id": teams["good"]})
    service.ask({"request_id": "r-nobody", "user_id": 4711})
    service.teams_by_name = teams
    return service


def found(service, *arguments):
    result = portalctl(service, "sessions", "--json", *arguments)
    assert result.status == DONE, result
    return [row["request_id"] for row in result.lines]


# --- sessions ---

@pytest.mark.refused
def test_answers_are_found_by_what_they_are(answered):
    teams = answered.teams_by_name
    everything = {"r-created", "r-failed", "r-redirect", "r-reused", "r-nobody"}
    assert set(found(answered)) == everything and found(answered)[0] == "r-nobody", "the newest first"
    assert set(found(answered, "--team", str(teams["good"]))) == {"r-created", "r-reused"}
    assert found(answered, "--user", "4711") == ["r-nobody"]
    assert found(answered, "--outcome", "failed") == ["r-failed"]
    assert found(answered, "--code", "no_subscription") == ["r-redirect"]
    assert set(found(answered, "--since", "1h")) == everything and found(answered, "--until", "1h") == []
    middle = answered.session("r-reused")["answered_at"].astimezone(datetime.timezone.utc).isoformat()
    assert set(found(answered, "--since", middle)) == {"r-reused", "r-nobody"}
    assert set(found(answered, "--until", middle)) == everything - {"r-reused", "r-nobody"}
    assert found(answered, "--limit", "2") == ["r-nobody", "r-reused"]
    assert found(answered, "--team", str(teams["good"]), "--outcome", "reused") == ["r-reused"]
    assert set(found(answered, "r-created", "r-failed")) == {"r-created", "r-failed"}


@pytest.mark.refused
def test_a_url_is_shown_only_when_asked_for(answered):
    url = answered.session("r-created")["url"]
    for arguments in ([], ["--json"], ["r-created"]):
        result = portalctl(answered, "sessions", *arguments)
        assert url not in result.output and answered.session("r-created")["session_id"] in result.output
    assert url in portalctl(answered, "sessions", "--show-url").output
    [row] = portalctl(answered, "sessions", "--show-url", "--json", "r-created").lines
    assert row["url"] == url and row["customer"] == "cus_good" and row["stands"] is True


@pytest.mark.refused
def test_a_failure_says_why(answered):
    result = portalctl(answered, "sessions", "--outcome", "failed")
    assert re.search(r"r-failed +1 +failed stripe_error +\d+ +- +.*No such thing", result.output), result


def test_a_request_that_was_not_answered_is_named(service):
    result = portalctl(service, "sessions", "r-1")
    assert result.status == FAILED and "r-1" in result.errors
    assert portalctl(service, "sessions").status == DONE


def fill(service, count):
    """So many old answers, r-1, r-2, …"""
    service.query(f"""INSERT INTO portal.sessions (request_id, generation, ask, answer, outcome, code, fresh, account, livemode,
                          answered_at, stands_until, body, properties, written)
                      SELECT 'r-' || n, 1, '{{}}', '{{}}', 'failed', 'team_not_found', false, 'default', false,
                          now() - interval '60 days', now() - interval '60 days', '{{}}', '{{}}', 'x'
                      FROM generate_series(1, {count}) n""")


def test_all_that_are_named_are_found_however_many(service):
    fill(service, 60)
    names = [f"r-{n}" for n in range(1, 61)]
    assert set(found(service, *names)) == set(names)
    cut = portalctl(service, "sessions", "--limit", "2", *names)
    assert cut.status == DONE and cut.errors == "the newest 2; --limit shows more\n", "that says nothing of the others"
    result = portalctl(service, "sessions", "--json", "r-61", *names)
    assert (result.status, len(result.lines)) == (FAILED, 60)
    assert result.errors == "portalctl: r-61: there is no answer to such a request\n"


def test_that_there_is_more_is_said_only_where_there_is(service):
    fill(service, 50)
    assert portalctl(service, "sessions").errors == ""
    assert portalctl(service, "sessions", "--limit", "49").errors == "the newest 49; --limit shows more\n"


def test_many_answers_take_no_more_memory_than_few(service):
    fill(service, 50_000)
    listing = start(service, "sessions", "--json", "--limit", "1000000")
    for _ in range(49_000):  # what is left is too much for the pipe
        json.loads(listing.stdout.readline())
    [peak] = re.findall(r"^VmHWM:\s*(\d+) kB", open(f"/proc/{listing.pid}/status").read(), re.MULTILINE)
    assert SANITIZED or int(peak) < 16 * 1024
    listing.stdout.close()
    assert (listing.wait(), listing.stderr.read()) == (FAILED, ""), "whoever reads no further needs no word"
    listing.stderr.close()


# --- retry ---

@pytest.mark.refused
def test_a_failure_is_worked_again_as_the_next_generation(answered):
    answered.emulator.clear_faults()
    result = portalctl(answered, "retry", "r-failed")
    assert result.status == DONE and re.search(r"r-failed +2 +created +bps_", result.output), result
    row = answered.session("r-failed")
    assert (row["generation"], row["outcome"]) == (2, "created")
    wait_until(lambda: (answered.poll(), [r for r in answered.replies if r["request_id"] == "r-failed" and r["generation"] == 2])[1],
               "the reply, where the sender waits for it")


@pytest.mark.refused
def test_what_fails_again_or_cannot_be_retried_is_said(answered):
    result = portalctl(answered, "retry", "--json", "r-failed", "r-created", "r-unknown")
    assert result.status == FAILED
    assert (result.json["request_id"], result.json["outcome"], result.json["generation"]) == ("r-failed", "failed", 2)
    assert "r-created: was answered with a session" in result.errors and "r-unknown" in result.errors
    forced = portalctl(answered, "retry", "--force", "r-created")
    assert forced.status == DONE and answered.session("r-created")["generation"] == 2, forced


@pytest.mark.refused
def test_a_retry_has_a_new_deadline_and_the_trace_of_the_request(service):
    worker = service.start_worker()
    service.ask({"request_id": "r-1", "team_id": 2_000_000_000, "deadline": "2020-01-31T12:00:00Z"},
                headers={"traceparent": "00-ab-cd-01"}, message_id="m-1")
    assert worker.stop() == 0
    assert service.session("r-1")["code"] == "deadline_exceeded"
    result = portalctl(service, "retry", "--no-wait", "--deadline", "none", "r-1")
    assert (result.status, result.output) == (DONE, "sent 1 request\n")
    service.channel.basic_get(REQUESTS, auto_ack=True)
    result = portalctl(service, "retry", "--no-wait", "--deadline", "none", "--json", "r-1")
    assert (result.status, result.lines) == (DONE, [{"request_id": "r-1", "generation": 2}])
    method, properties, raw = service.channel.basic_get(REQUESTS, auto_ack=False)
    service.channel.basic_nack(method.delivery_tag)
    assert json.loads(raw)["request_id"] == "r-1" and properties.message_id == "m-1"
    assert properties.headers["x-portal-deadline"] == "none" and properties.headers["x-portal-generation"] == 2
    assert properties.headers["traceparent"] == "00-ab-cd-01" and properties.user_id == "portal"
    assert properties.reply_to == service.reply_to and abs(properties.timestamp - time.time()) < 60
    service.start_worker()
    service.wait_empty()
    assert service.session("r-1")["code"] == "team_not_found"


def test_without_a_worker_there_is_no_new_answer_in_time(service):
    worker = service.start_worker()
    service.ask({"request_id": "r-1", "team_id": 2_000_000_000})
    worker.stop()
    result = portalctl(service, "retry", "--timeout", "1s", "r-1")
    assert result.status == LATE and "r-1" in result.errors


def test_one_without_a_new_answer_hides_none_of_the_others(service):
    service.declare()
    fill(service, 3)
    retrying = start(service, "retry", "--timeout", "3s", "r-1", "r-2", "r-3")
    wait_until(lambda: service.queue_depth(REQUESTS) == 3, "the requests")
    service.query("UPDATE portal.sessions SET generation = 2 WHERE request_id = 'r-2'")
    result = finish(retrying)
    assert result.status == LATE and re.search(r"^r-2 +2 +failed team_not_found", result.output, re.MULTILINE), result
    assert "no new answer to r-1" in result.errors and "no new answer to r-3" in result.errors
    assert result.errors.count("portalctl status") == 1


@pytest.mark.slow
def test_a_database_that_stands_still_does_not_hold_a_retry(service):
    service.declare()
    fill(service, 1)
    retrying = start(service, "retry", "r-1")
    wait_until(lambda: service.queue_depth(REQUESTS) == 1, "the request")
    [backend] = service.query("SELECT pid FROM pg_stat_activity WHERE application_name = 'portalctl' AND datname = current_database()")
    os.kill(backend["pid"], signal.SIGSTOP)
    try:
        result = finish(retrying)
    finally:
        os.kill(backend["pid"], signal.SIGCONT)
    assert result.status == UNAVAILABLE and "PostgreSQL does not answer" in result.errors, result


def test_ctrl_c_ends_the_wait_for_a_new_answer(service):
    worker = service.start_worker()
    service.ask({"request_id": "r-1", "team_id": 2_000_000_000})
    worker.stop()
    retrying = start(service, "retry", "--deadline", "10m", "r-1")
    wait_until(lambda: service.queue_depth(REQUESTS) == 1, "the request")
    retrying.send_signal(2)
    result = finish(retrying)
    assert result.status == INTERRUPTED and "worked all the same" in result.errors, result


def test_a_retry_that_cannot_be_sent_is_told(service):
    worker = service.start_worker()
    service.ask({"request_id": "r-1", "team_id": 2_000_000_000})
    worker.stop()
    service.bed.rabbitmq.set_permissions(service.name, "portal", write="^$")
    try:
        assert portalctl(service, "retry", "r-1").status == DENIED
    finally:
        service.bed.rabbitmq.set_permissions(service.name, "portal")
    service.channel.queue_unbind(REQUESTS, "portal", "request")
    result = portalctl(service, "retry", "r-1")
    assert result.status == UNAVAILABLE and "no queue takes requests" in result.errors, result


# --- purge ---

@pytest.mark.refused
def test_old_rows_and_expired_urls_are_purged(answered):
    for worker in answered.workers:
        worker.stop()
    answered.query("UPDATE portal.sessions SET url_expires_at = now() - interval '1 second' WHERE request_id = 'r-reused'")
    answered.query("UPDATE portal.sessions SET answered_at = now() - interval '31 days', stands_until = now() - interval '1 day' "
                   "WHERE request_id = 'r-failed'")
    answered.query("UPDATE portal.sessions SET answered_at = now() - interval '8 days', stands_until = now() - interval '1 day' "
                   "WHERE request_id = 'r-redirect'")
    assert portalctl(answered, "purge", "--urls-only").output == "wiped 1 URL\n"
    assert portalctl(answered, "purge").output == "wiped 0 URLs, deleted 1 request\n"
    assert answered.session("r-failed") is None and answered.session("r-redirect") is not None
    assert portalctl(answered, "purge", "--older-than", "7d").output == "wiped 0 URLs, deleted 1 request\n"
    assert {row["request_id"] for row in answered.sessions()} == {"r-created", "r-reused", "r-nobody"}
    assert answered.session("r-reused")["url"] is None and answered.session("r-created")["url"] is not None


def test_many_rows_are_purged_in_steps(service):
    fill(service, 12_000)
    assert portalctl(service, "purge").output == "wiped 0 URLs, deleted 12000 requests\n"
    assert service.sessions() == []
