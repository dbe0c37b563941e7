"""`make chaos`: load on real servers while everything fails at random, then a judgement. README.md says more.

    python3 -m chaos.chaos MINUTES [SEED]
"""

import collections
import contextlib
import json
import os
import random
import re
import secrets
import shutil
import sys
import time

from bed import Bed, wait_until
from bed.process import BUILD, SANITIZED, Impatience
from bed.service import REQUESTS

from chaos.faults import Weather
from chaos.judge import SHOWN, Judge
from chaos.load import Maker, Population, Receiver, Sender

WORKERS = 3
RATE = 80  # requests a second
STRIPE_CONCURRENCY = 20
SETTLE_SECONDS = 240  # how long the last request may take once all is well
FILES_MORE = STRIPE_CONCURRENCY + 4  # idle connections to Stripe are kept
MEMORY_MIB, MEMORY_GROWTH_MIB = 64, 12


def settings(seed):
    choice = random.Random(f"{seed} settings")
    return {"PORTAL_CONFIGURATION": choice.choice(["shared", "per-product"]), "PORTAL_HOLD_SECONDS": 8,
            "PORTAL_PRICES_SECONDS": 5, "PORTAL_CONCURRENCY": choice.choice([32, 128, 256]),
            "PORTAL_DRAIN_SECONDS": 10, "STRIPE_CONCURRENCY": STRIPE_CONCURRENCY, "STRIPE_RATE_LIMIT": 300,
            "STRIPE_CONNECT_TIMEOUT_MS": 2000, "STRIPE_ANSWER_TIMEOUT_MS": 4000, "STRIPE_TIMEOUT_MS": 8000}


