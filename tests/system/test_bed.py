"""The test bed itself: beds do not meet, and nothing that they start outlives them; and the demo that runs on it."""

import contextlib
import json
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading

import pytest

from bed import Emulator
from bed.process import BUILD, PATIENCE, ROOT, WITH_US, environment, wait_until

TWO_BEDS = """
import sys
from bed import Bed
with Bed() as first, Bed() as second:
    for bed in (first, second):
        bed.service()
    assert first.rabbitmq.port != second.rabbitmq.port and first.postgres.port != second.postgres.port
    print("up", flush=True)
    sys.stdin.read()
"""


def processes_of(directory):
    """All processes whose environment or command line names the folder; zombies have neither."""
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
        except OSError:
            continue
        if str(directory).encode() in words:
            found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace") or process)
    return found


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_two_beds_run_side_by_side_and_leave_nothing(end):
    with tempfile.TemporaryDirectory() as directory:
        pathlib.Path(directory).chmod(0o711)
        settings = environment(TMPDIR=directory, PYTHONPATH=ROOT / "tests", BUILD=BUILD, PYTHONDONTWRITEBYTECODE=1)
        user = subprocess.Popen([sys.executable, "-c", TWO_BEDS], env=settings, text=True, stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE)
        try:
            assert user.stdout.readline() == "up\n"
            started = processes_of(directory)
            for name in ("beam.smp", "epmd", "postgres", "stripe-emulator"):
                assert len([line for line in started if name in line]) >= 2, (name, started)
            if end == "stop":
                user.terminate()
                wait_until(lambda: len(processes_of(directory)) < len(started), "the beds to be taken down")
                user.send_signal(signal.SIGINT)  # which does not disturb that
                assert user.wait(30) == -signal.SIGINT, "as Python ends by KeyboardInterrupt"
                assert list(pathlib.Path(directory).iterdir()) == []
            else:
                user.kill()
                user.wait(30)
            wait_until(lambda: processes_of(directory) == [], lambda: f"the end of {processes_of(directory)}", 10)
        finally:
            user.kill()
            user.wait()


def test_a_corner_is_closed_also_where_its_servers_stand_still(bed):
    """As after a test that failed meanwhile; it would wait for ever."""
    bed.heal()
    corner = bed.service()
    corner.connect()
    for server in (bed.rabbitmq, bed.postgres):
        server.freeze()
    closing = threading.Thread(target=corner.close)
    closing.start()
    closing.join(PATIENCE)
    closed = not closing.is_alive()
    bed.thaw()
    assert closed


# --- make demo, make dev ---

@contextlib.contextmanager
def folder():
    """Where all that is started keeps its files: at the end nothing may be there, or run."""
    with tempfile.TemporaryDirectory() as directory:
        pathlib.Path(directory).chmod(0o711)
        yield directory
        wait_until(lambda: processes_of(directory) == [], lambda: f"the end of {processes_of(directory)}", 10)
        assert list(pathlib.Path(directory).iterdir()) == []


def start(what, directory, **settings):
    settings = environment(TMPDIR=directory, PYTHONPATH=ROOT / "tests", BUILD=BUILD, PYTHONDONTWRITEBYTECODE=1,
                           **settings)
    return subprocess.Popen([*WITH_US, sys.executable, "-m", "bed.demo", what], cwd=ROOT, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=settings)


def test_the_demo_shows_a_session_a_redirect_and_a_failure_and_leaves_nothing():
    with folder() as directory:
        demo = start("demo", directory)
        output, errors = demo.communicate(timeout=4 * PATIENCE)
    assert (demo.returncode, errors) == (0, ""), output
    first, second, third, fourth, operator = re.split(r"^── \d\. .*\n", output, flags=re.MULTILINE)[1:]
    replies = [json.loads(re.search(r"^ {10}\{\n.*?^ {10}\}$", part, re.MULTILINE | re.DOTALL)[0])
               for part in (first, third, fourth)]
    assert [reply["outcome"] for reply in replies] == ["created", "redirect", "failed"]
    assert re.search(rf"^ +url +│ {re.escape(replies[0]['session']['url'])}$", first, re.MULTILINE), "the row"
    assert "POST /v1/billing_portal/sessions" in first and "byte for byte" in second
    assert all(f"demo-{n}" in operator for n in (1, 2, 3))


@pytest.fixture
def account(tmp_path):
    """What stands for somebody's Stripe account: the demo is told of it as of a real one."""
    emulator = Emulator(tmp_path / "account.log")
    emulator.data({"customers": ["cus_somebody"]})
    emulator.product("prod_somebodys")
    yield emulator
    emulator.kill()


def test_what_make_dev_started_serves_until_ctrl_c_on_the_account_of_a_key(account):
    with folder() as directory:
        dev = start("dev", directory, STRIPE_SECRET_KEY=account.secret_key, STRIPE_API_BASE=account.url)
        lines = []
        try:
            while not lines or "psql" not in lines[-1]:
                lines.append(dev.stdout.readline())
                assert lines[-1], (lines, dev.stderr.read())
            # As a reader of these lines would: they are to be pasted into a shell.
            said = [line for line in lines if line.startswith("  ")]
            done = subprocess.run(["bash", "-euc", "".join(said)], cwd=ROOT, env=environment(), text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            dev.send_signal(signal.SIGINT)
            while "Stopping" not in lines[-1]:
                lines.append(dev.stdout.readline())
                assert lines[-1], dev.stderr.read()
            dev.send_signal(signal.SIGINT)  # from an impatient user
            _, errors = dev.communicate(timeout=PATIENCE)
        finally:
            dev.kill()
            dev.wait()
    assert done.returncode == 0, done.stdout
    [call] = account.session_calls()
    assert call["parameters"]["customer"] == "cus_somebody" and call["effect"] in done.stdout
    assert call["idempotency_key"].startswith("portal:demo-"), "which no other run has, nor the account's own worker"
    assert (dev.returncode, errors) == (0, "")


@pytest.mark.parametrize("settings, words", [
    ({"STRIPE_SECRET_KEY": "sk_test_revoked"}, "401"),
    ({"STRIPE_API_BASE": "http://127.0.0.1:1"}, "does not answer"),
], ids=["wrong key", "no Stripe"])
def test_a_stripe_account_that_can_not_be_used_is_told_before_anything_starts(account, settings, words):
    with folder() as directory:
        settings = {"STRIPE_SECRET_KEY": account.secret_key, "STRIPE_API_BASE": account.url, **settings}
        demo = start("demo", directory, **settings)
        output, errors = demo.communicate(timeout=PATIENCE)
    assert (demo.returncode, output) == (1, "")
    assert "STRIPE_SECRET_KEY" in errors and words in errors and errors.count("\n") == 1, errors
    assert settings["STRIPE_SECRET_KEY"] not in errors
