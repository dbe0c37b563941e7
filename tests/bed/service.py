"""One test's own corner of a bed: a virtual host, a database, a Stripe emulator, workers, and a sender of requests."""

import contextlib
import dataclasses
import json
import uuid

import pika
import pika.exceptions
import psycopg2
import psycopg2.extras

from bed import contract
from bed.emulator import Emulator
from bed.message import Message
from bed.process import wait_until
from bed.tap import Tap
from bed.worker import Worker, run

EXCHANGE, ROUTING_KEY = "portal", "request"
REQUESTS, DEAD, REPLIES = "portal.requests", "portal.dead", "portal.replies"
BASE_URL = "https://app.example.com"
ABSENT = object()


@dataclasses.dataclass
class Sent:
    """A request that is on its way."""

    request_id: str
    correlation_id: str
    body: bytes


class Service:
    def __init__(self, bed, name, settings=None, tapped=False):
        self.bed, self.name = bed, name
        self.directory = bed.directory / name
        self.directory.mkdir()
        bed.create_database(name)
        bed.rabbitmq.add_virtual_host(name, ["portal", "sender", "bed"])
        self._tap = Tap(bed.rabbitmq, name, "portal") if tapped else None
        self.emulator = Emulator(self.directory / "emulator.log")
        self.db = bed.postgres.connect(name)
        self.database_url = bed.postgres.url(name, "portal", bed.database_password)
        self.amqp_url = bed.rabbitmq.url(name, "portal", bed.worker_password)
        self.extra = settings or {}
        self.workers = []
        self.replies = []
        self.letters = []
        self._by_correlation = {}
        self._connection = self._channel = None
        self._declared = False

    # --- workers ---

    def settings(self, **changes):
        """What a worker of this corner is started with; a change to None takes a setting away."""
        settings = {"AMQP_URL": self.amqp_url, "DATABASE_URL": self.database_url,
                    "STRIPE_SECRET_KEY": self.emulator.secret_key, "STRIPE_API_BASE": self.emulator.url,
                    "STRIPE_RATE_LIMIT": "0", "BASE_URL": BASE_URL, **self.extra, **changes}
        return {name: value for name, value in settings.items() if value is not None}

    def start_worker(self, ready=True, **changes):
        worker = Worker(self.directory / "workers", self.settings(**changes))
        self.workers.append(worker)
        if ready:
            worker.wait_ready()
        return worker

    def run_worker(self, *arguments, **changes):
        """Runs portal-worker to its end: exit status, standard output, standard error."""
        return run(self.settings(**changes), *arguments)

    def declare(self):
        """Makes sure that the queues are there, as a worker declares them."""
        if self._declared:
            return
        if not any(worker.alive() for worker in self.workers):
            worker = self.start_worker()
            self._wait_declared()
            worker.stop()
        self._wait_declared()

    def _wait_declared(self):
        # The binding comes last; without it what is sent would be lost.
        wait_until(lambda: REQUESTS in self.bed.rabbitmq.bound(self.name, EXCHANGE),
                   lambda: f"the worker to declare its queues\n{self.logs()}")
        self._declared = True

    # --- messages, as another service sends and gets them ---

    @property
    def channel(self):
        if self._channel is None or not self._channel.is_open:
            self.connect()
        return self._channel

    def connect(self):
        """A new connection of the sender's, with an exclusive queue for replies."""
        url = self.bed.rabbitmq.url(self.name, "sender", self.bed.sender_password)
        self._connection = pika.BlockingConnection(pika.URLParameters(f"{url}?heartbeat=0"))
        self._channel = self._connection.channel()
        self.reply_to = self._channel.queue_declare("", exclusive=True).method.queue
        self._channel.basic_consume(self.reply_to, self._on_reply, auto_ack=True)
        self._channel.add_on_return_callback(self._on_return)
        self._confirmed = self._connection.channel()
        self._confirmed.confirm_delivery()

    def _on_reply(self, _channel, _method, properties, body):
        reply = Message(self.reply_to, body, properties)
        self.replies.append(reply)
        self._by_correlation.setdefault(properties.correlation_id, []).append(reply)
        contract.check_reply(reply)

    def _on_return(self, _channel, method, _properties, _body):
        raise AssertionError(f"a request came back: {method.reply_text}")

    def request(self, body=None, raw=None, reply_to=ABSENT, correlation_id=ABSENT, bulk=False, **properties):
        """Sends a request. `body` is made JSON, with a request_id where it has none (None: without); `raw` is sent as
        it is. Properties are AMQP's, by pika's names; reply_to is the sender's own queue unless said otherwise.

        The request is in its queue when this returns; in `bulk`, which is much faster, some time after."""
        self.declare()
        if raw is None:
            body = {"request_id": str(uuid.uuid4()), **(body or {})}
            body = {name: value for name, value in body.items() if value is not ABSENT}
            raw = json.dumps(body).encode()
        channel = self.channel
        correlation_id = str(uuid.uuid4()) if correlation_id is ABSENT else correlation_id
        properties = {"content_type": "application/json", "delivery_mode": 2, "correlation_id": correlation_id,
                      "reply_to": self.reply_to if reply_to is ABSENT else reply_to, **properties}
        channel = channel if bulk else self._confirmed
        channel.basic_publish(EXCHANGE, ROUTING_KEY, raw, pika.BasicProperties(**properties), mandatory=True)
        request_id = body.get("request_id") if isinstance(body, dict) else None
        return Sent(request_id or properties.get("message_id"), correlation_id, raw)

    def poll(self, seconds=0):
        """Takes in what has arrived, or waits so long for something to arrive."""
        self.channel.connection.process_data_events(time_limit=seconds)

    def replies_to(self, sent):
        """All replies to it so far."""
        self.poll()
        return self._by_correlation.get(sent.correlation_id, [])

    def wait_reply(self, sent, seconds=None):
        """The first reply to it."""
        return self.wait_replies([sent], seconds)[0]

    def wait_replies(self, sent, seconds=None):
        """The first reply to each of these requests, in their order."""
        wanted = {one.correlation_id for one in sent}

        def complete():
            self.poll(0.1)
            return wanted <= self._by_correlation.keys()

        def missing():
            count = len(wanted - self._by_correlation.keys())
            return f"{count} of {len(wanted)} replies to {sent[:3]}…\n{self.logs()}"

        wait_until(complete, missing, seconds, every=0)
        return [self._by_correlation[one.correlation_id][0] for one in sent]

    def ask(self, body=None, seconds=None, **properties):
        """Sends a request and waits for its reply."""
        return self.wait_reply(self.request(body, **properties), seconds)

    def take(self, queue, channel=None):
        """Takes every message out of a queue."""
        channel, messages = channel or self.channel, []
        while True:
            method, properties, raw = channel.basic_get(queue, auto_ack=True)
            if method is None:
                return messages
            messages.append(Message(queue, raw, properties))
            contract.check_taken(messages[-1])

    def dead_letters(self):
        """All dead letters so far, those that were taken before included."""
        self.letters += self.take(DEAD)
        return self.letters

    def wait_dead_letters(self, count=1, seconds=None):
        return wait_until(lambda: len(self.dead_letters()) >= count and self.letters,
                          lambda: f"{count} dead letters, there are {len(self.letters)}\n{self.logs()}", seconds)

    def queues(self):
        return self.bed.rabbitmq.queues(self.name)

    def queue_depth(self, name):
        """Messages in it, those that a worker holds included."""
        return self.queues()[name]

    def wait_empty(self, name=REQUESTS, seconds=None):
        """Waits until every message of a queue was taken and acknowledged."""
        wait_until(lambda: self.queue_depth(name) == 0, lambda: f"an empty {name}: {self.queues()}\n{self.logs()}",
                   seconds, every=0.05)

    # --- the database ---

    def team(self, customer=ABSENT, product="prod_base", **columns):
        """A new team, with a customer of its own unless told otherwise (None: without); returns its id."""
        identity = self.query("SELECT nextval('teams_id_seq') AS id")[0]["id"]
        row = {"id": identity, "name": f"Team {identity}", "stripe_product_id": product,
               "stripe_customer_id": f"cus_{identity}" if customer is ABSENT else customer, **columns}
        names = ", ".join(row)
        self.query(f"INSERT INTO teams ({names}) VALUES ({', '.join(['%s'] * len(row))})", list(row.values()))
        return identity

    def teams(self, count, product="prod_base"):
        """Many at once; returns their ids."""
        rows = self.query("INSERT INTO teams (name, stripe_customer_id, stripe_product_id) "
                          "SELECT 'Team ' || n, 'cus_many_' || n, %s FROM generate_series(1, %s) n RETURNING id",
                          [product, count])
        return [row["id"] for row in rows]

    def query(self, statement, arguments=()):
        """Rows as dictionaries, seen by the superuser."""
        with self.db.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
            cursor.execute(statement, arguments)
            return cursor.fetchall() if cursor.description else []

    def sessions(self):
        return self.query("SELECT * FROM portal.sessions ORDER BY request_id")

    def session(self, request_id):
        rows = self.query("SELECT * FROM portal.sessions WHERE request_id = %s", [request_id])
        return rows[0] if rows else None

    def reconnect(self):
        """After PostgreSQL was away."""
        self.db = self.bed.postgres.connect(self.name)

    # --- the end ---

    def end(self):
        """In good order: every worker stops when it is asked to, and every message was as the contract says."""
        for worker in self.workers:
            if worker.alive():
                status = worker.stop()
                assert status == 0, f"SIGTERM ended the worker with {status}:\n{worker.tail()}"
        if self.bed.rabbitmq.process.alive():
            self.judge()

    def judge(self):
        """Holds every message so far, whoever sent it, against the contract; returns how many of each kind it saw."""
        url = self.bed.rabbitmq.url(self.name, "bed", self.bed.rabbitmq.cookie)
        with contextlib.closing(pika.BlockingConnection(pika.URLParameters(f"{url}?heartbeat=0"))) as connection:
            seen = self._tap.judge(connection.channel())
            with contextlib.suppress(pika.exceptions.ChannelClosedByBroker):  # there is no such queue
                self.take(DEAD, connection.channel())  # some the broker itself put there, which no tap sees
        return seen

    def logs(self):
        return "\n".join(f"--- {worker.log.name}\n{worker.tail()}" for worker in self.workers)

    def kill(self):
        for process in [*self.workers, self.emulator.process]:
            process.kill()

    def close(self):
        """Ends what this test had, so that the next finds a quiet bed."""
        self.kill()
        self.bed.thaw()  # or what a test that failed left frozen would never answer
        self.bed.services.remove(self)
        for connection in (self._connection, self.db):
            with contextlib.suppress(pika.exceptions.AMQPError, psycopg2.Error):
                if connection is not None:
                    connection.close()
        if self.bed.rabbitmq.process.alive() and self.bed.postgres.process.alive():
            self.bed.rabbitmq.delete_virtual_host(self.name)
            self.bed.drop_database(self.name)
