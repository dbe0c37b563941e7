"""`make bench`: what a request costs, beside the least it could cost here. README.md says more."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

from bed.bed import Bed
from bed.emulator import SESSIONS
from bed.postgres import children_of
from bed.process import BUILD, ROOT, Process, environment, wait_until
from bed.service import REQUESTS
from bed.worker import Worker

TEAMS = 1000
CONFIGURATION = "bpc_bench"
NODE = BUILD / "bench-node"
# How many milliseconds Stripe takes, and how many requests are in hand.
SCENES = [(0, 256), (200, 256), (200, 1024)]
WARM_UP, ONE_BY_ONE = 20, 300
INSTRUCTIONS = (500, 1500)  # requests of two runs; their difference leaves out the beginning and the end
CONNECTIONS = (64, 2000)
HAMMER_SECONDS = 5
PATIENCE = 300


def say(text=""):
    print(text, flush=True)


def missing(program, what):
    """Whether a program that is a matter of choice is not there; says what is left out then."""
    if shutil.which(program):
        return False
    say(f"  left out: {what}, as there is no {program}")
    return True


def cpu_seconds(pid):
    """User and system time of a process and all under it, those that have ended included."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK") + sum(map(cpu_seconds, children_of(pid)))


# --- what is measured ---

class Program:
    """A worker. One that is not ours writes into a table of its own, as the database's owner."""

    def __init__(self, name, argv, ours=False, cwd="/"):
        self.name, self.argv, self.ours, self.cwd = name, argv, ours, cwd


OURS = Program("portal-worker", [BUILD / "portal-worker"], ours=True)
FLOOR = Program("floor", [BUILD / "bench-floor"])


