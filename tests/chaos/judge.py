"""Holds what was sent, answered, stored and made at Stripe against the promises of the contract."""

import collections
import json

from bed.service import BASE_URL, DEAD, REPLIES, REQUESTS

from chaos.load import GONE, OWN, REFUSED

LETTERS = {"invalid_request", "stripe_unavailable", "poisonous", "internal_error"}
SHOWN = 3


class Judge:
    """Each check is a method that yields what is wrong; run() prints and counts them."""

    def __init__(self, service, sender, receiver):
        self.service, self.sender, self.receiver = service, sender, receiver
        self.rows = {row["request_id"]: row for row in service.sessions()}
        self.letters = collections.defaultdict(list)
        for letter in service.dead_letters():
            self.letters[letter.properties.correlation_id].append(letter)
        self.made = {}
        self.keys = collections.defaultdict(set)
        for call in service.emulator.session_calls():
            if call["effect"]:
                self.made[call["effect"]] = call["parameters"]
                self.keys[call["idempotency_key"]].add(call["effect"])
        self.by_generation = collections.defaultdict(set)
        self.sessions = collections.defaultdict(set)
        for request, raw in receiver.replies:
            reply = json.loads(raw)
            if reply["generation"]:
                self.by_generation[request.request_id, reply["generation"]].add(raw)
            if reply["session"]:
                self.sessions[reply["session"]["id"]].add(request.request_id)

    CHECKS = {
        "every request is answered": "unanswered",
        "every answer is one that the contract allows": "wrong_answers",
        "every reply is as the schemas say": "broken_replies",
        "replies within a generation are equal": "unequal",
        "one session is handed out for each request and generation": "several_sessions",
        "the store has what was answered": "wrong_rows",
        "every session was made at Stripe for that customer": "wrong_sessions",
        "a session of a fresh request is given to no other": "shared_fresh",
        "Stripe made one session for each key": "several_effects",
        "a replay is of the generation it asked for": "old_generations",
        "exactly those are dead letters that belong there": "wrong_letters",
        "the queues are empty": "left_in_queues",
        "no try is left in portal.suspects": "left_suspects",
    }

    def run(self):
        """By check: what is wrong."""
        return {name: list(getattr(self, method)()) for name, method in self.CHECKS.items()}

    def unanswered(self):
        for request in self.sender.unanswered:
            yield f"{request.kind} {request.request_id} {request.correlation_id}"
        for request in self.sender.sent:
            if request.reply_to == GONE and request.request_id not in self.rows:
                yield f"{request.request_id}, whose queue is gone, is not in the store"

    def wrong_answers(self):
        for request, raw in self.receiver.replies:
            reply = json.loads(raw)
            said = (reply["error"] or reply["redirect"] or {"code": reply["outcome"]})["code"]
            if said not in request.expected:
                yield f"{request.kind} {request.request_id}: {said}, not one of {sorted(request.expected)}"
            session = reply["session"]
            if session and session["customer"] != request.customer:
                yield f"{request.request_id}: {session['customer']} for {request.customer}"
            if session and session["return_url"] != BASE_URL + request.body.get("return_path", "/dashboard"):
                yield f"{request.request_id}: back to {session['return_url']}"
        yield from (f"to nobody's request: {reply}" for reply in self.receiver.unknown)

    def broken_replies(self):
        yield from self.receiver.broken

    def unequal(self):
        for (request_id, generation), bodies in self.by_generation.items():
            if len(bodies) > 1:
                yield f"{request_id} generation {generation}: {sorted(bodies)}"

    def several_sessions(self):
        for (request_id, generation), bodies in self.by_generation.items():
            handed = {(json.loads(raw)["session"] or {"id": None})["id"] for raw in bodies}
            row = self.rows.get(request_id)
            if row and row["generation"] == generation:
                handed.add(row["session_id"])
            if len(handed) > 1:
                yield f"{request_id} generation {generation}: {handed}"

    def wrong_rows(self):
        for (request_id, generation), bodies in self.by_generation.items():
            row = self.rows.get(request_id)
            if row is None or row["generation"] < generation:
                yield f"{request_id}: answered as generation {generation}, stored {row and row['generation']}"
            elif row["generation"] == generation and row["outcome"] != json.loads(next(iter(bodies)))["outcome"]:
                yield f"{request_id}: stored {row['outcome']}, answered {bodies}"

    def wrong_sessions(self):
        handed = [(row["request_id"], row["session_id"], row["customer"]) for row in self.rows.values()
                  if row["session_id"]]
        for request, raw in self.receiver.replies:
            session = json.loads(raw)["session"]
            if session:
                handed.append((request.request_id, session["id"], session["customer"]))
        for request_id, session, customer in handed:
            if self.made.get(session, {}).get("customer") != customer:
                yield f"{request_id}: {session} of {customer}, at Stripe {self.made.get(session)}"

    def shared_fresh(self):
        fresh = {request.request_id for request in self.sender.sent if request.body.get("fresh") is True}
        for session, holders in self.sessions.items():
            if len(holders) > 1 and holders & fresh:
                yield f"{session}: {sorted(holders)}"

    def several_effects(self):
        for key, effects in self.keys.items():
            if key is None or len(effects) > 1:
                yield f"{key}: {effects}"

    def old_generations(self):
        for request, raw in self.receiver.replies:
            reply = json.loads(raw)
            if request.generation and reply["generation"] and reply["generation"] < request.generation:
                yield f"{request.request_id}: generation {reply['generation']}, wanted {request.generation}"

    def wrong_letters(self):
        owed = collections.defaultdict(set)
        for request, raw in self.receiver.replies:
            error = json.loads(raw)["error"]
            if error and error["code"] in LETTERS:
                owed[request.correlation_id].add(error["code"])
        for request in self.sender.sent:
            found = {letter.headers.get("x-portal-reason", "by the broker")
                     for letter in self.letters.get(request.correlation_id, [])}
            wanted = {"reply_refused"} if request.reply_to == REFUSED else owed[request.correlation_id]
            if request.kind == "oversized":
                wanted = {"by the broker"}
            if found != wanted and not (request.reply_to == GONE and found == {"stripe_unavailable"}):
                yield f"{request.kind} {request.request_id}: {found} dead letters, {wanted} belong there"
        known = {request.correlation_id for request in self.sender.sent}
        yield from (f"of nobody: {correlation}" for correlation in self.letters if correlation not in known)

    def left_in_queues(self):
        depths = self.service.queues()
        for queue in (REQUESTS, REPLIES, OWN, DEAD):
            if depths.get(queue, 0):
                yield f"{depths[queue]} in {queue}"

    def left_suspects(self):
        rows = self.service.query("SELECT * FROM portal.suspects")
        if rows:
            yield f"{len(rows)}: {rows[:SHOWN]}"
