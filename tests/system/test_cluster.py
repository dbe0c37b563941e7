"""Several brokers and several databases: one of them is lost in mid-drain, and nothing with it."""

import signal
import time

import pytest

from bed import Bed
from bed.cluster import ClusterBed, Standby
from bed.outage import absorb, check_all_served, prepare, said, send, wait_first_reply, warm_up
from bed.process import wait_until
from bed.service import REQUESTS

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("cluster")]

END = {"kill": signal.SIGKILL, "stop": signal.SIGTERM, "freeze": signal.SIGSTOP}
SLOWLY = {"delay_ms": {"uniform": [50, 600]}}


@pytest.fixture(scope="module")
def cluster():
    began = time.monotonic()
    with ClusterBed() as bed:
        print(f"the cluster was there after {time.monotonic() - began:.0f} s")
        yield bed


def begin(service):
    prepare(service)
    service.emulator.fault("/v1/billing_portal/sessions", **SLOWLY)
    warm_up(service)


@pytest.fixture
def drained(cluster, request):
    """A worker in mid-drain."""
    service = cluster.service(tapped=True)
    request.node.service = service
    begin(service)
    service.sent = send(service, 2000, service.some)
    wait_until(lambda: (service.poll(), len(service.replies) > 200)[1], "part of the replies", every=0.005)
    yield service
    cluster.rabbitmq.start()
    cluster.rabbitmq.wait_ready()
    try:
        service.end()
    finally:
        service.close()


@pytest.mark.parametrize("end", END)
def test_a_cluster_that_loses_the_leader_of_the_queue(drained, cluster, end):
    rabbitmq = cluster.rabbitmq
    leader = rabbitmq.leader(drained.name, REQUESTS)
    assert leader not in (None, rabbitmq.keeper), "it is where the worker is, at the first node of its list"
    leader.process.send(END[end])  # in order that takes a while
    before = len(drained.replies)
    began = time.monotonic()
    drained.sent += send(drained, 200, drained.some)
    drained.wait_replies(drained.sent, 180)
    print(f"{end}: {len(drained.sent) + 1 - before} replies were missing; all were there after "
          f"{time.monotonic() - began:.1f} s")
    assert drained.worker.alive()
    wait_until(lambda: rabbitmq.leader(drained.name, REQUESTS) not in (None, leader), "another leader", 60)
    assert before < 1900
    wait_until(lambda: said(drained.worker, "waiting for RabbitMQ"), "the worker to notice")
    leader.kill()  # where it only stood still: as an operator would
    rabbitmq.start()
    rabbitmq.wait_ready()
    check_all_served(drained, drained.sent, 120)


@pytest.fixture
def replicated(request):
    with Bed() as bed:
        standby = Standby(bed.directory / "standby", bed.postgres)
        service = bed.service(tapped=True)
        standby.start()
        standby.wait_ready()
        standby.follow()
        request.node.service = service
        service.database_url = standby.both(service.name, "portal", bed.database_password)
        service.standby = standby
        try:
            begin(service)
            yield service
            service.end()
        finally:
            service.kill()
            standby.kill()


@pytest.mark.parametrize("end", ["kill", "freeze"])
def test_a_primary_that_is_replaced_by_its_standby(replicated, end):
    service, standby = replicated, replicated.standby
    primary = service.bed.postgres
    sent = send(service, 1000, service.some)
    wait_until(lambda: (service.poll(), len(service.replies) > 200)[1], "part of the replies", every=0.005)
    getattr(primary, end)()
    service.worker.wait_status("waiting for", "PostgreSQL", seconds=60)
    if end == "freeze":
        primary.kill()  # as whoever fails over has to make sure
    before = absorb(service)
    standby.promote()
    began = time.monotonic()
    took = wait_first_reply(service, before, 120)
    service.db = standby.connect(service.name)
    service.bed.postgres = standby
    check_all_served(service, sent, 120)
    print(f"{end}: first reply {took:.1f} s after the promotion, all after {time.monotonic() - began:.1f} s")
    assert service.worker.alive()
    keys = service.emulator.sessions()
    assert len(set(keys.values())) == len(keys) == len(sent) + 1
    service.bed.postgres = primary
