"""Exchange and queues: declared, or only verified; and the rights that the worker's user needs at the broker."""

import contextlib
import time

import pytest

from bed.outage import check_all_served, said, send
from bed.service import DEAD, EXCHANGE, REPLIES, REQUESTS

QUORUM = {"x-queue-type": "quorum"}


def check(service, **settings):
    """What --check says of the broker; None where it is content."""
    status, output, errors = service.run_worker("--check", **settings)
    line = next(line for line in output.splitlines() if line.startswith("AMQP_URL"))
    assert (status == 0) == (line == "AMQP_URL: ok"), output + errors
    return None if status == 0 else line


@contextlib.contextmanager
def rights(service, **allowed):
    """Other rights of the worker's user while it lasts, from its next connection on."""
    rabbitmq = service.bed.rabbitmq
    rabbitmq.set_permissions(service.name, "portal", **allowed)
    rabbitmq.evaluate('[rabbit_networking:close_connection(P, "new rights") || P <- rabbit_networking:connections(), '
                      '[{user, <<"portal">>}] =:= rabbit_networking:connection_info(P, [user])], 0')
    try:
        yield
    finally:
        rabbitmq.set_permissions(service.name, "portal")


def test_each_that_is_missing_is_named_and_none_is_made(service):
    line = check(service, AMQP_TOPOLOGY="verify")
    for name in (f"exchange {EXCHANGE}", f"queue {REQUESTS}", f"queue {DEAD}", f"queue {REPLIES}"):
        assert f"{name}: is missing" in line
    assert "AMQP_TOPOLOGY=declare" in line
    assert service.queues() == {}


@pytest.mark.parametrize("topology", ["declare", "verify"])
def test_each_that_differs_is_named_and_left_as_it_is(service, topology):
    service.declare()
    for queue, arguments in ((DEAD, {}), (REPLIES, {**QUORUM, "x-max-length": 7})):
        service.channel.queue_delete(queue)
        service.channel.queue_declare(queue, durable=True, arguments=arguments)
    before = service.bed.rabbitmq.queue_arguments(service.name)
    line = check(service, AMQP_TOPOLOGY=topology)
    assert f"queue {DEAD}: differs" in line and f"queue {REPLIES}: differs" in line and REQUESTS not in line
    assert "PRECONDITION_FAILED" in line
    assert service.bed.rabbitmq.queue_arguments(service.name) == before


def test_an_exchange_of_another_type_is_named(service):
    service.channel.exchange_declare(EXCHANGE, "fanout", durable=True)
    assert f"exchange {EXCHANGE}: differs" in check(service)


def test_whoever_may_not_declare_can_verify(service):
    service.declare()
    service.emulator.product()
    with rights(service, configure="^$"):
        line = check(service)
        assert "the user in AMQP_URL lacks a right" in line and "AMQP_TOPOLOGY=verify" in line
        service.start_worker(AMQP_TOPOLOGY="verify")
        assert service.ask({"team_id": service.team()})["outcome"] == "created"


@pytest.mark.parametrize("topology, missing", [("declare", "write"), ("declare", "read"), ("verify", "write"),
                                               ("verify", "read")])
def test_a_right_at_the_broker_that_is_missing_for_a_while(service, topology, missing):
    """It is an outage that names the setting, and is over only once the right was seen to be there."""
    service.emulator.product()
    service.declare()
    teams = service.teams(20)
    worker = service.start_worker(AMQP_TOPOLOGY=topology)
    assert service.ask({"team_id": teams[0], "fresh": True})["outcome"] == "created"
    with rights(service, **{missing: "^$"}):
        sent = send(service, 50, teams)  # that it may not publish it learns when it does
        worker.wait_status("waiting for", "RabbitMQ", "AMQP_URL", "right")
        served = len(said(worker, "RabbitMQ serves"))
        time.sleep(2)
        assert "AMQP_URL" in worker.status and len(said(worker, "RabbitMQ serves")) == served
    check_all_served(service, sent)
