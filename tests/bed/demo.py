"""`make demo` and `make dev`: the whole thing on private servers, for a person to look at.

With STRIPE_SECRET_KEY in the environment the worker talks to that Stripe account instead of the emulator.
"""

import contextlib
import datetime
import json
import os
import pathlib
import secrets
import signal
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.parse
import urllib.request

from bed.bed import Bed
from bed.process import BUILD, ROOT, end_in_order, environment, wait_until

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


def block(label, text, about=""):
    say(f"{LOOK.cyan}{label:<8}{LOOK.plain}  {about}")
    if text:
        say(textwrap.indent(text, " " * 10))


def table(row):
    """A row on its side, as psql's \\x shows it, without what is null."""
    def shown(value):
        if isinstance(value, datetime.datetime):
            return value.isoformat(sep=" ", timespec="seconds")
        return str(value)

    names = [name for name in COLUMNS if row[name] is not None]
    width = max(map(len, names))
    return "\n".join(f"{name:<{width}} │ {shown(row[name])}" for name in names)


# --- one request ---

class Told:
    """What the emulator was asked since."""

    def __init__(self, service):
        self.service = service
        self.seen = len(self.calls())

    def calls(self):
        return self.service.emulator.calls()

    def lines(self):
        for call in self.calls()[self.seen:]:
            made = f"  → {call['effect']}" if call["effect"] else ""
            yield f"{call['method']:<4} {call['path']}{made}"


def show_reply(reply, took):
    text = json.dumps(reply.body, indent=2, ensure_ascii=False)
    for url in filter(None, [(reply["session"] or {}).get("url"), (reply["redirect"] or {}).get("url")]):
        text = text.replace(url, f"{LOOK.green}{LOOK.bold}{url}{LOOK.plain}")
    block("reply", text, f"{took:.0f} ms later, in the queue {reply.queue}")


def show_calls(service, told):
    lines = list(told.lines())
    if lines:
        block("Stripe", "\n".join(lines), "was asked for")
    elif "STRIPE_SECRET_KEY" not in service.extra:
        block("Stripe", "", "was not asked")


def ask(service, title, request_id, **fields):
    """Sends one request as another service would, and shows what becomes of it."""
    heading(title)
    earlier = [reply for reply in service.replies if reply["request_id"] == request_id]
    told = Told(service)
    began = time.monotonic()
    sent = service.request({"request_id": request_id, **fields}, message_id=request_id)
    block("request", sent.body.decode(), "published to the exchange \"portal\", routing key \"request\"")
    reply = service.wait_reply(sent)
    took = (time.monotonic() - began) * 1000
    if earlier and earlier[0].raw == reply.raw:
        block("reply", "", f"{took:.0f} ms later: the same as before, byte for byte")
    else:
        show_reply(reply, took)
    show_calls(service, told)
    if not earlier:
        row = wait_until(lambda: service.session(request_id), "the row in portal.sessions")
        block("row", table(row), "in the table portal.sessions")
    return reply


