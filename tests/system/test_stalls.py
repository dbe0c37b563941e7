"""A broker that takes what it is sent and does not answer, as with a queue that has lost the majority of its nodes."""

import time

import pytest

from bed.cluster import ClusterBed
from bed.outage import Usage, check_all_served, prepare, said, send, wait_intake_closed
from bed.process import SANITIZED, wait_until
from bed.service import REPLIES, REQUESTS

OTHER = "portal.replies.other"
STALL_SECONDS = 40  # the worker's patience is 10


@pytest.fixture
def prepared(service):
    prepare(service)
    service.declare()
    return service


def send_to(service, queue, count):
    """Requests whose replies go there; returns their ids."""
    return {service.request({"team_id": service.some[n % 20], "fresh": True}, reply_to=queue).request_id
            for n in range(count)}


def use(service, queue):
    """The first message to a quorum queue has RabbitMQ's channel wait for it, for 30 s; later ones do not."""
    check_replied(service, queue, send_to(service, queue, 1))


def check_replied(service, queue, names):
    """Each was answered there, always the same, and as the store has it."""
    missing = set(names)

    def complete():
        for reply in service.take(queue):
            assert reply["session"]["id"] == service.session(reply["request_id"])["session_id"]
            missing.discard(reply["request_id"])
        return not missing

    wait_until(complete, lambda: f"replies to {missing}\n{service.logs()}")
    assert service.dead_letters() == []


def test_replies_that_are_not_confirmed_are_an_outage(prepared):
    service = prepared
    worker = service.start_worker(PORTAL_HOLD_SECONDS=3)
    use(service, REPLIES)
    with service.bed.rabbitmq.stalled(service.name, REPLIES):
        names = send_to(service, REPLIES, 5)
        worker.wait_status("waiting for", "RabbitMQ", "not confirmed", seconds=STALL_SECONDS)
        wait_intake_closed(service)
        wait_until(lambda: said(worker, "5 requests were given back"), "them to be given back")
        # Nobody waits for it any more: it tries again, over a new connection.
        wait_until(lambda: said(worker, "RabbitMQ serves again"), "another try", 10)
    check_replied(service, REPLIES, names)
    service.wait_empty(REQUESTS)
    assert len(said(worker, "waiting for RabbitMQ")) == 1


@pytest.mark.slow
def test_a_reply_that_is_confirmed_late_is_there_once(prepared):
    service = prepared
    worker = service.start_worker()
    with service.bed.rabbitmq.stalled(service.name, REPLIES):
        send_to(service, REPLIES, 5)
        worker.wait_status("waiting for", "RabbitMQ", "not confirmed", seconds=STALL_SECONDS)
        wait_intake_closed(service)
        queued = send(service, 20, service.some)
    check_all_served(service, queued)
    assert len(service.take(REPLIES)) == 5


@pytest.mark.parametrize("busy", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["quiet", "busy"])
def test_a_queue_that_confirms_nothing_holds_up_no_other(prepared, busy):
    """Whether or not other replies that are confirmed show that the broker serves."""
    service = prepared
    worker = service.start_worker(PORTAL_CONCURRENCY=16)
    service.channel.queue_declare(OTHER, durable=True, arguments={"x-queue-type": "quorum"})
    use(service, OTHER)
    with service.bed.rabbitmq.stalled(service.name, OTHER):
        names = send_to(service, OTHER, 8)

        def check_others_served():
            began = time.monotonic()
            assert service.ask({"team_id": service.some[0], "fresh": True})["outcome"] == "created"
            assert time.monotonic() - began < 8

        def is_given_up():
            if busy:
                check_others_served()
            return len(said(worker, "no queue took its reply")) == 4

        wait_until(is_given_up, "all but a quarter of the slots to count as returned", STALL_SECONDS, every=0.5)
        check_others_served()
        assert "Paused" not in worker.status and not said(worker, "waiting for RabbitMQ")
    check_replied(service, OTHER, names)
    service.wait_empty(REQUESTS)


def test_a_consumer_that_is_not_begun_is_an_outage(prepared):
    service = prepared
    with service.bed.rabbitmq.stalled(service.name, REQUESTS):
        worker = service.start_worker()
        worker.wait_status("waiting for", "RabbitMQ", REQUESTS, seconds=STALL_SECONDS)
    assert service.ask({"team_id": service.some[0], "fresh": True})["outcome"] == "created"
    assert len(said(worker, "waiting for RabbitMQ")) == 1


def test_a_consumer_that_is_begun_late_takes_in_what_is_wanted_by_then(prepared):
    """A whole prefetch was wanted, then PostgreSQL was away: one request goes first."""
    service = prepared

    def prefetch():
        return service.bed.rabbitmq.evaluate('[proplists:get_value(prefetch_count, C) || C <- '
                                             f'rabbit_amqqueue:consumers_all(<<"{service.name}">>)]')

    with service.bed.rabbitmq.stalled(service.name, REQUESTS):
        worker = service.start_worker(PORTAL_CONCURRENCY=20)
        wait_until(lambda: said(worker, "RabbitMQ serves") and said(worker, "PostgreSQL serves"), "both to serve")
        service.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                      "WHERE datname = current_database() AND pid <> pg_backend_pid()")
        wait_until(lambda: len(said(worker, "PostgreSQL serves")) == 2, "PostgreSQL to serve again")
        assert not said(worker, "waiting for RabbitMQ")
    wait_until(lambda: prefetch() == [1], lambda: f"one request to be wanted, and not {prefetch()}")
    assert service.ask({"team_id": service.some[0], "fresh": True})["outcome"] == "created"
    wait_until(lambda: sum(prefetch()) == 20, "all to be wanted")


# ---- in a cluster ----

@pytest.mark.slow
@pytest.mark.xdist_group("cluster")
def test_a_cluster_that_loses_its_majority_in_mid_drain(request):
    """It goes on without, as RabbitMQ does unless told otherwise; senders and the worker are at the node that is left."""
    with ClusterBed(partition_handling="ignore") as bed:
        service = request.node.service = bed.service()
        service.amqp_url = bed.rabbitmq.keeper.url(service.name, "portal", bed.worker_password)
        prepare(service)
        service.emulator.fault("/v1/billing_portal/sessions", delay_ms={"uniform": [50, 600]})
        worker = service.start_worker(PORTAL_CONCURRENCY=64)
        use(service, REPLIES)
        sent = send(service, 100, service.some)
        names = send_to(service, REPLIES, 200)
        wait_until(lambda: service.queue_depth(REPLIES) > 20, "part of the replies", every=0.005)
        for node in bed.rabbitmq.nodes[:2]:
            node.kill()
        worker.wait_status("waiting for", "RabbitMQ", "has not", seconds=STALL_SECONDS)
        usage = Usage(worker)
        time.sleep(5)
        used, lasted = usage.stop()
        print(f"without a majority: {used:.2f} s of processor in {lasted:.0f} s")
        assert SANITIZED or used < 0.1
        bed.rabbitmq.start()
        bed.rabbitmq.wait_ready()
        began = time.monotonic()
        check_replied(service, REPLIES, names)
        check_all_served(service, sent)
        print(f"all were served {time.monotonic() - began:.1f} s after the majority was back")
        assert worker.alive()
