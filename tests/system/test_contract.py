"""include/contract/ says what is so: it is valid, its examples work, and it allows exactly what the worker takes."""

import json
import re
import urllib.parse

import pika
import pytest

from bed import contract, node
from bed.process import ROOT, wait_until
from bed.service import BASE_URL, DEAD, EXCHANGE, REPLIES, ROUTING_KEY

STRIPE_DATA = ROOT / "tests/bed/demo-stripe.json"


@pytest.fixture(scope="module")
def demo(bed):
    """The demo's data, which the examples are about."""
    bed.heal()
    corner = bed.service(tapped=True)
    bed.postgres.load(bed.owner_url(corner.name), ROOT / "sql/application/demo.sql")
    corner.emulator.data(json.loads(STRIPE_DATA.read_text()))
    corner.start_worker()
    corner.declare()
    yield corner
    try:
        corner.end()
    finally:
        corner.close()


# --- the files ---

def test_the_official_parser_finds_the_document_valid():
    node.prepare()
    done = node.node("validate-asyncapi.cjs", contract.DIRECTORY / "asyncapi.yaml")
    assert done.returncode == 0, done.stdout
    assert done.stdout.split("\n")[:3] == ["receive request", f"send {REPLIES}", f"send {DEAD}"]


def test_the_official_parser_finds_what_is_wrong(tmp_path):
    node.prepare()
    for path in contract.DIRECTORY.iterdir():
        text = path.read_text().replace("- name: a-team\n", "- nam: a-team\n").replace("action: receive", "action: get")
        (tmp_path / path.name).write_text(text)
    done = node.node("validate-asyncapi.cjs", tmp_path / "asyncapi.yaml")
    assert done.returncode == 1 and "error" in done.stdout, done.stdout


@pytest.mark.parametrize("message", ["request", "reply"])
def test_the_examples_are_as_the_schemas_say(message):
    for name, example in contract.examples(message).items():
        assert contract.problems(f"{message}.schema.json", example["payload"]) == [], name


def test_the_document_names_what_is_declared(demo):
    channels = contract.document()["channels"]
    exchange = channels["requests"]["bindings"]["amqp"]["exchange"]
    assert (exchange["name"], channels["requests"]["address"]) == (EXCHANGE, ROUTING_KEY)
    declared = demo.bed.rabbitmq.queue_arguments(demo.name)
    for channel in ("replies", "deadLetters"):
        assert channels[channel]["bindings"]["amqp"]["queue"]["name"] in declared


def test_the_table_of_outcomes_has_every_code_with_its_status():
    reply = contract.document()["components"]["messages"]["reply"]
    assert reply["payload"] == {"$ref": "./reply.schema.json"}
    rows = re.findall(r"^\| `(\w+)` \| (?:`(\w+)`)? ?\| (\d+) \|", contract.document()["info"]["description"],
                      re.MULTILINE)
    schema = contract.schema("reply.schema.json")
    codes = [schema["definitions"][part]["properties"]["code"]["enum"] for part in ("redirect", "error")]
    assert sorted(code for _, code, _ in rows if code) == sorted(codes[0] + codes[1])
    for outcome, code, status in rows:
        if outcome == "failed":
            assert contract.problems("reply.schema.json", failed(code, int(status))) == [], code
            assert contract.problems("reply.schema.json", failed(code, int(status) + 1)), code


def failed(code, status):
    kept = code not in ("invalid_request", "forbidden_sender", "request_conflict", "poisonous")
    retryable = code in ("deadline_exceeded", "stripe_unavailable", "internal_error")
    return {"request_id": "r-1", "generation": 1 if kept else None, "outcome": "failed", "status": status,
            "session": None, "redirect": None,
            "error": {"code": code, "message": "words", "retryable": retryable, "stripe_request_id": None}}


# --- the examples, sent ---

def told_apart(reply):
    """A reply without what differs from one session to the next."""
    session = reply["session"]
    if session is not None:
        lifetime = session["expires_at"] - session["created"]
        session.update(id="", url="", configuration="", created=0, expires_at=lifetime)
    return reply


def test_every_example_is_answered_and_as_shown(demo):
    shown = contract.examples("reply")
    for name, example in contract.examples("request").items():
        reply = demo.ask(example["payload"], headers=example.get("headers")).body
        assert reply["outcome"] != "failed" or reply["error"]["code"] in ("team_not_found", "deadline_exceeded"), reply
        if name in shown:
            assert told_apart(reply) == told_apart(shown.pop(name)["payload"]), name
    assert not shown, "every reply that is shown is the answer to a request that is shown"


def test_a_user_in_several_teams_is_answered_for_the_one_joined_first(demo):
    example = contract.examples("request")["a-user"]["payload"]
    assert demo.ask({**example, "request_id": "joined-first"})["session"]["customer"] == "cus_demo_2"


# --- what the contract says besides ---