def portalctl(service, *arguments):
    """Runs the operator's tool, and shows what it says."""
    done = subprocess.run([BUILD / "portalctl", *arguments], env=environment(**service.settings()), text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    say(f"{LOOK.cyan}$ portalctl {' '.join(arguments)}{LOOK.plain}\n{done.stdout.rstrip()}")
    if done.returncode != 0:
        sys.exit(f"portalctl ended with {done.returncode}.")


# --- a Stripe account of the user's ---

class RealAccount:
    """The demo's first team gets a customer and a product that exist there."""

    def __init__(self, key):
        self.key = key
        self.base = os.environ.get("STRIPE_API_BASE", "https://api.stripe.com")

    def get(self, path, **parameters):
        try:
            request = urllib.request.Request(f"{self.base}{path}?{urllib.parse.urlencode(parameters)}",
                                             headers={"Authorization": f"Bearer {self.key}"})
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            # Stripe's own words hold a part of a wrong key.
            why = {401: "it does not know the key", 403: f"the key may not read {path}"}.get(error.code, error.reason)
            sys.exit(f"{self.base} refuses STRIPE_SECRET_KEY ({error.code}: {why}). A test key is in Stripe's dashboard,"
                     " under API keys; without the setting the demo runs on a Stripe emulator.")
        except (OSError, ValueError, KeyError, TypeError) as error:
            sys.exit(f"STRIPE_SECRET_KEY is set, but {self.base} does not answer as Stripe: {error}. "
                     "Without the setting the demo runs on a Stripe emulator.")

    def team(self):
        customers = self.get("/v1/customers", limit=1)
        products = [price["product"] for price in self.get("/v1/prices", active="true", type="recurring", limit=1)]
        if not customers or not products:
            sys.exit("The Stripe account needs at least one customer and one product with a recurring price; "
                     "both are made in a minute in its dashboard.")
        return customers[0]["id"], products[0]

    def settings(self):
        # A namespace of its own: the ids of the demo's requests are the same in every run, and Stripe remembers.
        return {"STRIPE_SECRET_KEY": self.key, "STRIPE_API_BASE": self.base, "STRIPE_RATE_LIMIT": None,
                "PORTAL_NAMESPACE": f"demo-{secrets.token_hex(4)}"}


# --- all of it ---

@contextlib.contextmanager
def running():
    """A service with a worker, the demo's data and Stripe's side of it."""
    began = time.monotonic()
    key = os.environ.get("STRIPE_SECRET_KEY")
    account = RealAccount(key) if key else None
    team = account.team() if account else None
    if account:
        say(f"Stripe is the account of STRIPE_SECRET_KEY, at {account.base}, and team 1 its newest customer, {team[0]}.")
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
        created = ask(service, "1. A team with a subscription opens its customer portal", "demo-1", team_id=1)
        ask(service, "2. The same request once more: its stored answer stands", "demo-1", team_id=1)
        ask(service, "3. A team that never subscribed is sent to the prices", "demo-2", team_id=3)
        ask(service, "4. A team that does not exist", "demo-3", team_id=4711)
        heading("5. What an operator sees of it")
        portalctl(service, "sessions")
        heading("That is all")
        say("All of it ran on servers of its own, which are stopped now; so the URL leads nowhere any more. `make dev`\n"
            "leaves them running for you to play with, and README.md says how to send a request from your own code.")
        if created["outcome"] != "created":
            sys.exit(f"The first request should have been answered with a session:\n{service.logs()}")


def dev():
    with running() as service:
        rabbitmq, postgres = service.bed.rabbitmq, service.bed.postgres
        heading("Running until Ctrl-C")
        lines = {"RabbitMQ, as a sender": rabbitmq.url(service.name, "sender", service.bed.sender_password),
                 "RabbitMQ, as the worker": service.amqp_url,
                 "PostgreSQL, as superuser": postgres.url(service.name),
                 "PostgreSQL, as the worker": service.database_url,
                 "Stripe": service.settings()["STRIPE_API_BASE"],
                 "The worker's log": service.workers[0].log}
        for label, value in lines.items():
            say(f"{LOOK.cyan}{label:<27}{LOOK.plain}{value}")
        tool = os.path.relpath(BUILD / "portalctl")
        say("\nTeams 1 to 9 and users 1 to 8 are in sql/application/demo.sql. For example, in another terminal:\n\n"
            f"  export AMQP_URL='{service.amqp_url}'\n"
            f"  export DATABASE_URL='{service.database_url}'\n"
            f"  {tool} request --team 1\n"
            f"  {tool} status\n"
            f"  psql '{postgres.url(service.name)}' -c 'TABLE portal.sessions'")
        with contextlib.suppress(KeyboardInterrupt):
            while service.workers[0].alive():
                time.sleep(1)
        if not service.workers[0].alive():
            sys.exit(f"The worker ended:\n{service.workers[0].tail()}")
        say("\nStopping.")


def main():
    # A shell script's background jobs begin with it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    end_in_order()
    try:
        {"demo": demo, "dev": dev}[sys.argv[1]]()
    except KeyboardInterrupt as end:
        sys.exit(128 + end.args[0])


if __name__ == "__main__":
    main()
