"""Sees every message that is published in a virtual host, whoever sends it: the test itself, a worker, portalctl, another
program. Each is held against the contract.
"""

import collections
import itertools

import pika

from bed import contract
from bed.message import Message

QUEUE = "bed.tap"
EXCHANGE, DEAD = "portal", "portal.dead"
# What is published to no queue, to learn whether one may: by "portalctl check", and by a worker that was refused it.
PROBE, WORKERS_PROBE = "portalctl.check", ("", b"")


class Tap:
    def __init__(self, rabbitmq, virtual_host, worker):
        """`worker`: the login of workers, under which nobody else publishes anything but requests."""
        self.worker = worker
        self._requests = collections.defaultdict(list)
        rabbitmq.tap(virtual_host, QUEUE)

    def judge(self, channel):
        """Takes in what was published since the last time; raises contract.Breach. Returns how many of each kind it saw."""
        seen = collections.defaultdict(list)
        for kind, message in self._take(channel):
            seen[kind].append(message)
        for request in seen["request"]:
            self._requests[_name(request)].append(request)
        for letter in seen["dead letter"]:
            contract.check_dead_letter(letter)
        for reply in seen["reply"]:
            contract.check_reply(reply)
            # Two that came under one name can't be told apart.
            if len(requests := self._requests[_name(reply)]) == 1:
                contract.check_answered(requests[0], reply)
        return {kind: len(messages) for kind, messages in seen.items() if messages}

    def _take(self, channel):
        count = channel.queue_declare(QUEUE, passive=True).method.message_count
        for _, copy, raw in itertools.islice(channel.consume(QUEUE, auto_ack=True), count) if count else ():
            headers = copy.headers
            key = headers["routing_keys"][0]  # those of its header CC follow
            message = Message(key, raw, pika.BasicProperties(**headers["properties"]))
            if key == PROBE or (key, raw) == WORKERS_PROBE:
                continue
            if headers["exchange_name"] == EXCHANGE:
                yield "request", message
            elif headers["user"] == self.worker:
                yield "dead letter" if key == DEAD else "reply", message


def _name(message):
    """What a request and its reply have in common."""
    if message.properties.correlation_id is not None:
        return message.properties.correlation_id
    body = contract.request_body(message.raw)
    return "request_id", (body.get("request_id") if isinstance(body, dict) else None) or message.properties.message_id
