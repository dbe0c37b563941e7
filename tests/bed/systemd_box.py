"""A real systemd, as PID 1 of namespaces of its own, over a throw-away copy of this machine's root."""

import contextlib
import json
import os
import pathlib
import subprocess

from bed.process import ROOT, Process, environment, wait_until

BOOT = ROOT / "tests/bed/systemd-box.sh"
# Into control groups of its own first, so that the box sees nothing above them.
ENTER = """\
for group in "${@:3}"; do echo $$ >"$group/cgroup.procs"; done
exec unshare --fork --kill-child --pid --mount --uts --ipc --cgroup "$1" "$2"
"""


class Unavailable(RuntimeError):
    """This machine does not let us make namespaces, or has no systemd to boot."""


def _control_groups(name):
    """A folder of that name below our own group, in each hierarchy that systemd uses."""
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        places = {"name=systemd": ["systemd"], "": ["unified", "."]}.get(controllers, [])
        for place in places:
            mounted = pathlib.Path("/sys/fs/cgroup", place)
            if (mounted / "cgroup.procs").exists():
                yield mounted / path.lstrip("/") / name
                break


class SystemdBox:
    """Use it as a context. What is in `share` is in /share inside; programs run inside as root by run()."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.share = self.directory / "share"
        self.log = self.directory / "boot.log"
        self.groups = list(_control_groups(f"portal-box-{os.getpid()}-{id(self):x}"))
        self.process = None
        self.pid = None

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_):
        self.stop()

    def start(self):
        if os.geteuid() != 0:
            raise Unavailable("only root can boot a systemd in namespaces")
        if not pathlib.Path("/lib/systemd/systemd").exists():
            raise Unavailable("there is no systemd on this machine")
        self.share.mkdir(parents=True)
        try:
            for group in self.groups:
                group.mkdir()
        except OSError as error:
            raise Unavailable(f"no control groups can be made: {error}") from error
        self.process = Process(["bash", "-euc", ENTER, "box", BOOT, self.directory, *self.groups], log=self.log)
        wait_until(self._booted, lambda: f"systemd to boot:\n{self.process.tail()}", 60, every=0.1)
        return self

    def _booted(self):
        if not self.process.alive():
            raise Unavailable(f"no systemd can be booted in namespaces here:\n{self.process.tail()}")
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        with contextlib.suppress(IndexError, FileNotFoundError):
            self.pid = int(children[0])
            if pathlib.Path(f"/proc/{self.pid}/comm").read_text() == "systemd\n":
                return self.run("systemctl", "is-system-running", check=False).strip() in ("running", "degraded")
        return False

    def stop(self):
        """Everything that was written inside is gone with it."""
        if self.process is not None:
            self.process.kill()
        for group in self.groups:
            wait_until(lambda: _remove(group), f"{group} to be empty")

    def run(self, *command, check=True, seconds=120, text=None):
        """Runs a program inside; what it wrote, errors included. `text` is its standard input."""
        done = subprocess.run(["nsenter", "--target", str(self.pid), "--all", "--wdns=/", *map(str, command)],
                              input=text or "", text=True, errors="replace", timeout=seconds, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, env=environment(DEBIAN_FRONTEND="noninteractive"))
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}")
        return done.stdout

    def systemctl(self, *arguments, check=True, seconds=120):
        return self.run("systemctl", *arguments, check=check, seconds=seconds)

    def show(self, unit, name):
        """One property of a unit."""
        return self.systemctl("show", "--value", f"--property={name}", unit).strip()

    def journal(self, *arguments):
        """Entries as dictionaries, oldest first."""
        output = self.run("journalctl", "--no-pager", "--output=json", "--all", *arguments)
        return [json.loads(line) for line in output.splitlines() if line.startswith("{")]

    def write(self, path, text, mode=0o600):
        """A file inside, made in one step."""
        self.run("install", "-D", f"--mode={mode:o}", "/dev/stdin", path, text=text)


def _remove(group):
    """Whether it is gone, with all below it; processes that were killed take a moment to leave theirs."""
    try:
        for below in sorted(group.glob("**/"), key=lambda path: len(path.parts), reverse=True):
            below.rmdir()
    except OSError:
        return not group.exists()
    return not group.exists()
