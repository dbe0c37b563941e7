"""What the worker tells systemd (sd_notify(3)), and what systemd's signals do."""

import os
import re
import signal
import urllib.parse

from bed.emulator import SESSIONS
from bed.outage import said
from bed.process import wait_until

DRAIN_SECONDS = 20
LEEWAY_SECONDS = 15  # service.c: what ending may take beyond the drain
NEW_KEY = "sk_test_portal_rotated"


def told(worker, name):
    """The values of one field so far, in their order."""
    return [line.partition("=")[2] for line in worker.told if line.startswith(f"{name}=")]


def test_it_is_ready_once_and_says_what_it_does(service):
    service.emulator.product()
    worker = service.start_worker()
    worker.wait_status("Ready: 0 in hand")
    service.emulator.fault(SESSIONS, delay_ms=7000)
    sent = service.request({"team_id": service.team()})
    worker.wait_status("Working: 1 in hand")
    assert service.wait_reply(sent)["outcome"] == "created"
    worker.wait_status("Ready: 0 in hand, 0.1 requests/s")
    assert told(worker, "READY") == ["1"]


def test_it_is_not_ready_with_a_wrong_setting(service):
    worker = service.start_worker(ready=False, PORTAL_CONCURRENCY="many")
    assert worker.wait() == os.EX_CONFIG
    assert told(worker, "READY") == []
    service.workers.remove(worker)


def test_the_loop_feeds_the_watchdog(service):
    worker = service.start_worker(WATCHDOG_USEC=1000000)
    wait_until(lambda: len(told(worker, "WATCHDOG")) >= 3, "the watchdog to be fed", every=0.05)
    assert told(service.start_worker(), "WATCHDOG") == [], "where nobody asked for it, nobody is told"


def test_what_a_drain_takes_is_asked_for(service):
    service.emulator.product()
    service.emulator.data({"configurations": [{"id": "bpc_given"}]})
    worker = service.start_worker(PORTAL_DRAIN_SECONDS=DRAIN_SECONDS)
    service.emulator.fault(SESSIONS, delay_ms=7000)
    sent = service.request({"team_id": service.team()})
    worker.wait_status("1 in hand")
    worker.send(signal.SIGTERM)
    worker.wait_status("Stopping: 1 in hand")
    assert told(worker, "STOPPING") == ["1"]
    assert told(worker, "EXTEND_TIMEOUT_USEC") == [str((DRAIN_SECONDS + LEEWAY_SECONDS) * 1000000)]
    worker.send(signal.SIGHUP)
    assert worker.wait() == 0
    assert service.wait_reply(sent)["outcome"] == "created"
    assert told(worker, "RELOADING") == [], "it is too late for that"


def test_a_key_in_a_file_is_changed_by_a_signal(service, tmp_path):
    service.emulator.product()
    old, path = service.emulator.secret_key, tmp_path / "key"
    path.write_text(old + "\n")
    worker = service.start_worker(STRIPE_SECRET_KEY=None, STRIPE_SECRET_KEY_FILE=path)
    assert service.ask({"team_id": service.team()})["outcome"] == "created"

    path.write_text("not a key\n")
    worker.send(signal.SIGHUP)
    wait_until(lambda: said(worker, "settings were not read again"), "the old settings to serve on")
    assert "STRIPE_SECRET_KEY is wrong" in worker.text() and "not a key" not in worker.text()
    assert service.ask({"team_id": service.team()})["outcome"] == "created"

    path.write_text(NEW_KEY + "\n")
    service.emulator.keys(accept=[NEW_KEY])
    worker.send(signal.SIGHUP)
    wait_until(lambda: said(worker, "were read again"), "the new key to be read")
    assert service.ask({"team_id": service.team()})["outcome"] == "created"
    assert NEW_KEY.endswith(service.emulator.session_calls()[-1]["api_key_suffix"])
    assert service.emulator.counters()["refused"] == 0 and NEW_KEY not in worker.text()
    assert told(worker, "RELOADING") == ["1", "1"] and told(worker, "READY") == ["1", "1", "1"]
    assert all(re.fullmatch(r"\d+", value) for value in told(worker, "MONOTONIC_USEC"))


def test_a_cause_that_is_cut_stays_text(service):
    """Neither systemd nor the store takes half a character: nobody would learn what is waited for."""
    service.declare()
    server = service.amqp_url.rpartition("/")[0]
    names = ["x" * odd + "€" * 70 for odd in range(3)]  # wherever it is cut, it is within a character of one of them
    workers = [service.start_worker(AMQP_URL=f"{server}/{urllib.parse.quote(name)}") for name in names]
    for worker in workers:
        worker.wait_status("waiting for RabbitMQ", "€€€")
        assert "\N{REPLACEMENT CHARACTER}" not in worker.status
    causes = "SELECT state->'waiting_for'->'broker'->>'cause' AS cause FROM portal.workers WHERE state->'waiting_for' IS NOT NULL"
    wait_until(lambda: sum("€€€" in (row["cause"] or "") for row in service.query(causes)) == len(workers),
               lambda: f"the causes to be in the store: {service.query(causes)}")
