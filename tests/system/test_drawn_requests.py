"""Requests drawn at random, right, nearly right and wrong: the worker serves what the contract's schemas allow, and
refuses what they do not. Every message is judged when the test ends (bed/tap.py); here they are only made and sent."""

import json
import random

import pytest
from test_bad_fields import WRONG, cancel, card, confirm

COUNT = 1000
RIGHT = {
    "request_id": ["a", "a.b:c-d_e", "x" * 128],
    "team_id": [1, 2**31, 2**63 - 1],
    "user_id": [1, 2**63 - 1],
    "return_path": ["/", "/a?b#c", "/a//b", "/~[]{}|^`'\"<>"],
    "locale": ["auto", "de", "pt-BR"],
    "configuration": ["bpc_1", "bpc_a-B_9"],
    "fresh": [True, False],
    "deadline": ["2036-01-01T12:00:00Z", "2036-02-29 12:00:00.5+01:00", "2199-12-31t23:59:60z", "9999-12-31T23:59:59Z",
                 "1970-01-01T00:00:00Z", "2036-01-01T12:00:00+23:59", "2036-01-01T12:00:00.1234567890123456789-00:00"],
    "flow": [
        {"type": "payment_method_update"}, cancel(), confirm(), cancel(retention={"type": "coupon_offer", "coupon": "S"}),
        {"type": "subscription_update", "subscription": "sub_1", "discounts": None},
        confirm(items=[{"id": "si_1", "quantity": 0, "price": "price_1"}], discounts=[{"coupon": "A"}]),
        confirm(discounts=[{"promotion_code": "promo_1", "coupon": None}]), card(type="redirect", return_path="/x"),
        card(type="hosted_confirmation", custom_message="ä\n\t\u202e"), card(type="portal_homepage")],
}
OFTEN = {"request_id": 0.95, "team_id": 0.8}
CHARACTERS = list("\\/\t\n \x7fü\u2028@:'\"<A0~\x1f\0") + ["\ud800", "\U0001d4b3", "%2f"]
STRANGERS = ["colour", "Team_id", "team_id ", "", "\0"]
HEADERS = {
    "x-portal-generation": [1, 2, 10**9, 10**9 + 1, 0, -5, "1", True, None, [1], 2**40],
    "x-portal-deadline": ["none", "None", "2036-01-01T12:00:00Z", "x", "", 1, None, True],
    "traceparent": ["a", 1, None],
}


class Draw(random.Random):
    def changed(self, value):
        """The value with something small about it changed."""
        if isinstance(value, str):
            at = self.randrange(len(value) + 1)
            return value[:at] + self.choice([self.choice(CHARACTERS) + value[at:], value[at + 1:], value[at:].upper()])
        if isinstance(value, bool):
            return self.choice([not value, None, 1, "true"])
        if isinstance(value, int):
            return self.choice([value + 1, -value, str(value), float(value), None])
        if isinstance(value, list):
            return self.choice([value + value, [], [self.changed(one) for one in value]])
        if isinstance(value, dict) and value:
            name = self.choice(list(value))
            other = self.choice(["type", "subscription", "items", "return_path", "coupon", "id", "quantity", "x"])
            return self.choice([{key: one for key, one in value.items() if key != name}, {**value, name: None},
                                {**value, name: self.changed(value[name])},
                                {**value, other: self.choice([1, 0, "sub_1", "/", None, [], {}])}])
        return self.choice([None, 1, "a", [], {}])

    def value(self, name):
        value, chance = self.choice(RIGHT[name]), self.random()
        if chance < 0.05:
            return self.choice([body[name] for bodies in WRONG.values() for body in bodies if name in body])
        return self.changed(value) if chance < 0.15 else value

    def body(self):
        body = {name: self.value(name) for name in RIGHT if self.random() < OFTEN.get(name, 0.25)}
        if self.random() < 0.1:
            body[self.choice(STRANGERS)] = self.choice([1, 2**70, None, {"a": [{}]}, "\0", "x"])
        raw = json.dumps(body, ensure_ascii=self.random() < 0.5).encode("utf-8", "surrogatepass")
        if self.random() < 0.05:
            at = self.randrange(len(raw))
            return self.choice([raw[:at] + bytes([self.randrange(256)]) + raw[at + 1:], raw + b" {}", b"\xef\xbb\xbf" + raw,
                                raw[:-1] + b', "fresh": true, "fresh": true}', b" " + raw + b"\n",
                                *(raw[:-1] + b', "x": ' + x + b"}" for x in (b"1e999", b"NaN", b"-1E400", b"01"))])
        return raw

    def properties(self):
        headers = {name: self.choice(values) for name, values in HEADERS.items() if self.random() < 0.05}
        identity = {"message_id": self.choice(["m", "a b", "", "x" * 128])} if self.random() < 0.1 else {}
        return {"headers": headers, **identity}


@pytest.mark.refused  # a configuration that Stripe does not know, say
def test_the_worker_judges_as_the_contract_does(service):
    seed = 20261126
    draw = Draw(seed)
    service.start_worker()
    sent = [service.request(raw=draw.body(), bulk=True, **draw.properties()) for _ in range(COUNT)]
    replies = service.wait_replies(sent)
    refused = sum((reply["error"] or {}).get("code") == "invalid_request" for reply in replies)
    print(f"seed {seed}: {refused} of {COUNT} were refused")
    assert COUNT / 4 < refused < COUNT * 3 / 4
