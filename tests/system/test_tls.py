"""RabbitMQ and PostgreSQL over TLS: who they are is checked, and nothing is stuck in the layers between."""

import contextlib
import shutil

import pytest

from bed.outage import said
from bed.process import free_port, wait_until
from bed.tls import authority, certificate_for


@contextlib.contextmanager
def rabbitmq_over_tls(service, directory, subject):
    """The port on which the bed's RabbitMQ listens with a certificate for `subject`, and whom to trust."""
    issuer, port = authority(directory), free_port()
    certificate, key = certificate_for(directory, issuer, subject)
    for path in (directory, certificate, key):
        path.chmod(0o755)
    listener = f'{{"127.0.0.1", {port}}}'
    service.bed.rabbitmq.evaluate(
        f'{{ok, _}} = application:ensure_all_started(ssl), rabbit_networking:start_ssl_listener({listener}, '
        f'[{{certfile, "{certificate}"}}, {{keyfile, "{key}"}}], 1), 0')
    try:
        yield port, issuer[0]
    finally:
        service.bed.rabbitmq.evaluate(f"rabbit_networking:stop_tcp_listener({listener}), 0")


def amqps(service, host, port, **parameters):
    query = "&".join(f"{name}={value}" for name, value in parameters.items())
    return f"amqps://portal:{service.bed.worker_password}@{host}:{port}/{service.name}{'?' if query else ''}{query}"


def test_requests_are_served_over_amqps(service, tmp_path):
    service.emulator.product()
    teams = service.teams(20)
    with rabbitmq_over_tls(service, tmp_path, "DNS:localhost") as (port, trusted):
        worker = service.start_worker(AMQP_URL=amqps(service, "localhost", port, cacertfile=trusted))
        sent = [service.request({"team_id": teams[n % 20], "fresh": True}, bulk=True) for n in range(300)]
        assert {reply["outcome"] for reply in service.wait_replies(sent)} == {"created"}
        service.wait_empty()
        assert not said(worker, "waiting for RabbitMQ")
        assert worker.stop() == 0


@pytest.mark.parametrize("trusts, subject", [("nobody", "DNS:localhost"), ("another", "DNS:localhost"),
                                             ("the issuer", "DNS:elsewhere.example")])
def test_a_broker_that_is_not_trusted_learns_no_password(service, tmp_path, trusts, subject):
    with rabbitmq_over_tls(service, tmp_path, subject) as (port, issuer):
        trusted = {"nobody": {}, "another": {"cacertfile": authority(tmp_path, "another")[0]},
                   "the issuer": {"cacertfile": issuer}}[trusts]
        status, output, errors = service.run_worker("--check", AMQP_URL=amqps(service, "localhost", port, **trusted))
        assert status > 0 and "RabbitMQ" in output and "has a certificate" in output, output + errors
        for parameters in ({"cacertfile": issuer, "verify": "verify_none"}, {"verify": "verify_none"}):
            url = amqps(service, "localhost", port, **parameters)
            assert service.run_worker("--check", AMQP_URL=url)[0] == 0, "unless told not to look"


@contextlib.contextmanager
def postgresql_over_tls(service, directory):
    postgres, issuer = service.bed.postgres, authority(directory)
    data = postgres.directory / "data"
    for name, path in zip(("server.crt", "server.key"), certificate_for(directory, issuer, "DNS:localhost,IP:127.0.0.1")):
        shutil.copy(path, data / name)
        shutil.chown(data / name, postgres.user)
        (data / name).chmod(0o600)

    def switch(state):
        postgres.execute(f"ALTER SYSTEM SET ssl = {state}")
        postgres.execute("SELECT pg_reload_conf()")

    switch("on")
    try:
        yield issuer[0]
    finally:
        switch("off")


def test_answers_of_every_size_come_over_tls(service, tmp_path):
    """What libpq has not yet read may be in the TLS layer, where no poll sees it."""
    service.emulator.product()
    teams = service.teams(20)
    with postgresql_over_tls(service, tmp_path) as trusted:
        worker = service.start_worker(DATABASE_URL=f"{service.database_url}?sslmode=verify-full&sslrootcert={trusted}")
        wait_until(lambda: service.query("SELECT 1 FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) "
                                         "WHERE ssl AND usename = 'portal'"), "a connection over TLS")
        for count in [300, 40, 80, 120, 160, 200, 240, 280, 300]:
            sent = [service.request({"request_id": f"request-{n}", "team_id": teams[n % 20], "fresh": True},
                                    correlation_id=f"{count}-{n}", bulk=True) for n in range(count)]
            assert {reply["outcome"] for reply in service.wait_replies(sent)} == {"created"}
        assert not said(worker, "waiting for PostgreSQL")
