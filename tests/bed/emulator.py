"""A Stripe emulator of one's own (tests/stripe-emulator; its README.md documents what can be asked of it)."""

import json
import pathlib
import re
import urllib.error
import urllib.parse
import urllib.request

from bed.process import BUILD, Process, wait_until

SESSIONS = "/v1/billing_portal/sessions"
CONFIGURATIONS = "/v1/billing_portal/configurations"
PRICES = "/v1/prices"
PRODUCTS = "/v1/products/"


class Emulator:
    """Any customer is known, and nothing else until data() says so; the worker's key is the only one it takes."""

    secret_key = "sk_test_portal_emulator"

    def __init__(self, log, tls=None, keys=(secret_key,), arguments=()):
        """`tls`: certificate and key, for HTTPS beside HTTP; `https_url` then says where. `keys`: the ones that it takes,
        none: whatever looks like one. `arguments`: more of its options, which win over those from here."""
        self.log = pathlib.Path(log)
        self.listeners = 1 if tls is None else 2
        self.arguments = [word for key in keys for word in ("--api-key", key)]
        if tls is not None:
            self.arguments += ["--tls-listen", "127.0.0.1:0", "--tls-certificate", tls[0], "--tls-key", tls[1]]
        self.arguments += arguments
        self.process = None
        self.merged = []
        self.address = "127.0.0.1:0"
        self.start()

    def start(self):
        """Starts it, or starts it anew at the same address with the same data, and nothing else remembered. It has the
        data before it listens: a worker that was waiting for it asks at once."""
        seen = len(self.log.read_text()) if self.log.exists() else 0
        data = self.log.with_suffix(".json")
        data.write_text(json.dumps(self._merge()))
        self.process = Process([BUILD / "stripe-emulator", "--listen", self.address, "--data", data, *self.arguments],
                               log=self.log)
        urls = wait_until(lambda: self._listening(seen), lambda: f"the emulator to listen:\n{self.process.tail()}")
        self.url, self.https_url = urls[0], urls[-1]
        self.address = self.url.partition("://")[2]

    def _merge(self):
        whole = {"customers": "any"}
        for objects in self.merged:
            for kind, more in objects.items():
                whole[kind] = whole[kind] + more if isinstance(whole.get(kind), list) and isinstance(more, list) else more
        return whole

    def _listening(self, seen):
        if not self.process.alive():
            raise RuntimeError(f"the emulator ended:\n{self.process.tail()}")
        found = re.findall(r"^listening (https?://\S+)\n", self.process.text()[seen:], re.MULTILINE)
        return sorted(found) if len(found) == self.listeners else None

    def admin(self, method, name, body=None, **query):
        url = f"{self.url}/_emulator/{name}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        request = urllib.request.Request(url, method=method, headers={"Content-Type": "application/json"},
                                         data=None if body is None else json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {url}: {error.code} {error.read().decode(errors='replace')}") from None
        return json.loads(text) if text else None

    def data(self, objects):
        """Merges customers, products, prices, configurations."""
        self.merged.append(objects)
        return self.admin("POST", "data", objects)

    def product(self, name="prod_base", prices=2, active=True, inactive_prices=0):
        """A product with so many prices; returns the ids of the active ones, in the order in which they were made."""
        ids = [f"price_{name}_{number}" for number in range(prices)]
        old = [f"price_{name}_old_{number}" for number in range(inactive_prices)]
        self.data({"products": [{"id": name, "active": active, "name": name}],
                   "prices": [{"id": price, "product": name, "active": price not in old} for price in ids + old]})
        return ids

    def fault(self, path="/v1/", count=None, match=None, skip=0, probability=1, **do):
        """Makes calls whose path begins so go wrong: all of them, or so many."""
        rule = {"match": {"path": path, **(match or {})}, "skip": skip, "probability": probability, "do": do}
        if count is not None:
            rule["count"] = count
        return self.admin("POST", "faults", [rule])

    def clear_faults(self):
        return self.admin("DELETE", "faults")

    def keys(self, **lists):
        return self.admin("POST", "keys", lists)

    def limits(self, **limits):
        return self.admin("POST", "limits", limits)

    def reset(self):
        return self.admin("POST", "reset")

    def counters(self):
        return self.admin("GET", "counters")

    def calls(self, path="/v1/", method=None):
        """Every call so far whose path begins so, oldest first."""
        calls, since = [], 0
        while True:
            page = self.admin("GET", "calls", since=since, limit=1000, path=path)
            calls += page["calls"]
            if not page["has_more"]:
                return [call for call in calls if method in (None, call["method"])]
            since = page["calls"][-1]["n"] if page["calls"] else page["last"]

    def session_calls(self):
        return self.calls(SESSIONS)

    def sessions(self):
        """Ids of all sessions that it made, by idempotency key."""
        return {call["idempotency_key"]: call["effect"] for call in self.session_calls() if call["effect"]}

    def made_configurations(self):
        """The calls that made a configuration."""
        calls = self.calls(CONFIGURATIONS, "POST")
        return [call for call in calls if call["path"] == CONFIGURATIONS and call["effect"]]

    def configurations(self):
        """Every configuration there is, as the emulator keeps it."""
        return self.admin("GET", "configurations")["configurations"]

    def freeze(self):
        self.process.freeze()

    def thaw(self):
        self.process.thaw()

    def kill(self):
        self.process.kill()
