"""While Stripe, PostgreSQL or RabbitMQ is away nothing happens; once it is back all goes on by itself, nothing is lost.
"""

import time

import pytest

from bed.outage import (RESUME_SECONDS, Usage, absorb, check_all_served, password, prepare, said, send,
                        wait_first_reply, wait_intake_closed, wait_queues, waiting, warm_up)
from bed.process import SANITIZED, wait_until
from bed.service import REQUESTS

CONCURRENCY = 64
CPU_A_MINUTE = 0.3


@pytest.fixture
def serving(service):
    """A worker that has served a request, and teams to ask for."""
    prepare(service)
    warm_up(service, PORTAL_CONCURRENCY=CONCURRENCY)
    return service


def hold_out(service, seconds, link, *words):
    """Sees the outage through: the worker says what it waits for, takes nothing in, and uses next to no processor."""
    worker = service.worker
    worker.wait_status("waiting for", link, *words)
    wait_intake_closed(service)
    usage = Usage(worker)
    time.sleep(seconds)
    used, lasted = usage.stop()
    left, _ = waiting(service)  # not before: the broker may have been taking in yet what was sent
    lines = said(worker, f"waiting for {link}")
    print(f"{link} away: {used:.2f} s of processor in {lasted:.0f} s; {len(lines)} lines; {left} requests in the queue")
    allowed = CPU_A_MINUTE * max(lasted, 20) / 60
    assert SANITIZED or used < allowed, f"{used} s of processor in {lasted} s"
    # One for each cause: the connection lost, the server on its way down, nobody there.
    assert 1 <= len(lines) <= 3 + 2 * lasted / 60, lines
    service.before = absorb(service)
    return left


def see_it_resume(service, sent, seconds=120):
    """All are answered, the first of them soon."""
    took = wait_first_reply(service, service.before, 4 * RESUME_SECONDS)
    print(f"the first reply came {took:.2f} s after the return")
    check_all_served(service, sent, seconds)
    assert took < RESUME_SECONDS
    assert service.worker.alive()


# ---- Stripe ----

STRIPE_OUTAGES = [pytest.param(4, 300, id="short"),
                  pytest.param(60, 2000, id="60s", marks=pytest.mark.slow)]


@pytest.mark.parametrize("seconds,count", STRIPE_OUTAGES)
def test_stripe_down_with_requests_queued(serving, seconds, count):
    serving.emulator.kill()
    sent = send(serving, count, serving.some)
    left = hold_out(serving, seconds, "Stripe")
    assert left >= count - CONCURRENCY, "what is not in hand stays in the queue"
    serving.emulator.start()
    see_it_resume(serving, sent)


@pytest.mark.refused
@pytest.mark.parametrize("seconds,count", STRIPE_OUTAGES)
def test_a_revoked_key_that_is_made_right(serving, seconds, count):
    serving.emulator.keys(accept=["sk_test_another"])
    sent = send(serving, count, serving.some)
    left = hold_out(serving, seconds, "Stripe", "STRIPE_SECRET_KEY")
    assert left >= count - CONCURRENCY
    assert said(serving.worker, "waiting for Stripe.*STRIPE_SECRET_KEY")
    serving.emulator.keys(accept=[serving.emulator.secret_key])
    see_it_resume(serving, sent)


@pytest.mark.refused
def test_a_key_without_the_right_pauses_too(serving):
    serving.emulator.keys(accept=[], restricted=[serving.emulator.secret_key])
    sent = send(serving, 10, serving.some)
    serving.worker.wait_status("waiting for", "Stripe", "STRIPE_SECRET_KEY")
    serving.before = absorb(serving)
    serving.emulator.keys(accept=[serving.emulator.secret_key], restricted=[])
    see_it_resume(serving, sent)


