"""After RabbitMQ, PostgreSQL or Stripe went away, the worker goes on by itself."""

import pytest

from bed.service import REQUESTS


@pytest.fixture
def serving(service):
    service.emulator.product()
    service.some_team = service.team()
    service.start_worker()
    assert service.ask({"team_id": service.some_team, "fresh": True})["outcome"] == "created"
    return service


def check_serves(service):
    reply = service.ask({"team_id": service.some_team, "fresh": True}, seconds=60)
    assert reply["outcome"] == "created"
    service.wait_empty(REQUESTS)
    assert service.workers[0].alive(), "it is still the same worker"


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_after_postgresql_was_away(serving, end):
    postgres = serving.bed.postgres
    getattr(postgres, end)()
    sent = [serving.request({"team_id": serving.some_team, "fresh": True}) for _ in range(20)]
    postgres.start()
    postgres.wait_ready()
    serving.reconnect()
    assert {reply["outcome"] for reply in serving.wait_replies(sent, seconds=60)} == {"created"}
    check_serves(serving)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_after_rabbitmq_was_away(serving, end):
    rabbitmq = serving.bed.rabbitmq
    getattr(rabbitmq, end)()
    rabbitmq.start()
    rabbitmq.wait_ready()
    serving.connect()
    check_serves(serving)


def test_after_its_connections_were_cut(serving):
    rabbitmq = serving.bed.rabbitmq
    for _ in range(3):
        rabbitmq.close_connections()
        serving.connect()
        check_serves(serving)


@pytest.mark.refused  # the emulator comes back without the configuration
def test_after_stripe_was_away(serving):
    serving.emulator.kill()
    sent = [serving.request({"team_id": serving.some_team, "fresh": True}) for _ in range(20)]
    serving.emulator.start()
    assert {reply["outcome"] for reply in serving.wait_replies(sent, seconds=60)} == {"created"}
    check_serves(serving)


def test_a_worker_that_starts_before_its_servers_waits_for_them(service):
    service.emulator.product()
    team = service.team()
    service.declare()
    service.bed.postgres.stop()
    service.bed.rabbitmq.stop()
    service.emulator.kill()
    worker = service.start_worker()
    service.bed.postgres.start()
    service.bed.rabbitmq.start()
    service.bed.postgres.wait_ready()
    service.bed.rabbitmq.wait_ready()
    service.emulator.start()
    service.connect()
    service.reconnect()
    assert service.ask({"team_id": team}, seconds=60)["outcome"] == "created"
    assert worker.alive()
