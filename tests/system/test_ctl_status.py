"""portalctl status and check: how things are, and whether all is set up as it has to be."""

import json
import os
import pty
import re

import pytest

from bed.process import wait_until
from bed.service import REPLIES, REQUESTS
from test_ctl import DONE, FAILED, SETTINGS, UNAVAILABLE, finish, on_terminal, portalctl, start


@pytest.fixture
def serving(service):
    service.emulator.product()
    service.start_worker()
    service.declare()
    wait_until(lambda: service.query("SELECT 1 FROM portal.workers"), "a sign of life")
    return service


# --- status ---

def test_one_screen_says_how_things_are(serving):
    serving.ask({"team_id": serving.team()})
    serving.ask({"team_id": 2_000_000_000})
    serving.request(raw=b"x", reply_to=None)
    serving.wait_empty()
    result = portalctl(serving, "status")
    name = serving.query("SELECT name FROM portal.workers")[0]["name"]
    assert result.status == DONE, result
    assert re.search(rf"^{re.escape(name)} +(ready|working) +0 of 256 ", result.output, re.MULTILINE)
    assert re.search(r"^portal.requests +0 +1$", result.output, re.MULTILINE)
    assert re.search(r'^portal.dead +1 +0 +"portalctl dead list"', result.output, re.MULTILINE)
    assert re.search(r"Answered in the last 5 minutes: .*1 created", result.output)
    assert "1 failed team_not_found" in result.output
    status = portalctl(serving, "status", "--json").json
    assert status["broker"]["queues"][REQUESTS] == {"waiting": 0, "consumers": 1}
    assert status["database"]["workers"][0]["name"] == name
    assert {(one["outcome"], one["code"], one["count"]) for one in status["database"]["outcomes"]} == \
        {("created", None, 1), ("failed", "team_not_found", 1)}


def test_the_limit_for_calls_to_stripe_is_shown(service):
    service.emulator.product()
    service.start_worker(STRIPE_RATE_LIMIT="20")
    service.ask({"team_id": service.team()})
    limits = portalctl(service, "status", "--json").json["database"]["limits"]
    assert {limit["per_second"] for limit in limits} == {20} and {limit["account"] for limit in limits} == {"default"}
    row = r"^sessions +default, test +(\d\.\d) +20/s +\d\.\d s"
    assert re.search(row, portalctl(service, "status").output, re.MULTILINE)

    def rate():
        return float(re.search(row, portalctl(service, "status").output, re.MULTILINE)[1])

    wait_until(lambda: service.ask({"team_id": service.team()}) and rate() > 0, "a sign of life that tells of calls", every=0.5)
    service.workers[0].kill()
    service.query("UPDATE portal.workers SET state = jsonb_set(state, '{settings,namespace}', '\"other\"')")
    assert rate() == 0, "those calls are of another account"
    service.query("UPDATE portal.tokens SET slowed_until = now() + interval '30 seconds'")
    assert re.search(r"slowed down for (2\d|30) s", portalctl(service, "status").output)


def test_a_worker_that_waits_says_for_what_and_since_when(serving):
    serving.workers[0].kill()  # its next sign of life would tell the truth
    serving.query("UPDATE portal.workers SET state = jsonb_set(state, '{waiting_for,stripe}', "
                  "'{\"cause\": \"the key is not valid\", \"seconds\": 75}')")
    result = portalctl(serving, "status")
    assert result.status == FAILED and " paused " in result.output
    assert re.search(r"waits for Stripe since 75 s: the key is not valid", result.output), result


def test_a_worker_that_fell_silent_is_told_from_one_that_lives(serving):
    serving.workers[0].kill()
    serving.query("UPDATE portal.workers SET seen_at = now() - interval '2 minutes'")
    result = portalctl(serving, "status")
    assert result.status == FAILED and " silent " in result.output and "ended without a word" in result.output
    assert "nobody takes requests" in result.output
    serving.query("UPDATE portal.workers SET seen_at = now() - interval '1 hour'")
    assert "no worker was heard of" in portalctl(serving, "status").output


