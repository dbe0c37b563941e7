"""The servers that many tests share: one PostgreSQL, one RabbitMQ; each test gets its own corner of them."""

import os
import pathlib
import secrets
import shutil
import subprocess
import tempfile

from bed.postgres import Postgres
from bed.process import BUILD, ROOT, end_in_order, environment
from bed.rabbitmq import RabbitMQ
from bed.service import Service

TEMPLATE = "portal_template"


class Bed:
    """Use it as a context: `with Bed() as bed:`. Leaving it stops all it started and removes its folder, also where a
    signal ends the program."""

    def __init__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="portal-bed-"))
        self.directory.chmod(0o711)  # PostgreSQL runs as another user and has to get through to its own folder
        self.postgres = Postgres(self.directory / "postgres")
        self.rabbitmq = RabbitMQ(self.directory / "rabbitmq")
        # The worker's own login, and the other services', at the broker; the worker's at the database.
        self.worker_password = secrets.token_urlsafe(12)
        self.sender_password = secrets.token_urlsafe(12)
        self.database_password = secrets.token_urlsafe(12)
        self.services = []
        self._numbers = 0

    def __enter__(self):
        end_in_order()
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_):
        self.stop()

    def start(self):
        self.rabbitmq.start()  # takes longest, so it goes first
        self.postgres.start()
        self.postgres.wait_ready()
        self._make_template()
        self.rabbitmq.wait_ready()
        self.rabbitmq.add_user("portal", self.worker_password)
        self.rabbitmq.add_user("sender", self.sender_password)
        return self

    def _make_template(self):
        """A database as the worker needs it; each test's is a copy. Its owner is no superuser, as in production."""
        execute = self.postgres.execute
        execute("CREATE ROLE application LOGIN CREATEROLE PASSWORD %s", [self.database_password])
        execute(f"CREATE DATABASE {TEMPLATE} OWNER application")
        self.postgres.load(self.owner_url(TEMPLATE), ROOT / "sql/application/starter.sql")
        self.migrate(TEMPLATE)
        execute("CREATE ROLE portal LOGIN PASSWORD %s IN ROLE portal_worker", [self.database_password])

    def owner_url(self, database):
        return self.postgres.url(database, "application", self.database_password)

    def migrate(self, database):
        done = subprocess.run([BUILD / "portalctl", "migrate", "--directory", ROOT / "sql"], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              env=environment(DATABASE_URL=self.owner_url(database)))
        if done.returncode != 0:
            raise RuntimeError(f"portalctl migrate failed:\n{done.stdout}")
        return done.stdout

    def create_database(self, name, template=TEMPLATE):
        self.postgres.execute(f"CREATE DATABASE {name} OWNER application TEMPLATE {template}")

    def drop_database(self, name):
        self.postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def service(self, tapped=False, **settings):
        """A new corner: a virtual host, a database and an emulator, with nobody else in it. `tapped`: every message in
        it can be judged, see bed/tap.py; that costs the broker some time."""
        self._numbers += 1
        service = Service(self, f"portal_{os.getpid()}_{self._numbers}", settings, tapped)
        self.services.append(service)
        return service

    def stop(self):
        """In the order in which nobody misses another; what they wrote is thrown away, so none has to end well."""
        for service in self.services:
            service.kill()
        self.rabbitmq.discard()
        self.postgres.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def thaw(self):
        """Lets servers go on that a test made stand still."""
        for server in (self.postgres, self.rabbitmq):
            if server.process.alive():
                server.thaw()

    def heal(self):
        """Puts the servers right again after a test that failed while it had broken them."""
        self.thaw()
        for server in (self.postgres, self.rabbitmq):
            if not server.process.alive():
                server.start()
                server.wait_ready()
