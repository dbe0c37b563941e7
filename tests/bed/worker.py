"""A running portal-worker, watched as systemd would watch it."""

import pathlib
import socket
import subprocess
import threading

from bed.process import BUILD, PATIENCE, SANITIZED, Impatience, Process, environment, wait_until


class Worker(Process):
    """Started with settings from the environment; its log is in `log`, what it tells systemd in `notices`."""

    def __init__(self, directory, settings, arguments=(), program=None):
        directory = pathlib.Path(directory)
        directory.mkdir(exist_ok=True)
        number = sum(1 for path in directory.iterdir() if path.suffix == ".log")
        self.notices = {}
        self.told = []
        self._condition = threading.Condition()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address = directory / f"notify-{number}"
        self._socket.bind(str(address))
        super().__init__([program or BUILD / "portal-worker", *arguments], log=directory / f"worker-{number}.log",
                         env=environment(NOTIFY_SOCKET=address, **settings))
        # Read at once and always: ten unread datagrams would block the sender.
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        while True:
            datagram = self._socket.recv(65536)
            if datagram == b"":
                self._socket.close()
                return
            lines = datagram.decode(errors="replace").splitlines()
            with self._condition:
                self.told += lines
                self.notices.update(line.split("=", 1) for line in lines if "=" in line)
                self._condition.notify_all()

    def wait_notice(self, condition, what, seconds=None):
        """Waits until condition(notices) holds, for example on STATUS; fails at once if the worker ended."""
        wait_until(lambda: self._holds(condition), lambda: f"{what}; it said {self.notices}\n{self.tail()}", seconds)
        return self

    def _holds(self, condition):
        with self._condition:
            if condition(self.notices):
                return True
        if not self.alive():
            raise AssertionError(f"the worker ended with {self.child.returncode}:\n{self.tail()}")
        return False

    def wait_ready(self, seconds=None):
        return self.wait_notice(lambda notices: notices.get("READY") == "1", "READY=1", seconds)

    def wait_status(self, *words, seconds=None):
        """Waits for a STATUS= that has all these words."""
        return self.wait_notice(lambda notices: all(word in notices.get("STATUS", "") for word in words),
                                f"a status with {words}", seconds)

    @property
    def status(self):
        return self.notices.get("STATUS", "")

    def wait(self, seconds=None):
        try:
            status = super().wait(seconds)
        except Impatience:
            # LeakSanitizer of GCC 12 now and then hangs in its search at the very end, its tracer attached.
            if not SANITIZED or self.status_field("TracerPid") == 0:
                raise
            self.kill()
            status = 0
        self._close()
        return status

    def kill(self):
        status = super().kill()
        self._close()
        return status

    def _close(self):
        """Ends the listening thread."""
        if self._socket.fileno() >= 0:
            try:
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ender:
                    ender.sendto(b"", self._socket.getsockname())
            except OSError:
                pass  # it has ended already


def run(settings, *arguments, seconds=PATIENCE, program="portal-worker"):
    """Runs a program to its end; returns exit status, standard output and standard error."""
    done = subprocess.run([BUILD / program, *arguments], env=environment(**settings), text=True, timeout=seconds,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/")
    return done.returncode, done.stdout, done.stderr