@pytest.mark.parametrize("seconds", [3, pytest.param(40, marks=pytest.mark.slow)])
def test_stripe_stands_still_with_its_sockets_open(serving, seconds):
    serving.emulator.freeze()
    sent = send(serving, 200, serving.some)
    if seconds > 20:
        hold_out(serving, seconds - 12, "Stripe", "does not answer")
    else:
        time.sleep(seconds)
        serving.before = absorb(serving)
    serving.emulator.thaw()
    see_it_resume(serving, sent)


def test_every_call_answered_500_is_an_outage(serving):
    serving.emulator.fault(status=500, save=False)
    sent = send(serving, 200, serving.some)
    hold_out(serving, 1, "Stripe", "500")
    serving.emulator.clear_faults()
    see_it_resume(serving, sent)


def test_sessions_fail_while_reads_do_not(serving):
    """Half an outage: nothing is dead-lettered, and the log does not fill."""
    serving.emulator.fault("/v1/billing_portal/sessions", status=503, save=False)
    sent = send(serving, 200, serving.some)
    serving.worker.wait_status("waiting for", "Stripe")
    calls = len(serving.emulator.session_calls())
    time.sleep(3)
    calls = len(serving.emulator.session_calls()) - calls
    print(f"{calls} calls in 3 s")
    assert calls < 20
    assert len(said(serving.worker, "waiting for Stripe|Stripe serves")) <= 2
    serving.before = absorb(serving)
    serving.emulator.clear_faults()
    see_it_resume(serving, sent)


def test_what_is_in_hand_too_long_is_given_back(service):
    prepare(service, teams=5)
    worker = warm_up(service, PORTAL_CONCURRENCY=20, PORTAL_HOLD_SECONDS=3)
    service.emulator.kill()
    sent = send(service, 50, service.some)
    wait_intake_closed(service)
    wait_until(lambda: waiting(service)[0] == 50, "all to be back in the queue")
    assert said(worker, r"\d+ requests were given back"), "some were in hand"
    usage = Usage(worker)
    time.sleep(2)
    assert waiting(service) == (50, 0), "and nothing is taken in again"
    assert SANITIZED or usage.stop()[0] < 0.1
    service.before = absorb(service)
    service.emulator.start()
    see_it_resume(service, sent)


def fail_sessions(service):
    """Result: what ends it."""
    service.emulator.fault("/v1/billing_portal/sessions", status=503, save=False)
    return service.emulator.clear_faults


def fill_disk(service):
    """Loading works, saving does not."""
    service.query("CREATE FUNCTION disk_full() RETURNS trigger LANGUAGE plpgsql AS "
                  "$$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = '53100'; END $$")
    service.query("CREATE TRIGGER disk_full BEFORE INSERT ON portal.sessions "
                  "FOR EACH STATEMENT EXECUTE FUNCTION disk_full()")
    return lambda: service.query("DROP TRIGGER disk_full ON portal.sessions")


@pytest.mark.parametrize("begin", [fail_sessions, fill_disk])
def test_in_half_an_outage_a_read_that_serves_lets_in_one_and_not_all(service, begin):
    """What was given back does not come again as a whole, to be held and given back again."""
    prepare(service, teams=5)
    worker = warm_up(service, PORTAL_CONCURRENCY=20, PORTAL_HOLD_SECONDS=3)
    end = begin(service)
    sent = send(service, 50, service.some)
    wait_until(lambda: said(worker, "requests were given back"), "the first ones to be given back")
    most, ends = 0, time.monotonic() + 5
    while time.monotonic() < ends:
        time.sleep(0.2)
        most = max(most, 50 - waiting(service)[0])
    print(f"at most {most} in hand after that")
    assert 1 <= most <= 6, "somebody is always asking, and not everybody"
    service.before = absorb(service)
    end()
    see_it_resume(service, sent)


# ---- PostgreSQL ----

@pytest.fixture
def busy(serving):
    """Requests at every stage: Stripe takes its time."""
    serving.emulator.fault("/v1/billing_portal/sessions", delay_ms={"uniform": [1, 200]})
    serving.sent = send(serving, 150, serving.some)
    wait_until(lambda: (serving.poll(), len(serving.replies) > 20)[1], "some replies", every=0.005)
    return serving


