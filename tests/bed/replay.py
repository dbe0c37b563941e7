"""Replay files (tests/replay/README.md): reads them, and runs them against a service and its emulator."""

import base64
import json
import re
import secrets
import subprocess
import uuid

from bed import contract
from bed.process import BUILD, environment, wait_until
from bed.service import ABSENT

FIELDS = {
    "line": {"name", "request", "body", "body_base64", "properties", "before", "expect"},
    "properties": set(contract.PROPERTIES) - {"cluster_id"} | {"headers"},
    "before": {"settings", "teams", "users", "team_members", "sql", "stripe", "faults"},
    "expect": {"reply", "properties", "same_as", "dead_letter", "calls"},
    "call": {"method", "path", "parameters", "idempotency_key"},
}
# What the application's tables want and no replay is about.
COLUMNS = {"teams": {"name": "Team"}, "users": {"email": "user-{id}@example.com", "password_hash": "!"},
           "team_members": {"role": "member"}}


class BadLine(ValueError):
    """A line that is none of the documented form."""


class Unexpected(AssertionError):
    """Something else came of a line than it expects."""


# --- reading ---

def _known(what, given):
    unknown = [field for field in given if field not in FIELDS[what] and not field.startswith("x-")]
    if unknown:
        raise BadLine(f"unknown in {what}: {', '.join(unknown)}")


def parse(text):
    """One line as an object; its `raw` is the body as it is to be sent."""
    line = json.loads(text)
    _known("line", line)
    for part in ("properties", "before", "expect"):
        _known(part, line.get(part, {}))
    for call in line.get("expect", {}).get("calls", []):
        _known("call", call)
    bodies = [field for field in ("request", "body", "body_base64") if field in line]
    if len(bodies) != 1:
        raise BadLine("exactly one of request, body and body_base64 has to be there")
    line["raw"] = {"request": lambda body: json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode(),
                   "body": str.encode, "body_base64": lambda body: base64.b64decode(body, validate=True),
                   }[bodies[0]](line[bodies[0]])
    return line


def read(path, run=None):
    """The lines of a file, for a run of its own."""
    run = run or secrets.token_hex(4)
    for number, text in enumerate(path.read_text().splitlines(), 1):
        if not text.strip() or text.startswith("#"):
            continue
        try:
            line = parse(text.replace("{run}", run))
        except ValueError as error:
            raise BadLine(f"{path.name}:{number}: {error}") from None
        yield {"name": f"line {number}", **line, "where": f"{path.name}:{number}"}


# --- comparing ---

