"""Settings: wrong ones end the start with every error at once, --check tries each connection."""

import os
import re
import subprocess

import pytest

from bed.process import BUILD, PATIENCE, environment
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
    ("PORTAL_NAMESPACE", "a b"), ("PORTAL_NAMESPACE", "x" * 65), ("PORTAL_NAMESPACE", "x" + "ä" * 60),
    ("PORTAL_HOLD_SECONDS", "soon"),
    ("PORTAL_DEADLINE_SECONDS", "-5"), ("PORTAL_SESSION_REUSE_SECONDS", "241"), ("PORTAL_DRAIN_SECONDS", "1.5"),
    ("PORTAL_REPLIES_TTL_SECONDS", "0"), ("STRIPE_TIMEOUT_MS", "1"), ("AMQP_TOPOLOGY", "maybe"),
    ("PORTAL_CONFIGURATION", "whatever"), ("PORTAL_LOG_LEVEL", "loud"),
    ("STRIPE_CA_FILE", "/nowhere"), ("PORTAL_CONFIGURATION_FILE", "/nowhere"), ("PORTAL_METRICS_FILE", "relative.prom"),
    ("STRIPE_MAX_RETRIES", "101"), ("STRIPE_CONNECT_TIMEOUT_MS", "9"), ("STRIPE_ANSWER_TIMEOUT_MS", "600001"),
    ("PORTAL_REPLY_QUEUES", "portal.\a"), ("PORTAL_TEAM_SENDERS", "s" * 256), ("PORTAL_REFUSED_STATUSES", "\x7f"),
    ("PORTAL_PRICES_SECONDS", "0"), ("PORTAL_SESSION_SECONDS", "69"), ("PORTAL_REPLIES_MAX_LENGTH", "1e6"),
    ("PORTAL_DRAIN_SECONDS", "99999999999999999999"), ("BASE_URL", "https://me:pw@app.example.com"),
]
SECRET = {"AMQP_URL", "DATABASE_URL", "STRIPE_SECRET_KEY"}
RIGHT = {"AMQP_URL": "amqp://me:hush@127.0.0.1:1/", "DATABASE_URL": "postgresql://me:hush@127.0.0.1:1/x",
         "STRIPE_SECRET_KEY": "sk_test_right", "BASE_URL": "https://app.example.com"}


def errors_of(**changes):
    """What it says of wrong settings, before it connects to anything."""
    status, _, errors = run({name: value for name, value in {**RIGHT, **changes}.items() if value is not None})
    assert status == EX_CONFIG, errors
    return errors


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_setting_is_named(name):
    assert name in errors_of(**{name: None})


@pytest.mark.parametrize("name, value", WRONG)
def test_a_wrong_setting_is_named(name, value):
    [line] = errors_of(**{name: value}).splitlines()
    assert re.match(rf"error: {name}\b", line), "it is named, and nothing else is complained about"
    assert re.search(r"must be|expected|can't be read|wrong in its URL no\. 1|not set", line), "and what would be right"
    if name in SECRET or "@" in value:
        assert not value or value not in line
    else:
        assert value[:40] in line or any(ord(letter) < 32 or ord(letter) == 127 for letter in value), "so is its value"


def test_no_setting_is_without_a_test_of_a_wrong_value():
    _, output, _ = run({}, "--help")
    listed = set(re.findall(r"^  ([A-Z][A-Z_]+) ", output, re.MULTILINE))
    assert listed == {name for name, _ in WRONG} | {"STRIPE_SECRET_KEY_FILE"}, "that one has tests of its own below"


@pytest.mark.parametrize("content, words", [
    (None, "No such file"), (b"sk_test_top5ecret\0", "must be one short text"), (b"top5ecret", "must be a secret"),
    (b"sk_test_" + b"top5ecret" * 2000, "must be one short text"), (b"", "is not set"),
], ids=["missing", "NUL", "no key", "long", "empty"])
def test_a_wrong_key_file_is_named_without_the_key(tmp_path, content, words):
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    [line] = errors_of(STRIPE_SECRET_KEY=None, STRIPE_SECRET_KEY_FILE=path).splitlines()
    assert "STRIPE_SECRET_KEY" in line and words in line and "5ecret" not in line