def node_worker():
    """The worker in Node.js, in a list; none where its packages can't be had."""
    if missing("npm", "the worker in Node.js"):
        return []
    shutil.copytree(ROOT / "tests/bench/node", NODE, dirs_exist_ok=True)
    done = subprocess.run(["npm", "ci", "--prefer-offline"], cwd=NODE, stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        say(f"  left out: the worker in Node.js, as npm ci failed:\n{done.stdout}")
        return []
    return [Program("Node.js", ["node", "worker.mjs"], cwd=NODE)]


class Corner:
    """A virtual host, a database and an emulator of one measurement's own, for a worker of one kind."""

    def __init__(self, bed, program, delay_ms=0, in_flight=256):
        self.bed, self.program = bed, program
        self.service = bed.service()
        self.service.emulator.product()
        self.service.emulator.data({"configurations": [{"id": CONFIGURATION}]})
        if delay_ms:
            self.service.emulator.fault(SESSIONS, delay_ms=delay_ms)
        self.first_team = self.service.teams(TEAMS)[0]
        self.service.declare()
        self.settings = self.service.settings(PORTAL_CONCURRENCY=in_flight, STRIPE_CONCURRENCY=in_flight)
        if not program.ours:
            owner = bed.owner_url(self.service.name)
            bed.postgres.load(owner, ROOT / "tests/bench/floor.sql")
            self.settings.update(DATABASE_URL=owner, PORTAL_CONFIGURATION=CONFIGURATION)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.service.close()

    def start(self, *wrapper):
        """Starts the worker, under another program where one is given."""
        argv = [*wrapper, *self.program.argv]
        directory = self.service.directory
        if self.program.ours:
            self.worker = Worker(directory / "workers", self.settings, argv[1:], argv[0])
        else:
            self.worker = Process(argv, directory / "worker.log", environment(**self.settings), cwd=self.program.cwd)
        self.service.workers.append(self.worker)
        return self.worker

    def load(self, kind, count):
        """Begins to send requests and to wait for their replies (load.c)."""
        url = self.bed.rabbitmq.url(self.service.name, "sender", self.bed.sender_password)
        load = Process([BUILD / "bench-load", kind, count, self.first_team, TEAMS], self.service.directory / "load.log",
                       environment(AMQP_URL=url))
        if kind == "drain":
            wait_until(lambda: "queued" in load.text() or not load.alive(), "the requests to be queued", PATIENCE)
        return load

    def result(self, load):
        """What the load found once it has all replies, and the worker has nothing left to do."""
        if load.wait(PATIENCE) != 0:
            raise RuntimeError(f"{load.text()}\n{self.worker.tail()}")
        self.service.wait_empty(REQUESTS)
        return json.loads(load.text().splitlines()[-1])

    def transactions(self):
        """Of this database, by those whose connections have ended: PostgreSQL counts the others with delay."""
        others = "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
        wait_until(lambda: not self.service.query(others, [self.service.name]), "connections to end")
        return self.service.query("SELECT xact_commit + xact_rollback AS n FROM pg_stat_database WHERE datname = %s",
                                  [self.service.name])[0]["n"]

    def servers_cpu(self):
        return cpu_seconds(self.bed.rabbitmq.process.pid) + cpu_seconds(self.bed.postgres.process.pid)


def drain(bed, program, count, delay_ms, in_flight):
    """Queues so many requests, starts a worker and measures until all are answered."""
    with Corner(bed, program, delay_ms, in_flight) as corner:
        transactions = corner.transactions()
        load = corner.load("drain", count)
        calls, servers = corner.service.emulator.counters()["calls"], corner.servers_cpu()
        worker = corner.start()
        result = corner.result(load)
        cpu, peak, servers = worker.cpu_seconds(), worker.peak_memory(), corner.servers_cpu() - servers
        counters = corner.service.emulator.counters()
        worker.stop()
        if counters["sessions_made"] != count or result["replies"] != count:
            raise RuntimeError(f"{program.name}: {counters['sessions_made']} sessions, {result['replies']} replies")
        return {"rate": (count - 1) / result["seconds"], "cpu": cpu / count * 1e6, "servers": servers / count * 1e6,
                "peak": peak, "transactions": (corner.transactions() - transactions) / count,
                "calls": (counters["calls"] - calls) / count}


def one_by_one(bed, program):
    """How long one request takes where nothing else is to be done, in milliseconds."""
    with Corner(bed, program) as corner:
        corner.start()
        corner.result(corner.load("latency", WARM_UP))
        return corner.result(corner.load("latency", ONE_BY_ONE))


def instructions(bed, program):
    """User-space instructions a request."""
    counts = []
    for requests in INSTRUCTIONS:
        with Corner(bed, program) as corner:
            load = corner.load("drain", requests)
            worker = corner.start("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null")
            corner.result(load)
            worker.stop()
            counts.append(int(re.search(r"Collected : (\d+)", worker.text())[1]))
    return (counts[1] - counts[0]) / (INSTRUCTIONS[1] - INSTRUCTIONS[0])


def hammer(bed, connections):
    """How many sessions the emulator makes a second, on one core; the client has another."""
    with Corner(bed, OURS) as corner:
        emulator = corner.service.emulator
        cores = sorted(os.sched_getaffinity(0))
        for thread in os.listdir(f"/proc/{emulator.process.pid}/task"):
            os.sched_setaffinity(int(thread), cores[:1])
        wrk = Process(["taskset", "--cpu-list", cores[-1], "wrk", "--threads=1", f"--connections={connections}",
                       f"--duration={HAMMER_SECONDS}s", f"--script={ROOT / 'tests/bench/sessions.lua'}",
                       emulator.url + SESSIONS, "--", emulator.secret_key], corner.service.directory / "wrk.log")
        if wrk.wait(PATIENCE) != 0:
            raise RuntimeError(wrk.text())
        return json.loads(wrk.text().splitlines()[-1])


# --- the table ---

COLUMNS = [("jobs/s", "rate", "{:,.0f}", True), ("CPU µs/job", "cpu", "{:,.0f}", True),
           ("servers' µs", "servers", "{:,.0f}", True), ("peak MiB", "peak", "{:.1f}", True),
           ("transactions", "transactions", "{:.3f}", False), ("Stripe calls", "calls", "{:.3f}", False)]


def row(name, figures, base):
    text = f"  {name:<14}"
    for heading, key, form, compared in COLUMNS:
        text += f"{form.format(figures[key]):>{len(heading) + 2}}"
        if compared:
            text += f"{figures[key] / base[key]:7.2f}×"
    return text


def scene(bed, programs, count, delay_ms, in_flight):
    say(f"\nStripe answers {f'after {delay_ms} ms' if delay_ms else 'at once'}, {in_flight:,} in hand")
    say(f"  {'':<14}" + "".join(f"  {heading}{'' if not compared else ' ' * 8}" for heading, _, _, compared in COLUMNS))
    base = drain(bed, FLOOR, count, delay_ms, in_flight)
    say(row("floor", base, base))
    for program in programs:
        say(row(program.name, drain(bed, program, count, delay_ms, in_flight), base))


def main(count):
    say(f"{count:,} fresh requests over {TEAMS:,} teams; {os.cpu_count()} cores for all: worker, servers, load.\n"
        "× is the ratio to the floor, the same hot path in C with nothing that makes it safe.")
    programs = [OURS, *node_worker()]
    with Bed() as bed:
        for delay_ms, in_flight in SCENES:
            scene(bed, programs, count, delay_ms, in_flight)

        say("\nOne request at a time, Stripe answers at once")
        for program in [FLOOR, *programs]:
            times = one_by_one(bed, program)
            say(f"  {program.name:<14}{times['median_ms']:8.2f} ms in the median{times['p99_ms']:8.2f} ms for 99 %")

        say("\nUser-space instructions a request")
        if not missing("valgrind", "instructions"):
            base = instructions(bed, FLOOR)
            for program, value in [(FLOOR, base), (OURS, instructions(bed, OURS))]:
                say(f"  {program.name:<14}{value:8,.0f}{value / base:7.2f}×")

        say("\nThe Stripe emulator on one core")
        for connections in [] if missing("wrk", "the emulator's rate") else CONNECTIONS:
            result = hammer(bed, connections)
            say(f"  {connections:5,} connections{result['rate']:10,.0f} sessions/s, {result['errors']} errors")


if __name__ == "__main__":
    main(int(sys.argv[1]))