def test_a_worker_that_ended_in_order_is_no_concern(serving):
    other = serving.start_worker()
    wait_until(lambda: len(portalctl(serving, "status", "--json").json["database"]["workers"]) == 2, "two workers")
    assert other.stop() == 0
    [worker] = portalctl(serving, "status", "--json").json["database"]["workers"]
    assert not worker["state"]["ended"] and worker["state"]["pid"] == serving.workers[0].pid
    serving.query("UPDATE portal.workers SET seen_at = now() - interval '2 minutes' WHERE state -> 'ended' = 'true'")
    assert portalctl(serving, "status").status == DONE and "silent" not in portalctl(serving, "status").output
    assert serving.workers[0].stop() == 0
    assert "no worker was heard of" in portalctl(serving, "status").output


def test_half_of_it_is_shown_where_only_half_can_be_asked(serving):
    no_broker = portalctl(serving, "status", AMQP_URL="amqp://x:top5ecret@127.0.0.1:1/")
    assert no_broker.status == UNAVAILABLE and "RabbitMQ can't be asked" in no_broker.output
    assert '"portalctl check" says what to do' in no_broker.output
    assert " 0 of 256 " in no_broker.output and "5ecret" not in no_broker.output + no_broker.errors
    no_database = portalctl(serving, "status", DATABASE_URL=None, **{})
    assert no_database.status == UNAVAILABLE and "DATABASE_URL is not set" in no_database.output
    assert "portal.requests" in no_database.output
    neither = portalctl(serving, "status", DATABASE_URL=None, AMQP_URL=None, PORTALCTL_SETTINGS="/nowhere")
    assert (neither.status, neither.output) == (SETTINGS, "")
    assert "AMQP_URL is not set" in neither.errors and "DATABASE_URL is not set" in neither.errors
    assert "/etc/portal-worker" in neither.errors


def test_what_each_worker_does_and_waits_for_is_told(service):
    states = {"w-idle": {}, "w-busy": {"in_hand": 5, "oldest_ms": 1500, "settings": {"concurrency": 9}},
              "w-stopping": {"draining": True, "in_hand": 1, "started_at": 4_000_000_000},
              "w-broker": {"waiting_for": {"broker": {"cause": "no route", "seconds": 7200}, "store": None, "stripe": None}},
              "w-store": {"waiting_for": {"broker": None, "store": {"cause": "it is full", "seconds": 600}}}}
    for name, state in states.items():
        service.query("INSERT INTO portal.workers (name, state) VALUES (%s, %s)", [name, json.dumps(state)])
    service.query("INSERT INTO portal.tokens (account, livemode, endpoint, next_at, spacing_us) VALUES ('a', true, 'prices', now(), 0)")
    result = portalctl(service, "status")
    assert result.status == FAILED
    for name, words in (("idle", "ready +0 of 0"), ("busy", r"working +5 of 9 +0\.0 +1\.5 s"), ("stopping", "stopping .* 0 s +"),
                        ("broker", "paused"), ("store", "paused")):
        assert re.search(rf"^w-{name} +{words}", result.output, re.MULTILINE), (name, result)
    assert "w-broker waits for RabbitMQ since 2 h: no route\n" in result.output
    assert "w-store waits for PostgreSQL since 10 min: it is full\n" in result.output
    assert re.search(r"^prices +a, live +0\.0 +none +0\.0 s$", result.output, re.MULTILINE), result
    assert re.search(r"^portal.requests +missing +- +a worker that starts declares it$", result.output, re.MULTILINE)
    service.query("DROP SCHEMA portal CASCADE")
    result = portalctl(service, "status")
    assert result.status == UNAVAILABLE and "PostgreSQL can't be asked: relation" in result.output


def test_watching_on_a_terminal_redraws_the_screen_until_ctrl_c(serving):
    leader, follower = pty.openpty()
    watching = start(serving, "status", "--watch=1s", stdout=follower, env={"TERM": "xterm"})
    os.close(follower)
    shown = b""
    while shown.count(b"\033[H\033[J") < 2:
        shown += os.read(leader, 65536)
    watching.send_signal(2)
    assert finish(watching).status == DONE and b"\033[1mportal-worker" in shown
    os.close(leader)


