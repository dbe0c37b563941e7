"""A Stripe emulator for its own tests, with nothing beside it, and calls to it as anybody could make them."""

import http.client
import json
import socket
import ssl
import urllib.parse

import pytest
from test_session import features_with

from bed.emulator import CONFIGURATIONS, SESSIONS, Emulator
from bed.process import PATIENCE
from bed.tls import authority, certificate_for

KEY, LIVE_KEY = "sk_test_self_test_0001", "sk_live_self_test_0001"

DATA = {
    "customers": ["cus_1", "cus_2"],
    "products": [{"id": "prod_1", "name": "Base"}, {"id": "prod_2", "name": "Plus", "active": False}],
    "prices": [{"id": "price_1", "product": "prod_1"},
               {"id": "price_2", "product": "prod_1", "unit_amount": 8000, "recurring": {"interval": "year"}},
               {"id": "price_3", "product": "prod_1", "active": False, "type": "one_time"},
               {"id": "price_4", "product": "prod_2"}],
}
FEATURES = features_with("prod_1", ["price_1", "price_2"])


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.text = response.read().decode()
        self.json = json.loads(self.text) if response.headers["Content-Type"] == "application/json" else None

    @property
    def error(self):
        return self.json["error"]

    def refused(self, param=None, code=None, status=400, words=""):
        """Checks that this is such an error, and returns its message."""
        error = self.error
        assert (self.status, error.get("param"), error.get("code")) == (status, param, code), error
        assert words in error["message"]
        return error["message"]


class Client(Emulator):
    trusting = None  # for HTTPS: whom to trust

    def open_socket(self):
        return socket.create_connection(self.address.split(":"), PATIENCE)

    def connect(self, scheme="http"):
        if scheme == "http":
            return http.client.HTTPConnection(self.address, timeout=PATIENCE)
        place = urllib.parse.urlsplit(self.https_url).netloc
        return http.client.HTTPSConnection(place, context=self.trusting, timeout=PATIENCE)

    def ask(self, method, path, body=None, headers=None, connection=None):
        using = connection or self.connect()
        try:
            using.request(method, path, body=body, headers=headers or {})
            return Answer(using.getresponse())
        finally:
            if not connection:
                using.close()

    def call(self, method, path, form=None, key=KEY, idempotency_key=None, headers=None, connection=None):
        headers = {"Stripe-Version": "2025-04-30.basil", **(headers or {})}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        if idempotency_key:
            headers["Idempotency-Key"] = idempotency_key
        encoded = urllib.parse.urlencode(form or {})
        if method == "GET":
            return self.ask(method, path + (f"?{encoded}" if encoded else ""), None, headers, connection)
        headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
        return self.ask(method, path, encoded, headers, connection)

    def get(self, path, form=None, **options):
        return self.call("GET", path, form, **options)

    def post(self, path, form=None, **options):
        return self.call("POST", path, form, **options)

    def session(self, form=None, **options):
        return self.post(SESSIONS, {"customer": "cus_1", "configuration": "bpc_all", **(form or {})}, **options)

    def configuration(self, form=FEATURES, **options):
        return self.post(CONFIGURATIONS, form, **options)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    directory = tmp_path_factory.mktemp("emulator")
    issuer = authority(directory)
    client = Client(directory / "emulator.log", certificate_for(directory, issuer, "IP:127.0.0.1"), [KEY, LIVE_KEY])
    client.trusting = ssl.create_default_context(cafile=issuer[0])
    yield client
    assert client.process.stop() == 0


@pytest.fixture
def emulator(running):
    """One with DATA, and an active configuration `bpc_all` that has every feature."""
    running.reset()
    features = {name: {"enabled": True} for name in ("subscription_cancel", "payment_method_update")}
    features["subscription_update"] = {"enabled": True, "default_allowed_updates": ["price"],
                                       "products": [{"product": "prod_1", "prices": ["price_1"]}]}
    running.data({**DATA, "configurations": [{"id": "bpc_all", "features": features}]})
    return running