def test_a_key_and_a_file_of_it_are_one_too_many(tmp_path):
    (tmp_path / "key").write_text(RIGHT["STRIPE_SECRET_KEY"])
    [line] = errors_of(STRIPE_SECRET_KEY_FILE=tmp_path / "key").splitlines()
    assert "STRIPE_SECRET_KEY and STRIPE_SECRET_KEY_FILE are both set" in line


def test_every_error_is_told_at_once():
    errors = errors_of(AMQP_URL=None, DATABASE_URL="mysql://", STRIPE_SECRET_KEY=None, BASE_URL="x",
                       PORTAL_CONCURRENCY="none", STRIPE_RATE_LIMIT="-3", AMQP_TOPOLOGY="?")
    wrong = [*REQUIRED, "PORTAL_CONCURRENCY", "STRIPE_RATE_LIMIT", "AMQP_TOPOLOGY"]
    assert sorted(line.split()[1].rstrip(":") for line in errors.splitlines()) == sorted(wrong), "a line for each"


def test_no_error_tells_a_secret():
    errors = errors_of(STRIPE_SECRET_KEY="sk_test_secret value", AMQP_URL="amqp://me:hush@h:port/",
                       DATABASE_URL="postgresql://me:hush@h:port/x", BASE_URL=None)
    assert "hush" not in errors and "secret value" not in errors
    mixed_up = errors_of(BASE_URL="amqp://me:hush@h/", STRIPE_API_BASE="postgresql:///x?user=me&password=hush@",
                         PORTAL_CONFIGURATION="sk_test_hush", STRIPE_API_VERSION=" rk_live_hush")
    assert mixed_up.count("\n") == 4 and "hush" not in mixed_up, "nor where it was given to another setting"


def test_check_succeeds_where_all_is_well(service):
    status, output, errors = service.run_worker("--check")
    assert (status, errors) == (0, ""), output + errors
    assert output.splitlines() == ["AMQP_URL: ok", "DATABASE_URL: ok", "STRIPE_SECRET_KEY: ok"]


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
    assert status == 1 and "portalctl check" in errors
    [failed] = [line for line in output.splitlines() if not line.endswith(": ok")]
    assert failed.startswith(f"{name.replace('API_BASE', 'SECRET_KEY')}: failed: ") and name in failed
    assert f"{name}: failed: {name}: " not in failed, "it is not said twice"
    assert " → " in failed or "refuses the user or password in DATABASE_URL" in failed, "and what helps"
    assert output.count("\n") == 3 and "wrong" not in output + errors


def test_check_names_a_missing_migration(service):
    service.query("DELETE FROM portal.migrations WHERE number = (SELECT max(number) FROM portal.migrations)")
    status, output, errors = service.run_worker("--check")
    assert status == 1 and 'run "portalctl migrate"' in output and "→" not in output


@pytest.mark.parametrize("program", ["portal-worker", "portalctl"])
def test_help_and_version(program):
    status, output, errors = run({}, "--help", program=program)
    assert (status, errors) == (0, "") and "Usage: " in output
    status, output, errors = run({}, "--version", program=program)
    assert (status, errors) == (0, "") and output.startswith(program) and output.count("\n") == 1


def test_what_could_not_be_written_is_no_success():
    with open("/dev/full", "w") as full:
        assert subprocess.run([BUILD / "portal-worker", "--help"], env=environment(), stdout=full).returncode == 1


def test_a_worker_without_standard_streams_gives_their_places_to_nothing_else(service):
    service.emulator.product()
    service.declare()
    command = ["bash", "-c", 'exec "$0" <&- >&- 2>&-', BUILD / "portal-worker"]
    worker = subprocess.Popen(command, env=environment(**service.settings()))
    try:
        assert service.ask({"team_id": service.team()})["outcome"] == "created"
        assert [os.readlink(f"/proc/{worker.pid}/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3
    finally:
        worker.terminate()
        assert worker.wait(PATIENCE) == 0


def test_help_lists_every_setting():
    _, output, _ = run({}, "--help")
    for name in {name for name, _ in WRONG}:
        assert name in output


@pytest.mark.parametrize("program", ["portal-worker", "portalctl"])
def test_an_unknown_option_is_refused(program):
    status, _, errors = run({}, "--frobnicate", program=program)
    assert status not in (0, EX_CONFIG) and "frobnicate" in errors