def test_it_can_be_watched(serving):
    watching = start(serving, "status", "--watch=1s", "--json")
    lines = [json.loads(watching.stdout.readline()) for _ in range(3)]
    assert len({line["at"] for line in lines}) == 3
    serving.bed.rabbitmq.close_connections()
    assert json.loads(watching.stdout.readline())["at"]
    wait_until(lambda: json.loads(watching.stdout.readline())["broker"].get("error") is None, "it to be connected again")
    serving.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'portalctl'")
    told = [json.loads(watching.stdout.readline())["database"] for _ in range(3)]
    assert told[-1].get("error") is None and told[-1]["workers"], told
    watching.send_signal(2)
    finish(watching)
    assert watching.returncode in (DONE, FAILED, UNAVAILABLE)


# --- check ---

def lines(result):
    """What was looked at, and how it is."""
    return {line["what"]: line for line in result.lines}


@pytest.mark.refused
def test_all_is_well_where_all_is_well(serving):
    result = portalctl(serving, "check", "--json")
    assert result.status == DONE, result
    found = lines(result)
    assert {line["result"] for line in found.values()} == {"ok"}
    assert set(found) >= {"settings", "RabbitMQ", "exchange portal", "queue portal.requests", "queue portal.dead",
                          "queue portal.replies", "PostgreSQL", "schema, migrations and rights", "Stripe", "workers",
                          "portal configuration", "right to make portal sessions", "right to publish requests"}
    assert "test mode, secret key" in found["Stripe"]["detail"]
    table = portalctl(serving, "check").output
    assert len(table.splitlines()) == len(found) and all(line.startswith("ok    ") for line in table.splitlines())
    counters = serving.emulator.counters()
    assert counters["sessions_made"] == 0 and counters["configurations_made"] == 0, "nothing is made"
    assert serving.queues() == {REQUESTS: 0, "portal.dead": 0, REPLIES: 0}


@pytest.mark.refused
@pytest.mark.parametrize("changes, what, fix", [
    ({"AMQP_URL": "amqp://x:top5ecret@127.0.0.1:1/"}, "RabbitMQ", "is it running"),
    ({"DATABASE_URL": "postgresql://x:top5ecret@127.0.0.1:1/x"}, "PostgreSQL", "is it running"),
    ({"STRIPE_SECRET_KEY": "sk_test_top5ecret"}, "Stripe", "the key"),
    ({"STRIPE_API_BASE": "http://127.0.0.1:1"}, "Stripe", "STRIPE_API_BASE"),
    ({"PORTAL_REPLIES_MAX_LENGTH": "5"}, "queue portal.replies", "delete"),
    ({"PORTAL_CONFIGURATION": "bpc_unknown"}, "portal configuration", "PORTAL_CONFIGURATION"),
    ({"BASE_URL": None}, "settings", "portal-worker --help"),
    ({"PORTAL_CONCURRENCY": "many"}, "settings", "portal-worker --help"),
])
def test_what_is_wrong_is_named_with_a_fix(serving, changes, what, fix):
    result = portalctl(serving, "check", "--json", **changes)
    assert result.status == FAILED and "5ecret" not in result.output + result.errors
    line = lines(result)[what]
    assert line["result"] == "FAIL" and fix in line["fix"], result
    shown = portalctl(serving, "check", **changes).output
    assert re.search(rf"^FAIL  {what}: .* → .*{fix}", shown, re.MULTILINE), shown


@pytest.mark.refused
def test_what_is_only_doubtful_is_a_note(serving):
    serving.request(raw=b"x", reply_to=None)
    serving.wait_empty()
    assert serving.workers[0].stop() == 0
    serving.emulator.fault("/v1/prices", status=503, body={})
    serving.emulator.keys(accept=["sk_live_portal_emulator"])
    result = portalctl(serving, "check", "--json", STRIPE_SECRET_KEY="sk_live_portal_emulator", PORTAL_CONFIGURATION="per-product",
                       PORTAL_CONCURENCY="5")
    assert result.status == DONE, result
    found = lines(result)
    assert {what for what, line in found.items() if line["result"] == "note"} == \
        {"dead letters", "consumers", "workers", "right to read prices"}
    assert found["dead letters"]["detail"] == "1 lie in portal.dead" and "dead list" in found["dead letters"]["fix"]
    assert found["consumers"]["detail"] == "nobody takes requests; 0 wait"
    assert found["workers"]["detail"] == "none is alive" and found["right to read prices"]["detail"] == "Stripe answered 503"
    assert "live mode" in found["Stripe"]["detail"] and "one for each product" in found["portal configuration"]["detail"]
    assert "PORTAL_CONCURENCY" in result.output and "FAIL" not in result.output


