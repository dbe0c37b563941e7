"""What tests of outages ask again and again: what the queue holds, what the worker said and used, whether all was served.
"""

import collections
import contextlib
import re
import time

from bed.process import wait_until
from bed.rabbitmq import ErlangError
from bed.service import REQUESTS

# Promised is 2 s after whatever was away is back; tests allow a factor of three.
RESUME_SECONDS = 6


def prepare(service, teams=20):
    """So many teams, in `service.some`, their product, and a configuration that the emulator has as data: when it is
    restarted it forgets what workers made."""
    service.emulator.product()
    service.emulator.data({"configurations": [{"id": "bpc_given"}]})
    service.some = service.teams(teams)


def warm_up(service, **settings):
    """A worker, also in `service.worker`, that has served a request."""
    service.worker = service.start_worker(**settings)
    assert service.ask({"team_id": service.some[0], "fresh": True})["outcome"] == "created"
    return service.worker


def waiting(service):
    """Requests that nobody has in hand, and consumers of the queue, as its leader knows them. A consumer that was
    cancelled counts no more; in what AMQP says it does, as long as it has requests in hand."""
    rows = service.bed.rabbitmq.evaluate(
        f'{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"{service.name}">>, queue, <<"{REQUESTS}">>)), '
        'Ask = fun(F) -> element(2, element(2, ra:leader_query(amqqueue:get_pid(Q), F))) end, '
        '[Ask(fun rabbit_fifo:query_messages_ready/1), maps:size(Ask(fun rabbit_fifo:query_consumers/1))]')
    return tuple(rows)


def wait_queues(service, *names):
    """Waits until all queues have leaders, and these are among them."""
    def led():
        try:
            return set(names) <= service.queues().keys()
        except ErlangError:
            return False  # there is a queue without a leader yet

    wait_until(led, lambda: f"the queues to have leaders\n{service.logs()}", every=0.1)


def wait_intake_closed(service):
    """Waits until no worker consumes; returns how many requests wait in the queue then."""
    wait_until(lambda: waiting(service)[1] == 0, lambda: f"the consumer to be cancelled\n{service.logs()}", every=0.05)
    return waiting(service)[0]


def send(service, count, teams, bulk=True, **fields):
    """So many requests, over the teams by turns, each for a session of its own."""
    return [service.request({"team_id": teams[n % len(teams)], "fresh": True, **fields}, bulk=bulk)
            for n in range(count)]


def said(worker, pattern):
    """Lines of its log that match."""
    return [line for line in worker.text().splitlines() if re.search(pattern, line)]


class Usage:
    """Processor seconds of a worker over a time."""

    def __init__(self, worker):
        self.worker, self.began, self.used = worker, time.monotonic(), worker.cpu_seconds()

    def stop(self):
        """Seconds of processor and of time since it began."""
        return self.worker.cpu_seconds() - self.used, time.monotonic() - self.began


def absorb(service):
    """Takes in all replies that are there; returns how many there have been."""
    before = -1
    while before < len(service.replies):
        before = len(service.replies)
        service.poll(0.05)
    return before


def wait_first_reply(service, before, seconds):
    """How long it takes from now until there are more replies than before."""
    began = time.monotonic()
    wait_until(lambda: (service.poll(0.02), len(service.replies) > before)[1],
               lambda: f"a reply\n{service.logs()}", seconds, every=0)
    return time.monotonic() - began


def check_all_served(service, sent, seconds=90):
    """Each got a session of its own, the same in every reply and in the store, made under one key; none is a dead
    letter, none is left behind."""
    replies = service.wait_replies(sent, seconds)
    assert collections.Counter(reply["outcome"] for reply in replies) == {"created": len(sent)}
    service.wait_empty(REQUESTS, seconds)
    assert service.dead_letters() == []
    handed_out = collections.defaultdict(set)
    for reply in service.replies:
        handed_out[reply["request_id"]].add(reply["session"]["id"])
    stored = {row["request_id"]: row["session_id"] for row in service.sessions()}
    for one in sent:
        assert handed_out[one.request_id] == {stored[one.request_id]}, "one session is handed out for a request"
    assert len({stored[one.request_id] for one in sent}) == len(sent)


@contextlib.contextmanager
def password(bed, role, changed):
    """Another password of the role while it lasts, and the sessions it has are ended."""
    def change(to):
        bed.postgres.execute(f"ALTER ROLE {role} PASSWORD %s", [to])

    change(changed)
    bed.postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [role])
    try:
        yield
    finally:
        change(bed.database_password)