def test_a_request_that_expires_in_the_queue_lies_unanswered_among_the_dead(service):
    service.declare()
    sent = service.request({"team_id": 1}, expiration="1", headers={"x-mine": "kept"})
    wait_until(lambda: service.queue_depth(DEAD) == 1, "the request to expire")
    [letter] = service.dead_letters()
    assert letter.raw == sent.body and letter.headers["x-mine"] == "kept"
    assert letter.headers["x-first-death-reason"] == "expired"
    assert letter.properties.expiration is None, "a dead letter must not expire again"
    service.start_worker()
    assert service.ask({"team_id": 2_000_000_000})["error"]["code"] == "team_not_found"
    assert service.replies_to(sent) == []


def test_a_dead_letter_has_the_request_and_the_reason(demo):
    sent = demo.request(raw=b"{}", message_id="dead-1", timestamp=1_700_000_000, user_id="sender", priority=3,
                        type="t", app_id="a", content_encoding="identity",
                        headers={"traceparent": "00-ab-cd-01", "CC": ["elsewhere"]})
    demo.wait_reply(sent)
    letter = wait_until(lambda: [one for one in demo.dead_letters() if one.properties.message_id == "dead-1"],
                        "the dead letter")[0]
    assert letter.raw == b"{}"
    kept = contract.properties(letter.properties)
    assert {name: kept[name] for name in ("content_type", "correlation_id", "message_id", "reply_to", "timestamp")} == {
        "content_type": "application/json", "correlation_id": sent.correlation_id, "message_id": "dead-1",
        "reply_to": demo.reply_to, "timestamp": 1_700_000_000}
    headers = contract.plain(letter.headers)
    assert headers["x-portal-reason"] == "invalid_request" and "team_id" in headers["x-portal-error"]
    assert (headers["x-portal-attempts"], headers["x-portal-next-generation"]) == (0, 1)
    assert headers["x-portal-original"] == {
        "user_id": "sender", "priority": 3, "type": "t", "app_id": "a", "content_encoding": "identity",
        "headers": {"traceparent": "00-ab-cd-01", "CC": ["elsewhere"]}}


def test_direct_reply_to_is_served(demo):
    channel = demo.channel.connection.channel()
    replies = []
    channel.basic_consume("amq.rabbitmq.reply-to", lambda *message: replies.append(message), auto_ack=True)
    for number in range(3):
        body = {"request_id": f"direct-{number}", "team_id": 1}
        channel.basic_publish(EXCHANGE, ROUTING_KEY, json.dumps(body).encode(),
                              pika.BasicProperties(reply_to="amq.rabbitmq.reply-to", correlation_id=str(number)))
    wait_until(lambda: demo.poll(0.05) or len(replies) == 3, "three direct replies")
    assert sorted(message[2].correlation_id for message in replies) == ["0", "1", "2"]
    assert all(json.loads(message[3])["session"]["url"] for message in replies)


@pytest.mark.parametrize("body", [
    {"return_path": "/"}, {"return_path": "/a//b"}, {"return_path": "/?next=//evil.example"}, {"return_path": "/%5C"},
    {"return_path": "/" + "a" * 1999}, {"locale": "auto"}, {"locale": "es-419"}, {"deadline": "2036-02-29t23:59:60z"},
    {"deadline": "2036-01-31 12:00:00.123456789+05:30"}, {"flow": None, "locale": None, "fresh": None},
    {"flow": {"type": "payment_method_update", "subscription": None, "unknown": {"a": 1}}},
    {"flow": {"type": "payment_method_update",
              "after_completion": {"type": "hosted_confirmation", "custom_message": "ä" * 500}}},
    {"unknown": {"a": [None]}},
], ids=lambda body: json.dumps(body)[:40])
def test_what_the_schema_allows_the_worker_takes(demo, body):
    body = {"team_id": 1, **body}
    assert contract.request_problems(json.dumps(body).encode()) == []
    assert demo.ask(body)["outcome"] in ("created", "reused")


# What looks like a way elsewhere, but is a path to whoever reads the whole URL.
ODD_PATHS = [
    "/settings?tab=billing#plan", "/%2f/evil.example", "/%2F%2Fevil.example", "/%5cevil.example", "/%09/evil.example",
    "/%0d%0aSet-Cookie:a=b", "/..//evil.example", "/.//evil.example", "/@evil.example", "/:@evil.example", "/:80",
    "/?//evil.example", "/#//evil.example", "/;//evil.example", "/%E3%80%82evil", "/https://evil.example/"]


@pytest.mark.parametrize("path", ODD_PATHS)
def test_the_return_url_is_on_base_url(demo, path):
    url = demo.ask({"team_id": 1, "return_path": path})["session"]["return_url"]
    assert url == BASE_URL + path and urllib.parse.urlsplit(url).netloc == urllib.parse.urlsplit(BASE_URL).netloc
    flow = {"type": "payment_method_update", "after_completion": {"type": "redirect", "return_path": path}}
    demo.ask({"team_id": 1, "flow": flow, "fresh": True})
    sent = demo.emulator.session_calls()[-1]["parameters"]
    assert sent["flow_data[after_completion][redirect][return_url]"] == BASE_URL + path
