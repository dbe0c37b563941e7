"""The load: requests of every kind, sent and answered over connections that come back by themselves.

A request counts as sent once the broker has confirmed it. Where a connection went first nobody knows, so the same message
is sent again: whoever answers has to bear with that.
"""

import dataclasses
import datetime
import itertools
import json
import random
import threading
import time

import pika
import pika.exceptions

from bed.contract import check_reply
from bed.message import Message
from bed.service import EXCHANGE, REPLIES, ROUTING_KEY

OWN, GONE, REFUSED = "portal.replies.chaos", "portal.replies.gone", "invoices"
AHEAD = 1500  # requests without an answer, at most
SESSION = frozenset({"created", "reused", "stripe_unavailable"})

# How often each kind is sent, of 1000.
KINDS = {"fresh": 330, "same shape": 230, "user": 110, "user and team": 40, "flow": 30, "repeated": 100, "replay": 50,
         "conflict": 20, "redirect": 25, "unknown team": 10, "hurried": 20, "invalid": 20, "oversized": 2,
         "default queue": 5, "queue gone": 6, "queue refused": 2}


@dataclasses.dataclass
class Request:
    """One message, and what the contract lets it be answered."""

    kind: str
    request_id: str
    correlation_id: str
    body: dict
    expected: frozenset
    customer: str = None
    raw: bytes = None
    reply_to: str = OWN
    generation: int = 0
    sends: int = 0
    replies: list = dataclasses.field(default_factory=list)

    @property
    def owed(self):
        return self.reply_to in (OWN, None)

    def properties(self):
        headers = {"x-portal-generation": self.generation} if self.generation else None
        return pika.BasicProperties(content_type="application/json", delivery_mode=2, reply_to=self.reply_to,
                                    correlation_id=self.correlation_id, headers=headers,
                                    timestamp=int(time.time()))


class Population:
    """Teams and users of the application."""

    def __init__(self, service):
        self.teams = {team: f"cus_many_{number}" for number, team in enumerate(service.teams(200), 1)}
        self.poor = service.team(customer=None)
        self.users = {}
        for team in list(self.teams)[:50]:
            self._join(service, team)
        self.strangers = [self._join(service, self.poor), 2_000_000_000]

    def _join(self, service, team):
        user = service.query("INSERT INTO users (email, password_hash) VALUES (%s, '!') RETURNING id",
                             [f"user-{team}@example.com"])[0]["id"]
        service.query("INSERT INTO team_members (user_id, team_id, role) VALUES (%s, %s, 'member')", [user, team])
        self.users[user] = team
        return user


class Maker:
    """Draws one request after the other."""

    def __init__(self, seed, population):
        self.random = random.Random(f"{seed} load")
        self.people = population
        self.numbers = itertools.count(1)
        self.bases = []  # those that others repeat
        self.regulars = list(population.teams)[:10]

    def draw(self):
        kind = self.random.choices(list(KINDS), list(KINDS.values()))[0]
        if kind in ("repeated", "replay", "conflict"):
            return self._again(kind) or self._fresh("fresh")
        make = {"same shape": self._same_shape, "user": self._user, "user and team": self._user, "flow": self._flow,
                "redirect": self._redirect, "unknown team": self._unknown, "hurried": self._hurried,
                "invalid": self._invalid, "oversized": self._oversized, "queue refused": self._refused}
        request = make.get(kind, self._fresh)(kind)
        if kind in ("fresh", "same shape", "user", "user and team", "flow", "redirect", "unknown team"):
            self.bases.append(request)
        return request

    def _new(self, kind, body, expected=SESSION, **more):
        number = next(self.numbers)
        request_id = f"chaos-{number}"
        return Request(kind, request_id, f"c-{number}", {"request_id": request_id, **body}, frozenset(expected), **more)

    def _team(self):
        return self.random.choice(list(self.people.teams))

    def _fresh(self, kind):
        team = self._team()
        queue = {"default queue": None, "queue gone": GONE}.get(kind, OWN)
        body = {"team_id": team, "fresh": True, "return_path": f"/dashboard/{self.random.randrange(50)}"}
        return self._new(kind, body, customer=self.people.teams[team], reply_to=queue)

    def _same_shape(self, kind):
        team = self.random.choice(self.regulars)
        body = {"team_id": team, "locale": self.random.choice(["de", "en"])}
        return self._new(kind, body, customer=self.people.teams[team])

    def _user(self, kind):
        user = self.random.choice([user for user in self.people.users if user not in self.people.strangers])
        team = self.people.users[user]
        body = {"user_id": user, **({"team_id": team} if kind == "user and team" else {})}
        return self._new(kind, body, customer=self.people.teams[team])

    def _flow(self, kind):
        team = self._team()
        body = {"team_id": team, "flow": {"type": "payment_method_update"}}
        return self._new(kind, body, customer=self.people.teams[team])

    def _redirect(self, kind):
        if self.random.random() < 0.3:
            return self._new(kind, {"team_id": self.people.poor}, {"no_subscription"})
        user = self.random.choice(self.people.strangers)
        return self._new(kind, {"user_id": user}, {"no_subscription" if user in self.people.users else "unauthenticated"})

    def _unknown(self, kind):
        return self._new(kind, {"team_id": 1_900_000_000}, {"team_not_found"})

    def _hurried(self, kind):
        team = self._team()
        moment = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=self.random.uniform(-1, 4))
        body = {"team_id": team, "fresh": True, "deadline": moment.isoformat()}
        return self._new(kind, body, SESSION | {"deadline_exceeded"}, customer=self.people.teams[team])

    def _invalid(self, kind):
        wrong = self.random.choice([{"return_path": "//evil.example"}, {"team_id": 0}, {"locale": "xx"}, {"fresh": 1},
                                    {"flow": {"type": "nothing"}}, {"deadline": "tomorrow"}])
        request = self._new(kind, {"team_id": self._team(), **wrong}, {"invalid_request"})
        if self.random.random() < 0.2:
            request.raw = b'{"request_id": '
        return request

    def _oversized(self, kind):
        return self._new(kind, {"team_id": self._team(), "unknown": "x" * 20000}, {"invalid_request"})

    def _refused(self, kind):
        return self._new(kind, {"team_id": self._team()}, (), reply_to=REFUSED)

    def _again(self, kind):
        if len(self.bases) < 100:
            return None
        # Mostly those of late, which are still in hand; a conflict is one for sure only with what was answered.
        base = self.bases[-1 - min(int(self.random.expovariate(1 / 200)), len(self.bases) - 1)]
        if kind != "repeated" and not any(reply["generation"] for reply in base.replies):
            return None
        request = dataclasses.replace(base, kind=kind, correlation_id=f"c-{next(self.numbers)}", sends=0, replies=[],
                                      generation=0)
        if kind == "replay":
            request.generation = 1 + max(reply["generation"] or 0 for reply in base.replies)
        if kind == "conflict":
            request.body = {**base.body, "return_path": "/another"}
            request.expected, request.customer = frozenset({"request_conflict"}), None
        return request


