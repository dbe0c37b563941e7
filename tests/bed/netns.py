"""A worker in a network namespace of its own, whose way to each server can be cut without a word to either end.

The servers are reached over a pair of virtual interfaces, each at an address of its own. A black hole drops the packets
that this side sends from that address: what the worker sends is lost, too, as nobody tells it that it arrived.
"""

import contextlib
import os
import shutil
import subprocess
import sys

from bed.process import BUILD, ROOT, Process, environment, wait_until
from bed.worker import Worker

SERVERS = ("rabbitmq", "postgres", "stripe")
PRIORITY = 700


class NotAllowed(Exception):
    """Making network namespaces takes more rights than this process has."""


def ip(*words):
    if shutil.which("ip") is None:
        raise NotAllowed("there is no ip(8)")
    done = subprocess.run(["ip", *map(str, words)], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise NotAllowed(f"ip {' '.join(map(str, words))}: {done.stdout.strip()}")


class Network:
    """Use it as a context. Addresses are of 198.18.0.0/15, which is kept free for tests (RFC 2544)."""

    def __init__(self, directory):
        self.directory = directory
        self.name = f"pw{os.getpid()}"
        # A block of 8 addresses, three of them the servers' and one the worker's.
        number = os.getpid() % 16384
        net, low = f"198.{18 + number // 8192}.{number % 8192 // 32}", number % 32 * 8
        self.addresses = {server: f"{net}.{low + 1 + n}" for n, server in enumerate(SERVERS)}
        self.worker_address = f"{net}.{low + 6}"
        self.holes, self.proxies = set(), {}

    def __enter__(self):
        try:
            ip("netns", "add", self.name)
            ip("link", "add", f"{self.name}h", "type", "veth", "peer", "name", f"{self.name}w", "netns", self.name)
            for address in self.addresses.values():
                ip("addr", "add", f"{address}/29", "dev", f"{self.name}h")
            ip("link", "set", f"{self.name}h", "up")
            ip("-n", self.name, "addr", "add", f"{self.worker_address}/29", "dev", f"{self.name}w")
            ip("-n", self.name, "link", "set", f"{self.name}w", "up")
            ip("-n", self.name, "link", "set", "lo", "up")
            self.cut("stripe")  # whether that is allowed, too
            self.restore("stripe")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for server in list(self.holes):
            self.restore(server)
        for proxy in self.proxies.values():
            proxy.kill()
        for words in (("netns", "del", self.name), ("link", "del", f"{self.name}h")):
            with contextlib.suppress(NotAllowed):
                ip(*words)

    def forward(self, server, port, at=0):
        """Makes a port of 127.0.0.1 reachable for the worker (anew at the port where it was: `at`); returns host and
        port, as a URL has them."""
        address = self.addresses[server]
        log = self.directory / f"proxy-{server}.log"
        seen = len(log.read_text()) if log.exists() else 0
        proxy = Process([sys.executable, "-m", "bed.proxy", address, port, at], log=log, cwd="/",
                        env=environment(PYTHONPATH=ROOT / "tests", PYTHONDONTWRITEBYTECODE=1))
        self.proxies[server] = proxy
        listening = wait_until(lambda: proxy.text()[seen:].strip() or None,
                               lambda: f"the proxy to listen: {proxy.text()}")
        return f"{address}:{int(listening)}"

    def cut(self, *servers):
        for server in servers:
            ip("rule", "add", "priority", PRIORITY, "from", self.addresses[server], "to", self.worker_address,
               "blackhole")
            self.holes.add(server)

    def restore(self, *servers):
        for server in servers:
            ip("rule", "del", "priority", PRIORITY, "from", self.addresses[server], "to", self.worker_address,
               "blackhole")
            self.holes.discard(server)

    def start_worker(self, service, **settings):
        """A worker of that service's inside the namespace, which reaches its servers through it."""
        bed = service.bed
        addresses = {"rabbitmq": (bed.rabbitmq.port, service.amqp_url),
                     "postgres": (bed.postgres.port, service.database_url),
                     "stripe": (int(service.emulator.address.rpartition(":")[2]), service.emulator.url)}
        urls = {server: url.replace(f"127.0.0.1:{port}", self.forward(server, port))
                for server, (port, url) in addresses.items()}
        settings = service.settings(AMQP_URL=urls["rabbitmq"], DATABASE_URL=urls["postgres"],
                                    STRIPE_API_BASE=urls["stripe"], **settings)
        worker = Worker(service.directory / "workers", settings, program="ip",
                        arguments=["netns", "exec", self.name, BUILD / "portal-worker"])
        service.workers.append(worker)
        return worker.wait_ready()
