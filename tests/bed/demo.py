"""`make demo` and `make dev`: the whole thing on private servers, for a person to look at.

With STRIPE_SECRET_KEY in the environment the worker talks to that Stripe account instead of the emulator.
"""

import contextlib
import datetime
import json
import os
import pathlib
import signal
import sys
import textwrap
import time
import urllib.parse
import urllib.request

from bed.bed import Bed
from bed.process import ROOT, wait_until

STRIPE_DATA = ROOT / "tests/bed/demo-stripe.json"
COLUMNS = ("request_id", "generation", "outcome", "code", "team_id", "session_id", "customer", "configuration", "url",
           "answered_at", "url_expires_at")
WIDTH = 100


class Look:
    """Colours where there is a terminal to show them."""

    def __init__(self, stream):
        wanted = stream.isatty() and "NO_COLOR" not in os.environ
        self.bold, self.dim, self.green, self.cyan, self.plain = (
            ("\033[1m", "\033[2m", "\033[32m", "\033[36m", "\033[0m") if wanted else ("",) * 5)


LOOK = Look(sys.stdout)


def say(text=""):
    print(text, flush=True)


def heading(text):
    say(f"\n{LOOK.bold}── {text} {'─' * max(0, WIDTH - len(text) - 4)}{LOOK.plain}")


def block(label, text):
    say(f"{LOOK.cyan}{label}{LOOK.plain}")
    say(textwrap.indent(text, "    "))


def table(row):
    """A row on its side, as psql's \\x shows it."""
    def shown(value):
        if value is None:
            return f"{LOOK.dim}null{LOOK.plain}"
        if isinstance(value, datetime.datetime):
            return value.isoformat(sep=" ", timespec="seconds")
        return str(value)

    width = max(map(len, COLUMNS))
    return "\n".join(f"{name:<{width}} │ {shown(row[name])}" for name in COLUMNS)


def ask(service, title, request_id, **fields):
    """Sends one request as another service would, and shows what becomes of it."""
    heading(title)
    sent = service.request({"request_id": request_id, **fields}, message_id=request_id)
    block(f"request   exchange \"portal\", routing key \"request\", reply_to {service.reply_to}", sent.body.decode())
    began = time.monotonic()
    reply = service.wait_reply(sent)
    took = (time.monotonic() - began) * 1000
    text = json.dumps(reply.body, indent=2, ensure_ascii=False)
    for url in filter(None, [(reply["session"] or {}).get("url"), (reply["redirect"] or {}).get("url")]):
        text = text.replace(url, f"{LOOK.green}{LOOK.bold}{url}{LOOK.plain}")
    block(f"reply     after {took:.0f} ms", text)
    row = wait_until(lambda: service.session(request_id), "the row in portal.sessions")
    block("row       in portal.sessions", table(row))
    return reply


class RealAccount:
    """A Stripe account of the user's: the demo's first team gets a customer and a product that exist there."""

    def __init__(self, key):
        self.key = key
        self.base = os.environ.get("STRIPE_API_BASE", "https://api.stripe.com")

    def get(self, path, **parameters):
        request = urllib.request.Request(f"{self.base}{path}?{urllib.parse.urlencode(parameters)}",
                                         headers={"Authorization": f"Bearer {self.key}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)["data"]

    def team(self):
        customers = self.get("/v1/customers", limit=1)
        products = [price["product"] for price in self.get("/v1/prices", active="true", type="recurring", limit=1)]
        if not customers or not products:
            sys.exit("The Stripe account needs at least one customer and one product with a recurring price; "
                     "both are made in a minute in its dashboard.")
        return customers[0]["id"], products[0]

    def settings(self):
        return {"STRIPE_SECRET_KEY": self.key, "STRIPE_API_BASE": self.base, "STRIPE_RATE_LIMIT": None}


@contextlib.contextmanager
def running():
    """A service with a worker, the demo's data and Stripe's side of it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()
    key = os.environ.get("STRIPE_SECRET_KEY")
    account = RealAccount(key) if key else None
    team = account.team() if account else None
    say(f"{LOOK.dim}Starting a private PostgreSQL, RabbitMQ{'' if account else ' and Stripe emulator'} …{LOOK.plain}")
    with Bed() as bed:
        service = bed.service(**(account.settings() if account else {}))
        bed.postgres.load(bed.owner_url(service.name), ROOT / "sql/application/demo.sql")
        if account:
            service.query("UPDATE teams SET stripe_customer_id = %s, stripe_product_id = %s WHERE id = 1", team)
        else:
            service.emulator.data(json.loads(pathlib.Path(STRIPE_DATA).read_text()))
        service.start_worker()
        service.declare()
        say(f"{LOOK.dim}Up after {time.monotonic() - began:.1f} s, portal-worker included.{LOOK.plain}")
        yield service


def demo():
    with running() as service:
        created = ask(service, "A team with a subscription opens its customer portal", "demo-1", team_id=1)
        ask(service, "The same request again: answered from the row, not by Stripe", "demo-1", team_id=1)
        ask(service, "A team that never subscribed is sent to the prices", "demo-2", team_id=3)
        ask(service, "A team that does not exist", "demo-3", team_id=4711)
        heading("That is all")
        say("Everything ran on servers of its own, which are being stopped now. `make dev` leaves them running.")
        if created["outcome"] != "created":
            sys.exit("The first request should have been answered with a session.")


def dev():
    with running() as service:
        password = service.bed.sender_password
        heading("Running until Ctrl-C")
        lines = {"RabbitMQ, to send requests": service.bed.rabbitmq.url(service.name, "sender", password),
                 "RabbitMQ, as the worker": service.amqp_url,
                 "PostgreSQL, to look around": service.bed.postgres.url(service.name),
                 "PostgreSQL, as the worker": service.database_url,
                 "Stripe": service.settings()["STRIPE_API_BASE"],
                 "The worker's log": service.workers[0].log}
        for label, value in lines.items():
            say(f"{LOOK.cyan}{label:<28}{LOOK.plain}{value}")
        say("\nSend a request to the exchange \"portal\" with the routing key \"request\", for example "
            '{"request_id": "r-1", "team_id": 1};\nwithout a reply_to the answer goes to the queue portal.replies. '
            "Teams 1 to 9 and users 1 to 8 are in sql/application/demo.sql.")
        with contextlib.suppress(KeyboardInterrupt):
            while service.workers[0].alive():
                time.sleep(1)
        if not service.workers[0].alive():
            sys.exit(f"The worker ended:\n{service.workers[0].tail()}")
        say("\nStopping.")


if __name__ == "__main__":
    {"demo": demo, "dev": dev}[sys.argv[1]]()