@pytest.mark.parametrize("end,seconds", [("stop", 1), ("kill", 1),
                                         pytest.param("stop", 40, marks=pytest.mark.slow),
                                         pytest.param("kill", 40, marks=pytest.mark.slow)])
def test_postgresql_away_and_back(busy, end, seconds):
    postgres = busy.bed.postgres
    getattr(postgres, end)()
    busy.sent += send(busy, 150, busy.some)
    hold_out(busy, seconds, "PostgreSQL")
    postgres.start()
    postgres.wait_ready()
    busy.reconnect()
    see_it_resume(busy, busy.sent)


@pytest.mark.parametrize("seconds", [3, pytest.param(40, marks=pytest.mark.slow)])
def test_postgresql_stands_still(busy, seconds):
    busy.bed.postgres.freeze()
    busy.sent += send(busy, 150, busy.some)
    if seconds > 30:
        hold_out(busy, seconds - 12, "PostgreSQL", "did not answer")
    else:
        time.sleep(seconds)
        busy.before = absorb(busy)
    busy.bed.postgres.thaw()
    see_it_resume(busy, busy.sent)


@pytest.mark.parametrize("take,give,words", [
    ("REVOKE INSERT ON portal.sessions FROM portal_worker", "GRANT INSERT ON portal.sessions TO portal_worker",
     ["DATABASE_URL"]),
    ("REVOKE SELECT ON portal.application_teams FROM portal_worker",
     "GRANT SELECT ON portal.application_teams TO portal_worker", ["DATABASE_URL"]),
    ("REVOKE USAGE ON SCHEMA portal FROM portal_worker", "GRANT USAGE ON SCHEMA portal TO portal_worker",
     ["DATABASE_URL"]),
    ("ALTER VIEW portal.application_teams RENAME TO elsewhere",
     "ALTER VIEW portal.elsewhere RENAME TO application_teams", ["portalctl migrate"]),
], ids=["insert", "view", "schema", "renamed"])
def test_a_right_that_is_missing_for_a_while(serving, take, give, words):
    serving.query(take)
    sent = send(serving, 100, serving.some)
    hold_out(serving, 1, "PostgreSQL", *words)
    serving.query(give)
    see_it_resume(serving, sent)


def test_a_wrong_password_for_a_while(serving):
    with password(serving.bed, "portal", "changed"):
        sent = send(serving, 100, serving.some)
        hold_out(serving, 1, "PostgreSQL", "password", "DATABASE_URL")
    see_it_resume(serving, sent)


def test_a_statement_that_fails_for_all_is_an_outage(serving):
    end = fill_disk(serving)
    sent = send(serving, 100, serving.some)
    serving.worker.wait_status("waiting for", "PostgreSQL", "53100")
    time.sleep(2)
    assert len(said(serving.worker, "waiting for PostgreSQL")) == 1
    serving.before = absorb(serving)
    end()
    see_it_resume(serving, sent)


def test_a_worker_says_at_once_what_it_waits_for_when_it_starts(service):
    service.declare()
    with password(service.bed, "portal", "changed"):
        worker = service.start_worker()
        wait_until(lambda: said(worker, "waiting for PostgreSQL.*DATABASE_URL"), lambda: f"a line\n{worker.text()}", 10)


# ---- RabbitMQ ----

def rabbitmq_returns(service):
    service.bed.rabbitmq.start()
    service.bed.rabbitmq.wait_ready()
    wait_queues(service)


@pytest.mark.parametrize("end,seconds", [("kill", 1), pytest.param("stop", 40, marks=pytest.mark.slow),
                                         pytest.param("kill", 40, marks=pytest.mark.slow)])
