"""Connections that are cut, and networks that swallow packets without a word."""

import time

import pytest

from bed.netns import SERVERS, Network, NotAllowed
from bed.outage import RESUME_SECONDS, Usage, absorb, check_all_served, prepare, said, send, wait_first_reply, waiting
from bed.process import SANITIZED, wait_until

NAMES = {"rabbitmq": "RabbitMQ", "postgres": "PostgreSQL", "stripe": "Stripe"}


@pytest.fixture
def network(service):
    try:
        with Network(service.directory) as network:
            prepare(service)
            service.emulator.fault("/v1/billing_portal/sessions", delay_ms={"uniform": [1, 200]})
            service.worker = network.start_worker(service, PORTAL_CONCURRENCY=64)
            service.network = network
            assert service.ask({"team_id": service.some[0], "fresh": True})["outcome"] == "created"
            service.sent = send(service, 300, service.some)
            wait_until(lambda: (service.poll(), len(service.replies) > 30)[1], "some replies", every=0.005)
            yield service
            service.worker.stop()  # while it still has a network
    except NotAllowed as error:
        pytest.skip(f"network namespaces are not allowed here: {error}")


def black_hole(service, servers, seconds):
    usage = Usage(service.worker)
    service.network.cut(*servers)
    service.sent += send(service, 100, service.some)
    if seconds > 20:
        for server in servers:
            if server != "stripe" or len(servers) == 1:  # where the others are away, nobody may have to ask Stripe
                service.worker.wait_status(NAMES[server], seconds=60)
    time.sleep(seconds)
    used, lasted = usage.stop()
    service.before = absorb(service)
    service.network.restore(*servers)
    print(f"{'+'.join(servers)} black-holed: {used:.2f} s of processor in {lasted:.0f} s")
    assert SANITIZED or used < 0.15 + 0.3 * lasted / 60


@pytest.mark.parametrize("servers", [[server] for server in SERVERS] + [list(SERVERS)], ids="+".join)
def test_packets_that_are_swallowed_for_a_moment_cost_nothing_but_time(network, servers):
    black_hole(network, servers, 2)
    check_all_served(network, network.sent)


@pytest.mark.slow
@pytest.mark.parametrize("servers", [[server] for server in SERVERS] + [list(SERVERS)], ids="+".join)
def test_packets_that_are_swallowed_for_long_are_an_outage(network, servers):
    """Nothing closes a connection: time-outs do."""
    black_hole(network, servers, 40)
    for server in servers:
        assert said(network.worker, f"waiting for {NAMES[server]}")
    took = wait_first_reply(network, network.before, 60)
    print(f"the first reply came {took:.1f} s after the network was back")
    check_all_served(network, network.sent)
    # One attempt to connect may be under way, for up to ten seconds.
    assert took < 2 * RESUME_SECONDS


@pytest.mark.parametrize("server", SERVERS)
def test_connections_that_are_cut_in_mid_drain(network, server):
    """All at once, by whatever stands between; new ones are refused for a moment."""
    proxy = network.network.proxies[server]
    port = proxy.text().split()[-1]
    proxy.kill()
    network.sent += send(network, 100, network.some)
    network.worker.wait_status(NAMES[server])
    target = {"rabbitmq": network.bed.rabbitmq.port, "postgres": network.bed.postgres.port,
              "stripe": network.emulator.address.rpartition(":")[2]}[server]
    network.network.forward(server, target, port)
    check_all_served(network, network.sent)
    assert waiting(network)[0] == 0
