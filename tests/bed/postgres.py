"""A private PostgreSQL cluster."""

import contextlib
import getpass
import os
import pathlib
import secrets
import shutil
import signal
import subprocess

import psycopg2

from bed.process import Process, environment, free_port, wait_until

PROGRAMS = pathlib.Path("/usr/lib/postgresql/15/bin")

# Not what is tested: a crash of the machine. Processes may be killed at any time; that needs no fsync.
SETTINGS = {"fsync": "off", "full_page_writes": "off", "max_connections": "200", "shared_buffers": "64MB",
            "log_min_duration_statement": "-1", "log_line_prefix": "%m [%p] %q%u@%d ", "autovacuum_naptime": "10s"}


class Postgres:
    """Listens on 127.0.0.1 (scram passwords) and on a socket in its folder (trust). The superuser is `postgres`."""

    def __init__(self, directory, **settings):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir()
        self.user = "postgres" if os.geteuid() == 0 else getpass.getuser()
        if os.geteuid() == 0:
            shutil.chown(self.directory, self.user)
        self.port = free_port()
        self.settings = {**SETTINGS, **settings}
        self.password = secrets.token_urlsafe(12)
        self.process = None

    def initialise(self):
        passwords = self.directory / "password"
        passwords.write_text(self.password)
        if os.geteuid() == 0:
            shutil.chown(passwords, self.user)
        maker = Process([PROGRAMS / "initdb", "--username=postgres", f"--pwfile={passwords}", "--auth-local=trust",
                         "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync",
                         f"--pgdata={self.directory / 'data'}"],
                        log=self.log, user=self.user, cwd=self.directory)
        if maker.wait(120) != 0:
            raise RuntimeError(f"initdb failed:\n{maker.text()}")

    @property
    def log(self):
        return self.directory.parent / "postgres.log"

    def start(self):
        """Begins to start; wait_ready() tells when it serves."""
        if not (self.directory / "data").exists():
            self.initialise()
        options = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": self.directory,
                   **self.settings}
        argv = [PROGRAMS / "postgres", "-D", self.directory / "data"]
        for name, value in options.items():
            argv += ["-c", f"{name}={value}"]
        self.process = Process(argv, log=self.log, user=self.user, cwd=self.directory)

    def wait_ready(self, seconds=None):
        def serves():
            if not self.process.alive():
                raise RuntimeError(f"PostgreSQL ended:\n{self.process.tail()}")
            try:
                self.connect().close()
                return True
            except psycopg2.OperationalError:
                return False

        wait_until(serves, lambda: f"PostgreSQL to serve:\n{self.process.tail()}", seconds)

    def connect(self, database="postgres", user="postgres"):
        """A connection over the socket, in autocommit."""
        connection = psycopg2.connect(host=str(self.directory), port=self.port, dbname=database, user=user)
        connection.autocommit = True
        return connection

    def execute(self, statement, arguments=None):
        """Runs one statement as the superuser, outside of any transaction."""
        with contextlib.closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(statement, arguments)

    def url(self, database, user="postgres", password=None):
        """For a client: over TCP, with a password."""
        password = self.password if password is None else password
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def load(self, url, path):
        """Runs a file of SQL, all or nothing."""
        subprocess.run(["psql", "--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1",
                        f"--file={path}", url],
                       check=True, env=environment(), stdout=subprocess.DEVNULL)

    def stop(self):
        """Fast shutdown: sessions are cut, the rest is orderly."""
        self.process.stop(signal.SIGINT)

    def kill(self):
        """As by the kernel's out-of-memory killer. Its backends go too: as long as one is there, none can start."""
        if self.process is None or not self.process.alive():
            return
        backends = self._signal_backends(signal.SIGKILL)
        self.process.kill()
        wait_until(lambda: not any(map(runs, backends)), "PostgreSQL's backends to end")

    def _signal_backends(self, number):
        """Signals all processes but the postmaster, which is stopped first, so that it starts no others."""
        self.process.freeze()
        backends = children_of(self.process.pid)
        for pid in backends:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return backends

    def freeze(self):
        self._signal_backends(signal.SIGSTOP)

    def thaw(self):
        self._signal_backends(signal.SIGCONT)
        self.process.thaw()

    def restart(self):
        if self.process.alive():
            self.stop()
        self.start()
        self.wait_ready()


def children_of(pid):
    return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def runs(pid):
    """Whether a process is there and no zombie."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
