"""Ten thousand requests: all are answered, in bounded memory, also when the worker is killed on the way."""

import collections

import pytest

from bed.process import SANITIZED, wait_until
from bed.service import REQUESTS

TEAMS, REQUESTS_EACH = 1000, 10
TOTAL = TEAMS * REQUESTS_EACH
MEMORY_MIB = 32


@pytest.fixture
def backlog(service):
    """All requests queued, no worker running."""
    service.emulator.product()
    teams = service.teams(TEAMS)
    service.declare()
    sent = [service.request({"request_id": f"drain-{n}", "team_id": teams[n % TEAMS], "fresh": True}, bulk=True)
            for n in range(TOTAL)]
    wait_until(lambda: service.queue_depth(REQUESTS) == TOTAL, "all requests to be queued")
    return sent


def check_drained(service, sent):
    service.wait_empty(REQUESTS)
    rows = service.sessions()
    assert len(rows) == TOTAL and {row["outcome"] for row in rows} == {"created"}
    assert len({row["session_id"] for row in rows}) == TOTAL
    assert {row["session_id"] for row in rows} <= set(service.emulator.sessions().values())
    assert len(service.emulator.made_configurations()) == 1
    replies = {reply["request_id"]: reply for reply in service.replies}
    assert set(replies) == {one.request_id for one in sent}
    assert {(row["request_id"], row["session_id"]) for row in rows} == \
        {(name, reply["session"]["id"]) for name, reply in replies.items()}
    assert service.dead_letters() == []


def test_ten_thousand_requests_drain_in_bounded_memory(service, backlog):
    worker = service.start_worker()
    service.wait_replies(backlog, seconds=180)
    check_drained(service, backlog)
    assert len(service.replies) == TOTAL, "no reply came twice"
    counters = service.emulator.counters()
    assert counters["sessions_made"] == TOTAL and counters["idempotency_keys_with_effect"] == TOTAL + 1
    peak = worker.peak_memory()
    print(f"peak resident memory: {peak:.1f} MiB")
    assert SANITIZED or peak < MEMORY_MIB


def test_a_worker_killed_in_mid_drain_loses_nothing(service, backlog):
    for share in (0.2, 0.5):
        worker = service.start_worker()
        wait_until(lambda: (service.poll(), len(service.replies) > share * TOTAL)[1], "part of the replies", 120)
        worker.kill()
    assert len({reply["request_id"] for reply in service.replies}) < TOTAL, "it was killed in mid-drain"
    service.start_worker()
    service.wait_replies(backlog, seconds=180)
    check_drained(service, backlog)
    said = collections.defaultdict(set)
    for reply in service.replies:
        said[reply["request_id"]].add(reply.raw)
    assert [name for name, bodies in said.items() if len(bodies) > 1] == [], "all replies to a request are equal"
    calls = service.emulator.session_calls()
    keys = {call["idempotency_key"] for call in calls}
    assert len(keys) == TOTAL
    assert service.emulator.counters()["sessions_made"] == len(keys), "as many sessions as distinct keys"


@pytest.mark.slow
def test_memory_stays_bounded_over_fifty_thousand_requests(service):
    service.emulator.product()
    teams = service.teams(TEAMS)
    worker = service.start_worker()
    for part in range(5):
        sent = [service.request({"request_id": f"long-{part}-{n}", "team_id": teams[n % TEAMS], "fresh": True},
                                bulk=True) for n in range(TOTAL)]
        service.wait_replies(sent, seconds=240)
        print(f"peak resident memory after {(part + 1) * TOTAL}: {worker.peak_memory():.1f} MiB")
    assert SANITIZED or worker.peak_memory() < MEMORY_MIB
    assert worker.open_files() < 160, "one connection for each of STRIPE_CONCURRENCY, and a few"
