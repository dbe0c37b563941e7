"""One child process that never outlives its parent, and a way to wait for a condition."""

import contextlib
import os
import pathlib
import pwd
import signal
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("BUILD", "build")

# Programs built with AddressSanitizer take several times the memory.
SANITIZED = bool(os.environ.get("SANITIZE"))

# A test that waits for something gives up after this long; generous, as the machine may be busy with two runs.
PATIENCE = float(os.environ.get("PORTAL_TEST_PATIENCE", "30"))

# Before a command: the kernel SIGKILLs it when the thread that started it ends.
WITH_US = ["setpriv", "--pdeathsig", "KILL"]


class Impatience(AssertionError):
    """What was waited for did not come."""


def wait_until(condition, what, seconds=None, every=0.02):
    """Calls condition() until it returns something true, which is returned; fails with `what` after `seconds`."""
    end = time.monotonic() + (PATIENCE if seconds is None else seconds)
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > end:
            raise Impatience(f"waited in vain for {what() if callable(what) else what}")
        time.sleep(every)


def free_port():
    """A TCP port on 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(**settings):
    """The environment of a child: what programs need to run, and none of our caller's settings."""
    kept = {name: value for name, value in os.environ.items()
            if name in ("PATH", "LANG", "TZ", "TMPDIR") or name.startswith(("ASAN_", "UBSAN_", "LSAN_"))}
    return {**kept, "LC_ALL": "C.UTF-8", **{name: str(value) for name, value in settings.items() if value is not None}}


def end_in_order():
    """From now on SIGINT, SIGTERM and SIGHUP, unless ignored, raise KeyboardInterrupt with the signal's number: whoever
    started something ends it then, and takes its folders away. The first of them does; others are not to disturb that."""
    def interrupt(number, _frame):
        for each in ends:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt(number)

    ends = [number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
            if signal.getsignal(number) is not signal.SIG_IGN]
    for number in ends:
        signal.signal(number, interrupt)


class Process:
    """A running program: its own session, output in a file, SIGKILLed by the kernel when its parent thread ends.

    Start it from a thread that lives as long as it is to run; Python's main thread is one.
    """

    def __init__(self, argv, log, env=None, user=None, cwd="/"):
        # It changes the user first and asks for the signal then, as the kernel forgets it on such a change.
        become = WITH_US[:]
        if user is not None and os.geteuid() == 0:
            account = pwd.getpwnam(user)
            become += [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--init-groups"]
        self.name = pathlib.Path(argv[0]).name
        self.log = pathlib.Path(log)
        with open(self.log, "ab") as output:
            self.child = subprocess.Popen([*become, *map(str, argv)], stdin=subprocess.DEVNULL, stdout=output,
                                          stderr=output, cwd=cwd, env=environment() if env is None else env,
                                          start_new_session=True)
        self.pid = self.child.pid

    def alive(self):
        return self.child.poll() is None

    def send(self, number):
        """Signals this process alone; harmless once it has ended."""
        if self.alive():
            self.child.send_signal(number)

    def freeze(self):
        self.send(signal.SIGSTOP)

    def thaw(self):
        self.send(signal.SIGCONT)

    def wait(self, seconds=None):
        """The exit status: negative for a signal."""
        try:
            return self.child.wait(PATIENCE if seconds is None else seconds)
        except subprocess.TimeoutExpired:
            raise Impatience(f"{self.name} ({self.pid}) to end; it said:\n{self.tail()}\n{self.threads()}") from None

    def stop(self, number=signal.SIGTERM, seconds=None):
        """Asks it to end and waits; returns the exit status. A frozen one is thawed first."""
        self.send(number)
        self.thaw()
        return self.wait(seconds)

    def kill(self):
        """Ends it and all it started, without warning."""
        if self.alive():
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it has not become the leader of its session yet
            self.child.kill()
        return self.child.wait()

    def text(self):
        """All it wrote so far."""
        return self.log.read_text(errors="replace")

    def tail(self, lines=40):
        return "\n".join(self.text().splitlines()[-lines:])

    def threads(self):
        """What each of its threads waits for, by the kernel."""
        lines = []
        for thread in sorted(pathlib.Path(f"/proc/{self.pid}/task").glob("*")):
            with contextlib.suppress(OSError):
                words = [(thread / name).read_text().strip() for name in ("comm", "wchan", "syscall")]
                lines.append(f"thread {thread.name}: {' '.join(words)}")
        return "\n".join(lines)

    def cpu_seconds(self):
        """User and system time used so far."""
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def status_field(self, name):
        """A number of /proc/<pid>/status, for example VmHWM (peak resident memory, in KiB) or Threads."""
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
        raise KeyError(name)

    def peak_memory(self):
        """Peak resident memory in MiB."""
        return self.status_field("VmHWM") / 1024

    def open_files(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))
