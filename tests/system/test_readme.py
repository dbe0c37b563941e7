"""What the README and the man page show works as it stands there, and is what the contract says."""

import json
import re
import subprocess
import sys

import pika
import pytest

from bed import contract, node
from bed.process import ROOT, environment
from bed.service import BASE_URL, EXCHANGE
from bed.worker import run

README = (ROOT / "README.md").read_text()
MANUAL = (ROOT / "systemd/man/portal-worker.7").read_text()
TEAM = 17


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def settings(service):
    url = service.bed.rabbitmq.url(service.name, "sender", service.bed.sender_password)
    return environment(AMQP_URL=url)


def with_pika(service):
    [example] = [block for block in blocks("python") if EXCHANGE in block]
    return subprocess.run([sys.executable, "-c", example], env=settings(service), text=True, timeout=60,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def with_amqplib(service):
    node.prepare()
    [example] = blocks("js")
    return node.node("--input-type=module", "--eval", example, AMQP_URL=settings(service)["AMQP_URL"])


@pytest.mark.parametrize("columns, outcome", [
    ({}, "created"), ({"customer": None}, "redirect"), (None, "failed")], ids=["session", "redirect", "failure"])
@pytest.mark.parametrize("example", [with_pika, with_amqplib])
def test_an_example_prints_where_to_go_or_what_went_wrong(serving, example, columns, outcome):
    if columns is not None:
        serving.team(id=TEAM, **columns)
    done = example(serving)
    assert done.returncode == 0, done.stdout
    [row] = serving.sessions()
    assert row["outcome"] == outcome
    assert done.stdout.strip() == {"created": row["url"], "redirect": f"{BASE_URL}/pricing",
                                   "failed": "Team not found"}[outcome]


def test_the_rights_of_a_sender_suffice_and_no_answer_of_others_can_be_read(serving):
    serving.team(id=TEAM)
    patterns = re.search(r"set_permissions -p VHOST USER ('.*?') ('.*?') ('.*?')`", README).groups()
    rights = dict(zip(("configure", "write", "read"), (one.strip("'").replace("\\", "\\\\") for one in patterns)))
    serving.bed.rabbitmq.set_permissions(serving.name, "sender", **rights)
    try:
        assert with_pika(serving).stdout.strip() == serving.sessions()[0]["url"]
        with pika.BlockingConnection(pika.URLParameters(settings(serving)["AMQP_URL"])) as connection, \
                pytest.raises(pika.exceptions.ChannelClosedByBroker, match="ACCESS_REFUSED"):
            connection.channel().basic_get("portal.replies")
    finally:
        serving.bed.rabbitmq.set_permissions(serving.name, "sender")


def test_the_shell_example_prints_the_reply(serving):
    serving.team(id=TEAM)
    [example] = [block for block in blocks("sh") if "amqp-publish" in block]
    done = subprocess.run(["bash", "-euc", example], env=settings(serving), text=True, timeout=60,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    assert serving.sessions()[0]["url"] in done.stdout


@pytest.fixture(scope="module")
def known():
    """All settings, as --help lists them."""
    return set(re.findall(r"^  ([A-Z][A-Z_]+) ", run({}, "--help")[1], re.MULTILINE))


def test_every_setting_is_in_the_readme_and_in_the_help(known):
    table = README.partition("| setting |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `([A-Z_]+)`", table, re.MULTILINE)) | {"STRIPE_SECRET_KEY_FILE"} == known


@pytest.mark.parametrize("path", sorted(contract.DIRECTORY.iterdir()), ids=lambda path: path.name)
def test_the_contract_names_only_settings_that_exist(known, path):
    assert set(re.findall(r"\bPORTAL_[A-Z_]+|\bSTRIPE_[A-Z_]+|\bBASE_URL\b", path.read_text())) <= known


# --- the contract in short: README and man page keep step with the schemas ---

def statuses_in_readme():
    """Codes of failures with the status that stands behind them, or behind a later one: `a`, `b` (404), …"""
    text = README.partition("Codes of failures:")[2].partition("\n\n")[0]
    found, names = {}, []
    for name, status in re.findall(r"`(\w+)`|\((\d{3})", text):
        if name and "." not in name:
            names.append(name)
        else:
            found.update(dict.fromkeys(names, int(status)))
            names = []
    return found


def statuses_in_manual():
    return {code: int(status) for code, status in re.findall(r"^\.It Li (\w+) Ta (\d+) Ta", MANUAL, re.MULTILINE)}


@pytest.mark.parametrize("told", [statuses_in_readme, statuses_in_manual])
def test_every_code_of_a_failure_is_told_with_its_status(told):
    rows = re.findall(r"^\| `failed` \| `(\w+)` \| (\d+) \|", contract.document()["info"]["description"], re.MULTILINE)
    assert told() == {code: int(status) for code, status in rows}


def fields_in_readme():
    table = README.partition("| field | meaning |")[2].partition("\n\n")[0]
    return re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)))


def fields_in_manual():
    text = MANUAL.partition(".Ss Requests")[2].partition(".El")[0]
    return re.findall(r"\w+", " ".join(re.findall(r"^\.It Li (.*)$", text, re.MULTILINE)))


@pytest.mark.parametrize("told", [fields_in_readme, fields_in_manual])
def test_every_field_of_a_request_is_told(told):
    assert sorted(told()) == sorted(contract.schema("request.schema.json")["properties"])


def test_the_reply_in_the_readme_is_as_the_schema_says():
    [example] = [json.loads(block.replace("…", "X")) for block in blocks("json") if "outcome" in block]
    assert contract.problems("reply.schema.json", example) == []


@pytest.mark.parametrize("text", [README, MANUAL], ids=["README", "man page"])
def test_every_part_of_a_reply_and_every_header_is_told(text):
    reply = contract.schema("reply.schema.json")
    names = set(reply["properties"]) | set(contract.schema("requestHeaders")["properties"])
    for part in ("session", "redirect", "error"):
        names |= set(reply["definitions"][part]["properties"])
    names |= set(reply["definitions"]["redirect"]["properties"]["code"]["enum"])
    names |= set(reply["properties"]["outcome"]["enum"])
    assert not {name for name in names if name not in text}
