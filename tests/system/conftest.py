"""Fixtures of the system tests: one bed for each pytest-xdist worker, one corner of it for each test."""

import re

import pytest

from bed import Bed
from bed.process import end_in_order


def pytest_configure(config):
    end_in_order()
    config.addinivalue_line("markers", "slow: too long for every run; part of `make ci-extra`")
    config.addinivalue_line("markers", "alone: measures what other tests at the same time would spoil; slow, too")
    config.addinivalue_line("markers", "refused: the worker is expected to make calls that Stripe refuses")


@pytest.fixture(scope="session")
def bed():
    with Bed() as shared:
        yield shared


@pytest.fixture
def service(bed, request):
    """A virtual host, database and emulator of one's own. At the end of every test that passed: the workers stop in
    order when asked to, every message was as the contract says, the emulator refused none of their calls, and no secret
    or URL is in their logs."""
    bed.heal()
    corner = bed.service(tapped=True)
    request.node.service = corner
    yield corner
    try:
        if request.node.passed:
            check_ended_well(corner, refused=request.node.get_closest_marker("refused") is not None)
    finally:
        corner.close()


@pytest.fixture
def serving(service):
    """One where a worker serves, for a product with prices."""
    service.emulator.product()
    service.start_worker()
    service.declare()
    return service


def check_ended_well(service, refused):
    service.end()
    if service.emulator.process.alive() and not refused:
        counters = service.emulator.counters()
        assert counters["refused"] == 0, f"the emulator refused calls: {counters['errors']}"
    for worker in service.workers:
        check_discreet(service, worker.text())


def check_discreet(service, log):
    secrets = [service.emulator.secret_key, service.bed.worker_password, service.bed.database_password]
    assert not [secret for secret in secrets if secret in log], "a secret is in the log"
    urls = {reply["session"]["url"] for reply in service.replies if reply.body.get("session")}
    # What looks like a URL, also within quotes or before a comma; there may be tens of thousands of either.
    told = {word for found in re.findall(r"https?://\S+", log) for word in (found, found.rstrip("\"'),.;"))}
    assert not urls & told, "a URL is in the log"
    assert not re.search(r"sk_(test|live)_\w|/p/session/", log), "something like a secret or a URL is in the log"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Remembers whether the test itself passed, and shows the workers' logs where anything failed."""
    outcome = yield
    report = outcome.get_result()
    if report.when == "call":
        item.passed = report.passed
    if report.when == "setup":
        item.passed = False
    service = getattr(item, "service", None)
    if report.failed and service is not None and service.directory.exists():  # the last test's bed goes with it
        report.sections.append(("portal-worker", service.logs()))
        report.sections.append(("stripe-emulator", service.emulator.process.tail(10)))
        report.sections.append(("PostgreSQL", service.bed.postgres.process.tail(30)))
        report.sections.append(("RabbitMQ", service.bed.rabbitmq.tail(20)))