@pytest.mark.refused
def test_a_user_without_rights_in_the_database_is_named(serving):
    serving.query("CREATE ROLE stranger_of_portal LOGIN PASSWORD 'x'")
    try:
        url = serving.bed.postgres.url(serving.name, "stranger_of_portal", "x")
        line = lines(portalctl(serving, "check", "--json", DATABASE_URL=url))["schema, migrations and rights"]
    finally:
        serving.query("DROP ROLE stranger_of_portal")
    assert line["result"] == "FAIL" and "GRANT portal_worker" in line["fix"]
    line = lines(portalctl(serving, "check", "--json", DATABASE_URL=serving.database_url + "_absent"))["PostgreSQL"]
    assert line["result"] == "FAIL" and line["fix"] == "put user, password and database in DATABASE_URL right"
    line = lines(portalctl(serving, "check", "--json", AMQP_URL=serving.amqp_url + "_absent"))["RabbitMQ"]
    assert line["result"] == "FAIL" and "virtual host in AMQP_URL" in line["fix"]


@pytest.mark.refused
def test_missing_queues_migrations_and_rights_are_named_one_by_one(service):
    service.query("DELETE FROM portal.migrations WHERE number = (SELECT max(number) FROM portal.migrations)")
    found = lines(portalctl(service, "check", "--json"))
    for what in ("exchange portal", "queue portal.requests", "queue portal.dead", "queue portal.replies"):
        assert (found[what]["result"], found[what]["detail"]) == ("FAIL", "is missing"), found
    assert "portalctl migrate" in found["schema, migrations and rights"]["fix"]
    assert service.queues() == {}, "and none was made"


@pytest.mark.refused
def test_rights_that_are_missing_are_named(serving):
    serving.emulator.keys(accept=["sk_test_portal_emulator"], restricted=["rk_test_limited"])
    serving.query("REVOKE SELECT ON portal.suspects FROM portal_worker")
    serving.bed.rabbitmq.set_permissions(serving.name, "portal", write="^portal$")
    try:
        found = lines(portalctl(serving, "check", "--json"))
    finally:
        serving.bed.rabbitmq.set_permissions(serving.name, "portal")
        serving.query("GRANT SELECT ON portal.suspects TO portal_worker")
    assert found["right to publish requests"]["result"] == "ok"
    assert found["right to publish replies and dead letters"]["result"] == "FAIL"
    assert "set_permissions" in found["right to publish replies and dead letters"]["fix"]
    assert found["schema, migrations and rights"]["result"] == "FAIL"
    assert "GRANT portal_worker" in found["schema, migrations and rights"]["fix"]
    limited = lines(portalctl(serving, "check", "--json", STRIPE_SECRET_KEY="rk_test_limited"))
    assert limited["Stripe"]["result"] == "FAIL"


@pytest.mark.refused
def test_a_right_that_a_restricted_key_lacks_is_named(serving):
    serving.emulator.fault("/v1/billing_portal/sessions", status=403,
                           body={"error": {"type": "invalid_request_error", "message": "The provided key has no right."}})
    found = lines(portalctl(serving, "check", "--json"))
    line = found["right to make portal sessions"]
    assert line["result"] == "FAIL" and "Customer portal: Write" in line["fix"]
    assert found["right to make portal configurations"]["result"] == "ok"


@pytest.mark.refused
def test_an_inactive_configuration_is_no_good(serving):
    serving.emulator.data({"configurations": [{"id": "bpc_old", "active": False}, {"id": "bpc_new"}]})
    found = lines(portalctl(serving, "check", "--json", PORTAL_CONFIGURATION="bpc_old"))
    assert found["portal configuration"]["detail"] == "bpc_old is not active"
    found = lines(portalctl(serving, "check", "--json", PORTAL_CONFIGURATION="bpc_new"))
    assert found["portal configuration"]["detail"] == "bpc_new, for all"
    assert lines(portalctl(serving, "check", "--json"))["portal configuration"]["detail"] == "bpc_new"


@pytest.mark.refused
def test_check_on_a_terminal_has_colours(serving):
    status, shown = on_terminal(serving, "check", BASE_URL="")
    assert status == FAILED and "\033[32mok" in shown and "\033[31mFAIL" in shown