class Chaos:
    def __init__(self, bed, minutes, seed):
        self.seconds, self.seed = minutes * 60, seed
        self.settings = settings(seed)
        self.service = bed.service(**self.settings)
        self.service.emulator.product("prod_base", prices=3)
        for _ in range(WORKERS):
            self.service.start_worker()
        self.service.declare()
        self.began = time.monotonic()
        self.receiver = Receiver(self.service)
        self.sender = Sender(self.service, Maker(seed, Population(self.service)), self.receiver, RATE)
        self.weather = Weather(self.service, seed, self.say)
        self.early = None

    def say(self, text):
        print(f"  {time.monotonic() - self.began:6.1f} s  {text}", flush=True)

    def run(self):
        self.receiver.start()
        wait_until(lambda: self.receiver.connections, "a connection to the broker")
        self.sender.start()
        end = self.began + self.seconds
        while time.monotonic() < end:
            self.weather.turn(begin=time.monotonic() > self.began + 3)
            self._look()
            time.sleep(0.05)
        self.say(f"no more faults; {len(self.sender.sent)} requests sent, {len(self.sender.unanswered)} unanswered")
        self.weather.end()
        self.sender.stop()
        self.sender.end()
        self.say("no more requests")

    def _look(self):
        for thread in (self.sender, self.receiver):
            if thread.failure:
                raise thread.failure
        if self.early is None and time.monotonic() > self.began + self.seconds / 3:
            self.early = self.service.workers[0].status_field("VmRSS") / 1024

    def settle(self):
        """Waits until nothing is left to do, however it went."""
        self.service.reconnect()
        self.service.connect()

        def quiet():
            return not self.sender.unanswered and self.service.queue_depth(REQUESTS) == 0

        with contextlib.suppress(Impatience):
            wait_until(quiet, "quiet", SETTLE_SECONDS, every=0.5)
            wait_until(lambda: not self.service.query("SELECT 1 FROM portal.suspects"), "no suspects", 15, every=0.5)
        time.sleep(1)  # what comes twice or too late is to be seen too
        self.receiver.end()
        self.say("quiet")

    def resources(self):
        """What each worker has, beside one that has just begun."""
        fresh = self.service.start_worker()
        time.sleep(1)
        workers = [worker for worker in self.weather.workers if worker.alive()]
        self.files = [worker.open_files() for worker in workers]
        self.memory = [worker.status_field("VmRSS") / 1024 for worker in workers]
        self.fresh_files, self.fresh_memory = fresh.open_files(), fresh.status_field("VmRSS") / 1024
        for files in self.files:
            if files > self.fresh_files + FILES_MORE:
                yield f"{files} files are open, {self.fresh_files} in one that has just begun"
        if SANITIZED:
            return
        for memory in self.memory:
            if memory > MEMORY_MIB:
                yield f"{memory:.0f} MiB"
        if self.memory[0] > self.early + MEMORY_GROWTH_MIB:
            yield f"{self.memory[0]:.1f} MiB, {self.early:.1f} after a third of the time"

    def endings(self):
        """How the workers end, and what they have written."""
        yield from self.weather.failures
        if len([worker for worker in self.weather.workers if worker.alive()]) < WORKERS:
            yield "a worker has ended by itself"
        for worker in self.service.workers:
            if worker.alive() and worker.stop() != 0:
                yield f"SIGTERM ended it with {worker.child.returncode}:\n{worker.tail()}"
        secret = "|".join(map(re.escape, [self.service.emulator.secret_key, self.service.bed.worker_password,
                                          self.service.bed.database_password]))
        for worker in self.service.workers:
            found = re.search(rf"{secret}|/p/session/|AddressSanitizer|runtime error|Assertion", worker.text())
            if found:
                yield f"\"{found[0]}\" in {worker.log}"

    def judge(self):
        verdicts = {"nothing leaks: files, memory": list(self.resources())}
        self.verdict = Judge(self.service, self.sender, self.receiver)
        verdicts.update(self.verdict.run())
        verdicts["no worker ends by itself, and none tells a secret"] = list(self.endings())
        return verdicts

    def table(self):
        kinds = collections.Counter(request.kind for request in self.sender.sent)
        answers = collections.Counter()
        for _, raw in self.receiver.replies:
            reply = json.loads(raw)
            answers[(reply["error"] or reply["redirect"] or {"code": reply["outcome"]})["code"]] += 1
        redelivered = sum(max(0, len(request.replies) - 1) for request in self.sender.sent)
        counters = self.service.emulator.counters()
        letters = collections.Counter(letter.headers.get("x-portal-reason", "by the broker")
                                      for letters in self.verdict.letters.values() for letter in letters)
        configurations = len(self.service.emulator.made_configurations())

        def listed(counter):
            return ", ".join(f"{name} {count}" for name, count in sorted(counter.items(), key=lambda i: -i[1])) or "none"

        rows = [("seed", f"{self.seed}: {self.settings['PORTAL_CONFIGURATION']}, "
                         f"{self.settings['PORTAL_CONCURRENCY']} in hand"),
                ("faults", f"{sum(self.weather.counts.values())}: {listed(self.weather.counts)}"),
                ("requests", f"{len(self.sender.sent)}: {listed(kinds)}"),
                ("sent again in doubt", self.sender.doubtful),
                ("replies", f"{len(self.receiver.replies)}: {listed(answers)}"),
                ("replies given again", redelivered),
                ("dead letters", f"{sum(letters.values())}: {listed(letters)}"),
                ("requests stored", len(self.verdict.rows)),
                ("generations", f"{len(self.verdict.by_generation)}, the highest "
                                f"{max((row['generation'] for row in self.verdict.rows.values()), default=0)}"),
                ("sessions handed out", len(self.verdict.sessions)),
                ("sessions at Stripe", counters["sessions_made"]),
                ("keys", f"{len(self.verdict.keys)} with a session, {counters['replays']} answers replayed"),
                ("calls to Stripe", f"{counters['calls']}, {counters['faults']} of them with a fault"),
                ("refused by Stripe", listed(collections.Counter(counters["errors"]))),
                ("configurations made", configurations),
                ("connections of the sender", self.sender.connections + self.receiver.connections),
                ("workers started", len(self.service.workers)),
                ("files open", f"{self.files}, in a fresh one {self.fresh_files}"),
                ("memory, MiB", f"{[round(mib, 1) for mib in self.memory]}, after a third of the time "
                                f"{self.early:.1f}, in a fresh one {self.fresh_memory:.1f}")]
        width = max(len(name) for name, _ in rows)
        print()
        for name, value in rows:
            print(f"  {name:{width}}  {value}")
        print()


def keep_logs(bed):
    """For whoever looks into what went wrong."""
    place = BUILD / "chaos-logs"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for path in [*bed.directory.glob("*.log"), *bed.directory.glob("*/*.log"), *bed.directory.glob("*/workers/*.log"),
                 *bed.directory.glob("rabbitmq/log/*.log")]:
        shutil.copy(path, place / path.name)
    print(f"  logs are in {os.path.relpath(place)}")


def main():
    minutes = float(sys.argv[1])
    seed = sys.argv[2] if len(sys.argv) > 2 and sys.argv[2] else str(secrets.randbelow(10**9))
    print(f"== chaos for {minutes:g} minutes, seed {seed}", flush=True)
    with Bed() as bed:
        chaos = Chaos(bed, minutes, seed)
        try:
            chaos.run()
            chaos.settle()
            verdicts = chaos.judge()
            chaos.table()
        except BaseException:
            keep_logs(bed)
            raise
        for name, wrong in verdicts.items():
            print(f"  {'FAIL' if wrong else 'ok  '}  {name}")
            for one in wrong[:SHOWN]:
                print(f"        {one}")
            if len(wrong) > SHOWN:
                print(f"        and {len(wrong) - SHOWN} more")
        failed = sum(1 for wrong in verdicts.values() if wrong)
        if failed:
            keep_logs(bed)
    print(f"{len(verdicts) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


main()
