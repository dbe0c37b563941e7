"""A worker that one message kills, and somebody who starts it anew, as systemd does."""

import subprocess

from bed.process import BUILD, ROOT, SANITIZED, wait_until

MARKER = "poison-for-the-parser"


def library(directory):
    """Compiles crash-on.c; returns what a worker's environment needs for it."""
    path = directory / "crash-on.so"
    if not path.exists():
        subprocess.run(["gcc", "-std=gnu17", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC",
                        "-o", path, ROOT / "tests/bed/crash-on.c"], check=True)
    first = []
    if SANITIZED:  # AddressSanitizer wants to come first of all
        linked = subprocess.run(["ldd", BUILD / "portal-worker"], check=True, text=True, stdout=subprocess.PIPE).stdout
        first = [word for word in linked.split() if word.startswith("/") and "libasan" in word]
    return {"LD_PRELOAD": ":".join([*first, str(path)]), "CRASH_ON": MARKER}


class Supervisor:
    """Starts the worker anew whenever it died."""

    def __init__(self, service, **settings):
        self.service, self.settings = service, {**library(service.directory), **settings}
        self.crashes = 0
        self.worker = self._start()

    def _start(self):
        return self.service.start_worker(ready=False, **self.settings)

    def tend(self):
        if not self.worker.alive():
            self.crashes += 1
            self.worker = self._start()

    def until(self, condition, what, seconds):
        """Waits for the condition, and starts the worker anew meanwhile."""
        def tended():
            self.tend()
            return condition()

        return wait_until(tended, what, seconds)
