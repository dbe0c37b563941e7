"""Settings: wrong ones end the start with every error at once, --check tries each connection."""

import pytest

from bed.worker import run

REQUIRED = ["AMQP_URL", "DATABASE_URL", "STRIPE_SECRET_KEY", "BASE_URL"]
EX_CONFIG = 78

# A setting, and a value that is wrong for it.
WRONG = [
    ("AMQP_URL", "http://127.0.0.1/"), ("AMQP_URL", "amqp://127.0.0.1:99999/"), ("AMQP_URL", ""),
    ("DATABASE_URL", "mysql://x/y"), ("DATABASE_URL", ""),
    ("STRIPE_SECRET_KEY", "pk_test_publishable"), ("STRIPE_SECRET_KEY", "sk_test_two words"),
    ("BASE_URL", "app.example.com"), ("BASE_URL", "ftp://app.example.com"), ("BASE_URL", "https://a b"),
    ("STRIPE_API_BASE", "api.stripe.com"), ("STRIPE_API_VERSION", "new\nest"),
    ("STRIPE_RATE_LIMIT", "-1"), ("STRIPE_RATE_LIMIT", "fast"), ("STRIPE_CONCURRENCY", "0"),
    ("PORTAL_CONCURRENCY", "0"), ("PORTAL_CONCURRENCY", "70000"), ("PORTAL_CONCURRENCY", "12x"),
    ("PORTAL_NAMESPACE", "a b"), ("PORTAL_NAMESPACE", "x" * 65), ("PORTAL_HOLD_SECONDS", "soon"),
    ("PORTAL_DEADLINE_SECONDS", "-5"), ("PORTAL_SESSION_REUSE_SECONDS", "241"), ("PORTAL_DRAIN_SECONDS", "1.5"),
    ("PORTAL_REPLIES_TTL_SECONDS", "0"), ("STRIPE_TIMEOUT_MS", "1"), ("AMQP_TOPOLOGY", "maybe"),
    ("PORTAL_CONFIGURATION", "whatever"), ("PORTAL_LOG_LEVEL", "loud"),
    ("STRIPE_CA_FILE", "/nowhere"), ("PORTAL_CONFIGURATION_FILE", "/nowhere"), ("PORTAL_METRICS_FILE", "relative.prom"),
]


def errors_of(service, **changes):
    status, _, errors = service.run_worker(**changes)
    assert status == EX_CONFIG, errors
    return errors


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_setting_is_named(service, name):
    assert name in errors_of(service, **{name: None})


@pytest.mark.parametrize("name, value", WRONG)
def test_a_wrong_setting_is_named(service, name, value):
    errors = errors_of(service, **{name: value})
    assert name in errors
    others = [line for line in errors.splitlines() if any(other in line for other in REQUIRED) and name not in line]
    assert others == [], "nothing else is complained about"


def test_every_error_is_told_at_once(service):
    errors = errors_of(service, AMQP_URL=None, DATABASE_URL="mysql://", STRIPE_SECRET_KEY=None, BASE_URL="x",
                       PORTAL_CONCURRENCY="none", STRIPE_RATE_LIMIT="-3", AMQP_TOPOLOGY="?")
    for name in [*REQUIRED, "PORTAL_CONCURRENCY", "STRIPE_RATE_LIMIT", "AMQP_TOPOLOGY"]:
        assert name in errors


def test_no_error_tells_a_secret(service):
    errors = errors_of(service, STRIPE_SECRET_KEY="sk_test_secret value", AMQP_URL="amqp://me:hush@h:port/",
                       DATABASE_URL="postgresql://me:hush@h:port/x", BASE_URL=None)
    assert "hush" not in errors and "secret value" not in errors


def test_check_succeeds_where_all_is_well(service):
    status, output, errors = service.run_worker("--check")
    assert status == 0, output + errors


@pytest.mark.refused
@pytest.mark.parametrize("name, value", [
    ("AMQP_URL", "amqp://portal:wrong@127.0.0.1:{rabbitmq}/{name}"),
    ("AMQP_URL", "amqp://portal:wrong@127.0.0.1:1/"),
    ("DATABASE_URL", "postgresql://portal:wrong@127.0.0.1:{postgres}/{name}"),
    ("DATABASE_URL", "postgresql://portal:wrong@127.0.0.1:1/{name}"),
    ("STRIPE_SECRET_KEY", "sk_test_of_another_account"),
    ("STRIPE_API_BASE", "http://127.0.0.1:1"),
])
def test_check_names_the_connection_that_fails(service, name, value):
    value = value.format(rabbitmq=service.bed.rabbitmq.port, postgres=service.bed.postgres.port, name=service.name)
    status, output, errors = service.run_worker("--check", **{name: value})
    assert status not in (0, EX_CONFIG) and status > 0
    assert name.replace("_API_BASE", "") in output + errors
    assert "wrong" not in output + errors


def test_check_names_a_missing_migration(service):
    service.query("DELETE FROM portal.migrations WHERE number = (SELECT max(number) FROM portal.migrations)")
    status, output, errors = service.run_worker("--check")
    assert status > 0 and "migrat" in (output + errors).lower()


@pytest.mark.parametrize("program", ["portal-worker", "portalctl"])
def test_help_and_version(program):
    status, output, errors = run({}, "--help", program=program)
    assert (status, errors) == (0, "") and "Usage" in output or "usage" in output
    status, output, errors = run({}, "--version", program=program)
    assert (status, errors) == (0, "") and output.startswith(program) and output.count("\n") == 1


def test_help_lists_every_setting():
    _, output, _ = run({}, "--help")
    for name in {name for name, _ in WRONG}:
        assert name in output


@pytest.mark.parametrize("program", ["portal-worker", "portalctl"])
def test_an_unknown_option_is_refused(program):
    status, _, errors = run({}, "--frobnicate", program=program)
    assert status not in (0, EX_CONFIG) and "frobnicate" in errors