def differences(expected, actual, where, whole=False):
    """How `actual` differs from what was expected of it; `whole`: nothing else may be in an object."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        found = [f"{where}.{field} was not expected" for field in actual if whole and field not in expected]
        for field, value in expected.items():
            found += differences(value, actual.get(field, ABSENT), f"{where}.{field}")
        return found
    if isinstance(expected, str) and expected.startswith("~"):
        right = isinstance(actual, str) and re.fullmatch(expected[1:], actual, re.DOTALL)
    else:
        right = actual == expected and isinstance(actual, bool) == isinstance(expected, bool)
    shown = "absent" if actual is ABSENT else json.dumps(actual, ensure_ascii=False)
    return [] if right else [f"{where} is {shown}, expected {json.dumps(expected, ensure_ascii=False)}"]


# --- running ---

class Replay:
    """Runs lines, and remembers what came of them."""

    def __init__(self, service):
        self.service = service
        self.settings = None
        self.replies = {}
        self.sent = []

    def prepare(self, before):
        settings = before.get("settings", {} if self.settings is None else self.settings)
        if settings != self.settings:
            for worker in self.service.workers:
                if worker.alive():
                    assert worker.stop() == 0
            self.service.start_worker(**settings)
            self.settings = settings
        for table in ("teams", "users", "team_members"):
            for row in before.get(table, []):
                self._put(table, row)
        for statement in before.get("sql", []):
            self.service.query(statement.replace("%", "%%"))
        if "stripe" in before:
            self.service.emulator.data(before["stripe"])
        self.service.emulator.clear_faults()
        for rule in before.get("faults", []):
            self.service.emulator.fault(**{"path": rule["match"].get("path", "/v1/"), "match": rule["match"],
                                           "count": rule.get("count"), **rule["do"]})

    def _put(self, table, row):
        filled = {column: value.format(**row) for column, value in COLUMNS[table].items()} | row
        names = ", ".join(filled)
        changes = ", ".join(f"{column} = excluded.{column}" for column in row)
        self.service.query(f"INSERT INTO {table} ({names}) VALUES ({', '.join(['%s'] * len(filled))}) "
                           f"ON CONFLICT (id) DO UPDATE SET {changes}", list(filled.values()))

    def run(self, line):
        """Sends a line and holds what comes of it against what it expects; raises Unexpected."""
        self.prepare(line.get("before", {}))
        expect, calls = line.get("expect", {}), len(self.service.emulator.calls())
        properties = {"correlation_id": str(uuid.uuid4()), **line.get("properties", {})}
        correlation_id = properties["correlation_id"]
        self.sent.append((line, correlation_id))
        found, reply = self.exchange(line, properties)
        if expect.get("dead_letter"):
            wait_until(lambda: self._letters(correlation_id),
                       lambda: f"{line['where']}: a dead letter\n{self.service.logs()}")
            reasons = [letter.headers.get("x-portal-reason") for letter in self._letters(correlation_id)]
            found += differences([expect["dead_letter"]], reasons, "dead_letter")
        if "calls" in expect:
            found += self._check_calls(expect["calls"], self.service.emulator.calls()[calls:])
        if found:
            raise Unexpected(f"{line['where']} {line['name']}: {'; '.join(found)}\n{reply or 'no reply'}")

    def exchange(self, line, properties):
        """Sends a line as another service would; returns how the reply differs from what is expected, and the reply."""
        expect = line.get("expect", {})
        sent = self.service.request(raw=line["raw"], **properties)
        if expect.get("reply", ABSENT) is None:
            return [], None
        reply = self.service.wait_reply(sent)
        return self._check_reply(line["name"], expect, reply), reply.raw.decode()

    def count_replies(self, correlation_id):
        return sum(reply.properties.correlation_id == correlation_id for reply in self.service.replies)

    def _letters(self, correlation_id):
        return [one for one in self.service.dead_letters() if one.properties.correlation_id == correlation_id]

    def _check_reply(self, name, expect, reply):
        self.replies[name] = reply.body
        properties = {**contract.properties(reply.properties), "headers": contract.plain(reply.headers)}
        found = differences(expect.get("reply", {}), reply.body, "reply")
        found += differences(expect.get("properties", {}), properties, "properties")
        if "same_as" in expect:
            other = self.replies[expect["same_as"]]
            found += differences({part: other[part] for part in ("session", "redirect", "error")}, reply.body, "reply")
        return found

    @staticmethod
    def _check_calls(expected, calls):
        if len(calls) != len(expected):
            shown = [f"{call['method']} {call['path']} {call['status']}" for call in calls]
            return [f"{len(calls)} calls to Stripe, expected {len(expected)}: {shown}"]
        found = []
        for number, (wanted, call) in enumerate(zip(expected, calls)):
            for field, value in wanted.items():
                found += differences(value, call[field], f"calls[{number}].{field}", whole=field == "parameters")
        return found

    def finish(self):
        """What must not come at all, and nothing twice; returns the names of the lines with what was wrong."""
        self.service.wait_empty()
        self.service.poll()
        wrong = {}
        for line, correlation_id in self.sent:
            expect = line.get("expect", {})
            letters, replies = len(self._letters(correlation_id)), self.count_replies(correlation_id)
            if letters != bool(expect.get("dead_letter")):
                wrong[line["name"]] = f"{letters} dead letters"
            if "reply" in expect and replies is not None and replies != (expect["reply"] is not None):
                wrong[line["name"]] = f"{replies} replies"
        return wrong


class PortalctlReplay(Replay):
    """The same with portalctl, which sends the lines and compares the replies."""

    def __init__(self, service):
        super().__init__(service)
        url = service.bed.rabbitmq.url(service.name, "sender", service.bed.sender_password)
        self.portalctl = subprocess.Popen([BUILD / "portalctl", "replay", "--check", "--json", "--run", "unused", "-"],
                                          text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                          env=environment(AMQP_URL=url))

    def exchange(self, line, properties):
        self.service.declare()
        fields = {name: line[name] for name in ("name", "body", "body_base64", "expect") if name in line}
        text = json.dumps({**fields, "properties": properties}, ensure_ascii=False)
        if "request" in line:  # as it was written
            text = f'{{"request": {line["raw"].decode()}, {text[1:]}'
        self.portalctl.stdin.write(text + "\n")
        self.portalctl.stdin.flush()
        told = json.loads(self.portalctl.stdout.readline())
        return [told["differences"]] if not told["ok"] else [], json.dumps(told["reply"])

    def count_replies(self, correlation_id):
        return None  # they go to portalctl

    def finish(self):
        output, _ = self.portalctl.communicate(timeout=30)
        summary = json.loads(output.splitlines()[-1])["summary"]
        wrong = super().finish()
        if summary["requests"] != len(self.sent) or summary["unanswered"]:
            wrong["summary"] = json.dumps(summary)
        return wrong
