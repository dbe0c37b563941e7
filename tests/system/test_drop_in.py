"""tests/drop-in: a Next.js team moves to portal-worker by changing an import."""

import json
import re
import subprocess

import pytest

from bed import node
from bed.emulator import SESSIONS
from bed.process import ROOT, wait_until
from bed.service import BASE_URL, EXCHANGE


@pytest.fixture(scope="module")
def packages():
    node.prepare()


@pytest.fixture
def serving(packages, service):
    service.emulator.product("prod_inactive", active=False)
    service.emulator.product("prod_without_prices", prices=0, inactive_prices=1)
    service.emulator.product()
    service.start_worker(PORTAL_CONFIGURATION="per-product", PORTAL_TEAM_SENDERS="sender")
    service.declare()
    return service


def teams(service):
    made = {"good": {}, "slow": {}, "withoutCustomer": {"customer": None}, "withoutProduct": {"product": None},
            "inactive": {"product": "prod_inactive"}, "withoutPrices": {"product": "prod_without_prices"},
            **{f"many{number}": {} for number in range(20)}}
    made = {name: service.team(**columns) for name, columns in made.items()}
    rows = {row["id"]: row for row in service.query("SELECT * FROM teams")}
    return {name: {"id": team, "stripeCustomerId": rows[team]["stripe_customer_id"],
                   "stripeProductId": rows[team]["stripe_product_id"]} for name, team in made.items()}


def settings(service, made):
    return {"AMQP_URL": service.bed.rabbitmq.url(service.name, "sender", service.bed.sender_password),
            "BASE_URL": BASE_URL, "TEAMS": json.dumps(made)}


def test_the_drop_in_does_what_the_reference_does(serving):
    done = node.node("--test", "dist/test/drop-in.test.js", **settings(serving, teams(serving)))
    assert done.returncode == 0, done.stdout
    assert re.search(r"^# pass 9$", done.stdout, re.MULTILINE), done.stdout


def test_the_drop_in_outlives_a_lost_connection(serving):
    made = teams(serving)
    serving.emulator.fault(SESSIONS, match={"customer": made["slow"]["stripeCustomerId"]}, hang=True)
    child = subprocess.Popen(["node", "dist/test/outage.test.js"], cwd=node.DIRECTORY, text=True, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             env=node.environment() | settings(serving, made))
    try:
        assert child.stderr.readline() == "CUT\n"
        wait_until(lambda: len(serving.emulator.session_calls()) == 2, "the slow request to be with Stripe")
        serving.bed.rabbitmq.close_connections()
        output, errors = child.communicate("go\n", timeout=60)
    finally:
        child.kill()
        serving.emulator.clear_faults()
    assert child.returncode == 0, output + errors


@pytest.mark.parametrize("declared, words", [(False, "no exchange 'portal'"), (True, "Nobody takes requests")],
                         ids=["exchange", "queue"])
def test_what_is_not_there_is_an_error(packages, service, declared, words):
    if declared:
        service.channel.exchange_declare(EXCHANGE, "direct", durable=True)
    script = ("require('@/lib/payments/portal').createCustomerPortalSession({id: 1})"
              ".catch((error) => { console.log(error.message); process.exit() })")
    done = node.node("-e", script, **settings(service, {}))
    assert words in done.stdout and done.returncode == 0, done.stdout


def test_the_readme_shows_what_is_tested_whole_and_short():
    shown = re.findall(r"^```ts\n(// (\S+\.ts)\b.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert [name for _, name in shown] == ["lib/payments/portal.ts", "app/api/billing/portal/route.ts"]
    for text, name in shown:
        assert text == (node.SOURCE / name).read_text(), f"the README shows another {name}"
    assert len(shown[0][0].splitlines()) < 100