def test_rabbitmq_away_and_back(busy, end, seconds):
    """The sender's own queue is gone with its connection, so replies are asked for in a queue that stays."""
    service = busy
    rabbitmq = service.bed.rabbitmq
    service.wait_replies(service.sent, 60)
    for number in range(150):
        service.request({"request_id": f"away-{number}", "team_id": service.some[number % 20], "fresh": True},
                        reply_to="portal.replies", correlation_id=f"away-{number}")
    getattr(rabbitmq, end)()
    usage = Usage(service.worker)
    service.worker.wait_status("waiting for", "RabbitMQ")
    time.sleep(seconds)
    used, lasted = usage.stop()
    print(f"RabbitMQ away: {used:.2f} s of processor in {lasted:.0f} s")
    assert SANITIZED or used < CPU_A_MINUTE * max(lasted, 30) / 60
    rabbitmq_returns(service)
    service.connect()
    began = time.monotonic()
    service.wait_empty(REQUESTS, 60)
    print(f"all were acknowledged {time.monotonic() - began:.1f} s after the return")
    check_replies_in_queue(service, {f"away-{number}" for number in range(150)})


def check_replies_in_queue(service, names):
    """Every one is answered at least once, all answers say the same, and that is what the store has."""
    taken, sessions = set(), {}

    def complete():
        for reply in service.take("portal.replies"):
            service.replies.append(reply)
            assert reply["outcome"] == "created"
            assert sessions.setdefault(reply["request_id"], reply["session"]["id"]) == reply["session"]["id"]
            taken.add(reply["request_id"])
        return names <= taken

    wait_until(complete, lambda: f"replies to {sorted(names - taken)[:5]}…\n{service.logs()}", 60)
    stored = {row["request_id"]: row["session_id"] for row in service.sessions()}
    assert all(stored[name] == sessions[name] for name in names)
    assert service.dead_letters() == []


@pytest.mark.parametrize("seconds", [3, pytest.param(70, marks=pytest.mark.slow)])
def test_rabbitmq_stands_still(serving, seconds):
    rabbitmq = serving.bed.rabbitmq
    sent = send(serving, 200, serving.some)
    rabbitmq.freeze()
    usage = Usage(serving.worker)
    if seconds > 30:
        serving.worker.wait_status("waiting for", "RabbitMQ", seconds=60)
    time.sleep(seconds if seconds < 30 else 10)
    used, lasted = usage.stop()
    rabbitmq.thaw()
    print(f"RabbitMQ still: {used:.2f} s of processor in {lasted:.0f} s")
    assert SANITIZED or used < CPU_A_MINUTE * max(lasted, 40) / 60
    check_all_served(serving, sent)


def test_connections_cut_in_mid_drain(busy):
    """By an operator, three times; the sender keeps its own."""
    for _ in range(3):
        busy.bed.rabbitmq.evaluate(
            '[rabbit_networking:close_connection(P, "cut by the test") || P <- rabbit_networking:connections(), '
            '[{user, <<"portal">>}] =:= rabbit_networking:connection_info(P, [user])], 0')
        busy.sent += send(busy, 50, busy.some)
        wait_until(lambda: waiting(busy)[1] > 0, "the consumer to be back")
    check_all_served(busy, busy.sent)


# ---- several at once ----

def test_all_three_away_at_once(serving):
    bed = serving.bed
    for number in range(50):
        serving.request({"request_id": f"all-{number}", "team_id": serving.some[0], "fresh": True},
                        reply_to="portal.replies")
    serving.emulator.kill()
    bed.postgres.kill()
    bed.rabbitmq.kill()
    serving.worker.wait_status("RabbitMQ")
    serving.emulator.start()
    bed.postgres.start()
    rabbitmq_returns(serving)
    bed.postgres.wait_ready()
    serving.connect()
    serving.reconnect()
    serving.wait_empty(REQUESTS, 60)
    check_replies_in_queue(serving, {f"all-{number}" for number in range(50)})


def test_two_workers_share_an_outage(serving):
    second = serving.start_worker(PORTAL_CONCURRENCY=CONCURRENCY)
    serving.emulator.kill()
    sent = send(serving, 300, serving.some)
    hold_out(serving, 2, "Stripe")
    second.wait_status("waiting for", "Stripe")
    serving.emulator.start()
    see_it_resume(serving, sent)
