"""A message as it came from the broker."""

import dataclasses
import json

import pika


@dataclasses.dataclass
class Message:
    """A request, a reply or a dead letter."""

    queue: str
    raw: bytes
    properties: pika.BasicProperties

    @property
    def body(self):
        return json.loads(self.raw)

    @property
    def headers(self):
        return self.properties.headers or {}

    def __getitem__(self, field):
        return self.body[field]