class Connection(threading.Thread):
    """A thread that works over a connection of its own, and makes a new one whenever that one breaks."""

    def __init__(self, service):
        super().__init__(daemon=True)
        self.url = service.bed.rabbitmq.url(service.name, "sender", service.bed.sender_password)
        self.ending = threading.Event()
        self.failure = None
        self.connections = 0

    def run(self):
        try:
            while not self.ending.is_set():
                try:
                    self._once()
                except (pika.exceptions.AMQPError, OSError):
                    self.ending.wait(0.2)
        except BaseException as failure:  # told by whoever waits for this thread
            self.failure = failure

    def _once(self):
        connection = pika.BlockingConnection(pika.URLParameters(f"{self.url}?heartbeat=0&socket_timeout=5"))
        self.connections += 1
        try:
            self.work(connection)
        finally:
            if connection.is_open:
                connection.close()

    def end(self, seconds=60):
        self.ending.set()
        self.join(seconds)
        if self.failure:
            raise self.failure


class Receiver(Connection):
    """Takes in all replies."""

    def __init__(self, service):
        super().__init__(service)
        self.requests = {}
        self.replies = []
        self.unknown = []
        self.answered = 0
        self.broken = []

    def work(self, connection):
        channel = connection.channel()
        channel.queue_declare(OWN, durable=True, arguments={"x-queue-type": "quorum"})
        channel.basic_qos(prefetch_count=500)
        for queue in (OWN, REPLIES):
            channel.basic_consume(queue, self._take)
        while not self.ending.is_set():
            connection.process_data_events(time_limit=0.2)

    def _take(self, channel, method, properties, raw):
        message = Message(method.routing_key, raw, properties)
        reply = json.loads(raw)
        request = self.requests.get(properties.correlation_id)
        try:
            check_reply(message)
        except AssertionError as breach:
            self.broken.append(f"{properties.correlation_id}: {breach}")
        if request is None:
            self.unknown.append(reply)
        else:
            self.answered += not request.replies
            request.replies.append(reply)
            self.replies.append((request, raw))
        channel.basic_ack(method.delivery_tag)


class Sender(Connection):
    """Sends what the maker draws, so many a second, as long as not too many are unanswered."""

    def __init__(self, service, maker, receiver, rate):
        super().__init__(service)
        self.maker, self.receiver, self.rate = maker, receiver, rate
        self.sent = []
        self.doubtful = 0
        self._pending = None
        self.stopping = threading.Event()

    def work(self, connection):
        channel = connection.channel()
        channel.confirm_delivery()
        due = time.monotonic()
        while not self.ending.is_set() and (self._pending or not self.stopping.is_set()):
            if self._pending is None and len(self.sent) - self.receiver.answered > AHEAD:
                connection.sleep(0.05)
                due = time.monotonic()
                continue
            self._send(channel)
            due += 1 / self.rate
            if due > time.monotonic():
                connection.sleep(due - time.monotonic())
        self.ending.set()

    def _send(self, channel):
        request = self._pending
        if request is None:
            request = self._pending = self.maker.draw()
            self.receiver.requests[request.correlation_id] = request
        self.doubtful += request.sends > 0
        request.sends += 1
        raw = json.dumps(request.body).encode() if request.raw is None else request.raw
        channel.basic_publish(EXCHANGE, ROUTING_KEY, raw, request.properties(), mandatory=True)
        self._pending = None
        self.sent.append(request)

    def stop(self):
        """Nothing new is sent."""
        self.stopping.set()

    @property
    def unanswered(self):
        return [request for request in self.sent if request.owed and not request.replies]
