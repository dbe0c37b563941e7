"""SIGTERM: what is in hand is finished, the rest is given back, and the exit status is 0."""

import signal
import time

import pytest

from bed.emulator import CONFIGURATIONS, SESSIONS
from bed.outage import check_all_served, prepare, said, send, waiting, warm_up
from bed.process import wait_until
from bed.service import REQUESTS


@pytest.fixture
def serving(service):
    prepare(service)
    warm_up(service, PORTAL_CONCURRENCY=20, PORTAL_DRAIN_SECONDS=3)
    return service


def fill(service, count=60):
    """Requests in hand, and more in the queue."""
    sent = send(service, count, service.some)
    # All have to be there: on their way in, 40 may lie there before the worker has come.
    wait_until(lambda: service.queue_depth(REQUESTS) == count and waiting(service)[0] == count - 20, "20 to be in hand")
    return sent


def stop(worker, *signals):
    """Seconds until it ended, which it does with 0."""
    began = time.monotonic()
    for number in signals or (signal.SIGTERM,):
        worker.send(number)
        time.sleep(0.3)
    assert worker.wait(60) == 0
    return time.monotonic() - began


def finish_with_another(service, sent):
    service.emulator.clear_faults()
    service.worker = service.start_worker()
    check_all_served(service, sent)


def test_what_is_in_hand_is_finished_first(serving):
    serving.worker.stop()
    serving.worker = serving.start_worker(PORTAL_CONCURRENCY=20, PORTAL_DRAIN_SECONDS=30)
    serving.emulator.fault(SESSIONS, delay_ms=5000)
    sent = fill(serving)
    took = stop(serving.worker)
    print(f"ended after {took:.1f} s")
    assert took < 15, "no longer than the slowest call, three times over"
    wait_until(lambda: serving.poll(0.1) or len(serving.replies) >= 21, "the replies to what was in hand", every=0)
    assert len(serving.replies) == 21, "those in hand were answered, no other was taken in"
    assert waiting(serving) == (40, 0)
    assert "STOPPING=1" in serving.worker.told
    finish_with_another(serving, sent)
    assert len(serving.replies) == 61, "and none twice"


def test_what_cannot_be_finished_in_time_is_given_back(serving):
    serving.emulator.fault(SESSIONS, hang=True)
    sent = fill(serving)
    took = stop(serving.worker)
    print(f"ended after {took:.1f} s")
    assert 2.9 < took < 9
    assert said(serving.worker, "20 requests were given back")
    assert waiting(serving) == (60, 0)
    finish_with_another(serving, sent)


def test_a_second_signal_hurries(serving):
    serving.emulator.fault(SESSIONS, hang=True)
    sent = fill(serving)
    took = stop(serving.worker, signal.SIGTERM, signal.SIGTERM)
    print(f"ended after {took:.1f} s")
    assert took < 2.5
    assert waiting(serving) == (60, 0)
    finish_with_another(serving, sent)


def test_an_idle_worker_ends_at_once(serving):
    assert stop(serving.worker) < 3


@pytest.mark.parametrize("server", ["emulator", "postgres", "rabbitmq"])
@pytest.mark.parametrize("how", ["kill", "freeze"])
def test_without_one_of_its_servers_it_ends_in_time(serving, server, how):
    """Within PORTAL_DRAIN_SECONDS and a few more, whatever does not answer."""
    serving.worker.stop()
    serving.worker = serving.start_worker(PORTAL_CONCURRENCY=20, PORTAL_DRAIN_SECONDS=1)
    away = serving.emulator if server == "emulator" else getattr(serving.bed, server)
    serving.emulator.fault(SESSIONS, delay_ms=300)
    send(serving, 60, serving.some)
    wait_until(lambda: waiting(serving)[0] < 60, "some to be in hand")
    getattr(away, how)()
    took = stop(serving.worker)
    print(f"{server} {how}: ended after {took:.1f} s")
    assert took < 10
    if how == "freeze":
        away.thaw()


@pytest.mark.refused
def test_a_worker_with_a_wrong_key_ends_soon(service):
    """The restart that brings the right key does not wait for the wrong one as long as for work that goes on."""
    service.emulator.product()
    service.some = service.teams(20)
    service.declare()
    worker = service.start_worker(STRIPE_SECRET_KEY="sk_test_revoked", PORTAL_DRAIN_SECONDS=120)
    sent = send(service, 10, service.some)
    worker.wait_status("waiting for Stripe", "in hand")
    took = stop(worker)
    print(f"ended after {took:.1f} s")
    assert took < 10
    assert waiting(service) == (10, 0)
    finish_with_another(service, sent)


@pytest.mark.parametrize("server", ["emulator", "postgres"])
def test_what_waits_for_an_outage_is_given_back_soon(serving, server):
    """There is no hope of finishing it, and others may have it meanwhile."""
    serving.worker.stop()
    serving.worker = serving.start_worker(PORTAL_CONCURRENCY=20, PORTAL_DRAIN_SECONDS=60)
    away = serving.emulator if server == "emulator" else getattr(serving.bed, server)
    serving.emulator.fault(SESSIONS, hang=True)
    sent = fill(serving)
    away.kill()
    serving.worker.wait_status("waiting for")
    took = stop(serving.worker)
    print(f"{server} away: ended after {took:.1f} s")
    assert took < 10
    assert waiting(serving)[0] == 60
    away.start()
    serving.emulator.clear_faults()
    serving.worker = serving.start_worker()
    serving.wait_replies(sent, 60)
    serving.reconnect()
    check_all_served(serving, sent)


def test_a_worker_that_never_reached_its_servers_ends_at_once(service):
    service.declare()
    worker = service.start_worker(AMQP_URL="amqp://a:b@127.0.0.1:1/", DATABASE_URL="postgresql://a:b@127.0.0.1:1/x")
    worker.wait_status("waiting for", "RabbitMQ", "PostgreSQL")
    assert stop(worker) < 3


def test_the_drain_may_take_no_time(service):
    prepare(service)
    service.worker = service.start_worker(PORTAL_CONCURRENCY=20, PORTAL_DRAIN_SECONDS=0)
    service.declare()
    service.emulator.fault(SESSIONS, hang=True)
    sent = fill(service)
    assert stop(service.worker) < 5
    finish_with_another(service, sent)


def test_a_worker_that_stops_leaves_no_lease_behind(service):
    """Stopped while it looks for a configuration: the next one need not wait for the end of the lease."""
    service.emulator.product()
    team = service.team()
    service.declare()
    service.emulator.fault(CONFIGURATIONS, hang=True)
    worker = service.start_worker(PORTAL_DRAIN_SECONDS=0)
    sent = service.request({"team_id": team})
    wait_until(lambda: service.query("SELECT * FROM portal.configurations WHERE leased_by IS NOT NULL"), "the lease")
    assert stop(worker) < 5
    assert service.query("SELECT * FROM portal.configurations WHERE leased_by IS NOT NULL") == []
    service.emulator.clear_faults()
    service.start_worker()
    assert service.wait_reply(sent, 15)["outcome"] == "created"


def test_a_worker_that_is_stopped_while_it_connects_ends_in_order(service):
    """At any moment of its beginning."""
    service.declare()
    for number in range(30):
        worker = service.start_worker(ready=False)
        wait_until(lambda worker=worker: "runs as" in worker.text(), "it to run", every=0.001)
        time.sleep(number / 1000)
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0, worker.tail()
