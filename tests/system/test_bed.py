"""The test bed itself: beds do not meet, and nothing that they start outlives them."""

import pathlib
import subprocess
import sys
import tempfile

import pytest

from bed.process import BUILD, ROOT, environment, wait_until

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


@pytest.mark.parametrize("end", ["leave", "kill"])
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
            if end == "leave":
                user.communicate("", timeout=30)
                assert user.returncode == 0
                assert list(pathlib.Path(directory).iterdir()) == []
            else:
                user.kill()
                user.wait(30)
            wait_until(lambda: processes_of(directory) == [], lambda: f"the end of {processes_of(directory)}", 10)
        finally:
            user.kill()
            user.wait()
