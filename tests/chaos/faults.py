"""What can go wrong. Each fault is a generator: it does something, yields for how many seconds it lasts, undoes it.

One target has one fault at a time; those of different targets overlap. All steps are taken by one thread, as processes
die with the thread that started them.
"""

import collections
import contextlib
import heapq
import random
import signal
import time

import psycopg2

from bed.emulator import SESSIONS
from bed.rabbitmq import ErlangError

BOOT_SECONDS = 60


class Weather:
    """Begins faults at random, as its seed says, and goes on with those that last."""

    def __init__(self, service, seed, say):
        self.service, self.bed, self.emulator = service, service.bed, service.emulator
        self.random = random.Random(f"{seed} faults")
        self.say = say
        self.counts = collections.Counter()
        self.steps = []  # a heap: when, number, target, generator
        self.busy = set()
        self.failures = []
        self.number = 0
        self.next_at = 0
        self.workers = list(service.workers)
        # Weights; the first worker is never killed, so that whatever leaks in it adds up.
        self.kinds = {self.worker_killed: 14, self.worker_ended: 6, self.worker_stopped: 10,
                      self.broker_killed: 3, self.broker_restarted: 2, self.broker_stopped: 7, self.broker_cut: 10,
                      self.broker_blocked: 5,
                      self.store_killed: 5, self.store_restarted: 4, self.store_stopped: 8, self.store_cut: 10,
                      self.store_locked: 6,
                      self.stripe_stopped: 6, self.stripe_slow: 6, self.stripe_resets: 8, self.stripe_fails: 8,
                      self.stripe_loses_answers: 5, self.stripe_limits: 5, self.stripe_hangs: 5,
                      self.stripe_babbles: 5, self.stripe_denies: 4, self.configuration_gone: 4,
                      self.prices_change: 3}

    # --- running them ---

    def turn(self, begin):
        """Takes the steps that are due; with `begin` also begins another fault now and then."""
        now = time.monotonic()
        while self.steps and self.steps[0][0] <= now:
            _, _, target, fault = heapq.heappop(self.steps)
            self._go_on(target, fault)
        if begin and now >= self.next_at:
            self.next_at = now + self.random.uniform(0.5, 5.5)
            self._begin()

    def _begin(self):
        kind = self.random.choices(list(self.kinds), list(self.kinds.values()))[0]
        target = kind.__name__.partition("_")[0]
        if target in ("configuration", "prices"):
            target = "stripe"
        name = kind.__name__.replace("_", " ")
        argument = []
        if target == "worker":
            least = 0 if kind == self.worker_stopped else 1
            index = self.random.randrange(least, len(self.workers))
            target, argument = f"worker {index}", [index]
            name = f"worker {kind.__name__.partition('_')[2]}"
        if target in self.busy:
            return
        self.counts[name] += 1
        self.say(f"{name}{f' ({target})' if argument else ''}")
        self.busy.add(target)
        self._go_on(target, kind(*argument))

    def _go_on(self, target, fault):
        try:
            seconds = next(fault)
        except StopIteration:
            self.busy.discard(target)
            return
        self.number += 1
        heapq.heappush(self.steps, (time.monotonic() + seconds, self.number, target, fault))

    def end(self):
        """Lets all that is under way come to its end."""
        while self.steps:
            time.sleep(0.05)
            self.turn(begin=False)

    def _while(self, least=0.5, most=6.0):
        return self.random.uniform(least, most)

    # --- workers ---

    def _replace(self, index):
        self.workers[index] = self.service.start_worker(ready=False)

    def worker_killed(self, index):
        worker = self.workers[index]
        if worker.alive():
            worker.kill()
        else:
            self.failures.append(f"a worker ended by itself with {worker.child.returncode}:\n{worker.tail()}")
        yield self._while(0.1, 3)
        self._replace(index)
        yield 1

    def worker_ended(self, index):
        worker = self.workers[index]
        worker.send(signal.SIGTERM)
        end = time.monotonic() + 60
        while worker.alive():
            if time.monotonic() > end:
                self.failures.append(f"SIGTERM did not end a worker in 60 s:\n{worker.tail()}")
                worker.kill()
            yield 0.1
        if worker.child.returncode not in (0, -signal.SIGKILL):
            self.failures.append(f"SIGTERM ended a worker with {worker.child.returncode}:\n{worker.tail()}")
        self._replace(index)
        yield 1

    def worker_stopped(self, index):
        worker = self.workers[index]
        worker.freeze()
        yield self._while(0.2, 8)
        worker.thaw()

    # --- RabbitMQ ---

    def _broker_serves(self):
        self.bed.rabbitmq.start()
        end = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < end:
            with contextlib.suppress(ErlangError):
                if self.bed.rabbitmq.evaluate("rabbit_boot_state:has_reached(ready)") is True:
                    return
            yield 0.2
        raise RuntimeError(f"RabbitMQ does not start:\n{self.bed.rabbitmq.tail(40)}")

    def broker_killed(self):
        self.bed.rabbitmq.kill()
        yield self._while(0.1, 2)
        yield from self._broker_serves()

    def broker_restarted(self):
        process = self.bed.rabbitmq.process
        process.send(signal.SIGTERM)
        while process.alive():
            yield 0.1
        yield from self._broker_serves()

    def broker_stopped(self):
        self.bed.rabbitmq.freeze()
        yield self._while()
        self.bed.rabbitmq.thaw()

    def broker_cut(self):
        self.bed.rabbitmq.close_connections()
        yield 0.5

    def broker_blocked(self):
        """An alarm: nobody may publish."""
        alarm = "{{resource_limit, memory, node()}, []}"
        self.bed.rabbitmq.evaluate(f"rabbit_alarm:set_alarm({alarm}), 0")
        yield self._while(0.5, 4)
        self.bed.rabbitmq.evaluate("rabbit_alarm:clear_alarm({resource_limit, memory, node()}), 0")

    # --- PostgreSQL ---

    def _store_serves(self):
        self.bed.postgres.start()
        end = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < end:
            with contextlib.suppress(psycopg2.OperationalError):
                self.bed.postgres.connect().close()
                return
            yield 0.1
        raise RuntimeError(f"PostgreSQL does not start:\n{self.bed.postgres.process.tail()}")

    def store_killed(self):
        self.bed.postgres.kill()
        yield self._while(0.1, 3)
        yield from self._store_serves()

    def store_restarted(self):
        process = self.bed.postgres.process
        process.send(signal.SIGINT)
        while process.alive():
            yield 0.1
        yield from self._store_serves()

    def store_stopped(self):
        self.bed.postgres.freeze()
        yield self._while()
        self.bed.postgres.thaw()

    def store_cut(self):
        self.bed.postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'portal'")
        yield 0.5

    def store_locked(self):
        """Somebody else has the table, as for a migration."""
        with contextlib.closing(self.bed.postgres.connect(self.service.name)) as connection:
            connection.autocommit = False
            with connection.cursor() as cursor:
                cursor.execute("LOCK TABLE portal.sessions IN ACCESS EXCLUSIVE MODE")
                yield self._while(0.3, 3)
            connection.rollback()

    # --- Stripe ---

    def _fault(self, **rule):
        self.emulator.fault(**rule)
        yield self._while()
        self.emulator.clear_faults()

    def _share(self):
        return self.random.choice([0.1, 0.3, 1])

    def stripe_stopped(self):
        self.emulator.freeze()
        yield self._while()
        self.emulator.thaw()

    def stripe_slow(self):
        yield from self._fault(delay_ms={"lognormal": [self.random.choice([50, 300, 1000]), 0.8]})

    def stripe_resets(self):
        yield from self._fault(reset=self.random.choice(["before", "after"]), probability=self._share())

    def stripe_fails(self):
        """Its own 500s, some of them saved under the key."""
        yield from self._fault(status=500, effect=self.random.choice(["none", "before"]), probability=self._share(),
                               save=self.random.random() < 0.5)

    def stripe_loses_answers(self):
        """A proxy in between, or half an answer."""
        yield from self._fault(probability=self._share(), **self.random.choice(
            [{"status": 502, "effect": "before", "save": False}, {"half_body": True}]))

    def stripe_limits(self):
        yield from self._fault(status=429, probability=self._share(), retry_after=self.random.choice(["0", "1"]))

    def stripe_hangs(self):
        yield from self._fault(hang=True, probability=self._share(), path=self.random.choice(["/v1/", SESSIONS]))

    def stripe_babbles(self):
        yield from self._fault(probability=self._share(), **self.random.choice([{"not_json": True}, {"json": {}}]))

    def stripe_denies(self):
        yield from self._fault(status=401)

    def configuration_gone(self):
        """Somebody deactivates it in Stripe's dashboard."""
        for configuration in self.emulator.configurations():
            if configuration["active"]:
                self.emulator.data({"configurations": [{"id": configuration["id"], "active": False}]})
        yield 1

    def prices_change(self):
        self.emulator.data({"prices": [{"id": f"price_more_{self.number}", "product": "prod_base", "active": True}]})
        yield 1
