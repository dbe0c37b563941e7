"""Stripe's limits are kept by all workers together, whatever they are; one alone may use all of it."""

import collections
import time

import pytest

from bed.emulator import SESSIONS
from bed.outage import check_all_served, prepare, said, send
from bed.process import wait_until
from bed.service import REQUESTS

LIMIT = 50


def token_queries(service):
    """How many times send times were leased. Each is one update of the row; the first one is its insertion."""
    service.query("SELECT pg_stat_clear_snapshot()")
    [row] = service.query("SELECT n_tup_ins + n_tup_upd AS n FROM pg_stat_user_tables WHERE relname = 'tokens'")
    return row["n"]


def settled_token_queries(service):
    """Backends report what they did when they are idle, after a second at the latest."""
    time.sleep(1.2)
    return token_queries(service)


def by_second(service, path=SESSIONS):
    """Calls by calendar second, from the first to the last, the two not included: they are not whole."""
    seconds = collections.Counter(int(call["time"]) for call in service.emulator.calls(path, "POST"))
    first, last = min(seconds), max(seconds)
    return [seconds[second] for second in range(first + 1, last)]


@pytest.fixture
def fleet(service):
    """So many workers, each of which has the configuration."""
    prepare(service, teams=200)

    def start(count, **settings):
        settings = {"STRIPE_RATE_LIMIT": LIMIT, **settings}
        workers = [service.start_worker(**settings) for _ in range(count)]
        assert service.ask({"team_id": service.some[0], "fresh": True})["outcome"] == "created"
        return workers

    service.start_fleet = start
    return service


def run(service, seconds):
    """Keeps the fleet busy for so long; returns the whole seconds' counts and token queries per request."""
    before = settled_token_queries(service)
    count = LIMIT * (seconds + 1)
    sent = send(service, count, service.some)
    service.wait_replies(sent, 4 * seconds + 30)
    counts = by_second(service)[-seconds:]
    queries = (settled_token_queries(service) - before) / count
    print(f"calls by calendar second: {counts}, {sum(counts) / len(counts):.1f} on average; "
          f"{queries:.3f} token queries for each request")
    return counts, queries


def check(counts, queries, most_queries=0.1):
    average = sum(counts) / len(counts)
    assert max(counts) <= 1.2 * LIMIT
    assert sum(count <= 1.1 * LIMIT for count in counts) >= 0.95 * len(counts)
    assert average >= 0.8 * LIMIT
    assert queries < most_queries


@pytest.mark.slow
@pytest.mark.alone
def test_four_workers_keep_the_limit_and_use_it(fleet):
    fleet.start_fleet(4)
    check(*run(fleet, 20))


@pytest.mark.slow
@pytest.mark.alone
def test_ten_workers_keep_the_limit(fleet):
    fleet.start_fleet(10)
    check(*run(fleet, 10), most_queries=0.15)  # each leases for few at the beginning and at the end


@pytest.mark.slow
@pytest.mark.alone
def test_one_worker_alone_uses_all_of_it(fleet):
    fleet.start_fleet(1)
    check(*run(fleet, 10))


def test_the_limit_is_kept(fleet):
    """As above, but short, and beside other tests: never too many; how few depends on the machine."""
    fleet.start_fleet(3)
    counts, queries = run(fleet, 3)
    assert max(counts) <= 1.2 * LIMIT
    assert queries < 0.2, "the first and the last ones are for few"
    fleet.wait_empty(REQUESTS)


def test_each_endpoint_has_a_limit_of_its_own(fleet):
    """Reads do not wait for sessions."""
    fleet.emulator.data({"products": [{"id": "prod_other", "active": True}],
                         "prices": [{"id": "price_other", "product": "prod_other", "active": True}]})
    fleet.start_fleet(1, PORTAL_CONFIGURATION="per-product", STRIPE_RATE_LIMIT=10)
    sent = send(fleet, 30, fleet.some[:1])
    wait_until(lambda: (fleet.poll(), len(fleet.replies) > 2)[1], "the first replies")
    began = time.monotonic()
    other = fleet.request({"team_id": fleet.team(product="prod_other")}, priority=1)
    wait_until(lambda: [call for call in fleet.emulator.calls("/v1/prices")
                        if "prod_other" in str(call["parameters"]) + call["path"]], "the other product's prices", 4)
    print(f"prices were read after {time.monotonic() - began:.2f} s")
    fleet.wait_replies([*sent, other], 60)


@pytest.mark.refused
def test_a_429_slows_the_whole_fleet_and_says_so(fleet):
    """One worker is told; the others leave Stripe alone too, and all call at half the rate for a while."""
    workers = fleet.start_fleet(2)
    fleet.emulator.fault(SESSIONS, skip=60, count=1, status=429, retry_after="1")
    sent = send(fleet, 160, fleet.some)
    wait_until(lambda: [call for call in fleet.emulator.session_calls() if call["status"] == 429], "the 429", 30)
    fleet.wait_replies(sent, 60)
    calls = fleet.emulator.session_calls()
    [told] = [call["time"] for call in calls if call["status"] == 429]
    after = [call["time"] for call in calls if told + 0.6 < call["time"] < told + 1]
    slowed = [call["time"] for call in calls if told + 2 <= call["time"] < told + 4]
    print(f"{len(after)} calls after the first moment, {len(slowed) / 2:.1f} a second then")
    assert len(after) <= 3, "others had leased send times already, and used few of those"
    assert len(slowed) / 2 <= LIMIT / 2 * 1.2
    assert sum(len(said(worker, "the fleet slows down")) for worker in workers) == 1


@pytest.mark.refused
def test_stripes_own_limit_below_the_setting_costs_only_time(fleet):
    """Stripe allows 20 a second where 50 are set: 429 again and again, and all are served."""
    fleet.start_fleet(2)
    fleet.emulator.limits(per_second=20)
    sent = send(fleet, 60, fleet.some)
    check_all_served(fleet, sent, 60)
    for worker in fleet.workers:
        assert not said(worker, "waiting for Stripe"), "being asked to slow down is no outage"


def test_calls_at_once_are_bounded(fleet):
    fleet.start_fleet(1, STRIPE_RATE_LIMIT=0, STRIPE_CONCURRENCY=7)
    fleet.emulator.fault(SESSIONS, delay_ms=100)
    check_all_served(fleet, send(fleet, 150, fleet.some))
    calls = sorted((call["time"], 1) for call in fleet.emulator.session_calls())
    assert fleet.emulator.counters()["connections"]["peak"] <= 12  # the test's own among them
    busiest = max(sum(1 for other, _ in calls if start <= other < start + 0.09) for start, _ in calls)
    print(f"at most {busiest} calls begun within the time of one")
    assert busiest <= 14


def test_a_team_takes_a_quarter_of_the_slots_while_others_wait(fleet):
    fleet.start_fleet(1, STRIPE_RATE_LIMIT=0, STRIPE_CONCURRENCY=8)
    fleet.emulator.fault(SESSIONS, delay_ms=150)
    greedy = send(fleet, 120, fleet.some[:1])
    others = send(fleet, 60, fleet.some[1:])
    fleet.wait_replies(others)
    answered = sum(bool(fleet.replies_to(one)) for one in greedy)
    print(f"{answered} of the greedy team's requests were answered by then")
    assert answered <= 60, "it had 2 slots of 8 while others waited, though its requests came first"
    check_all_served(fleet, [*greedy, *others])


def test_a_team_alone_may_use_all_slots(fleet):
    fleet.start_fleet(1, STRIPE_RATE_LIMIT=0, STRIPE_CONCURRENCY=8)
    fleet.emulator.fault(SESSIONS, delay_ms=200)
    check_all_served(fleet, send(fleet, 40, fleet.some[:1]))
    assert fleet.emulator.counters()["connections"]["peak"] >= 8, "not the 2 that it has while others wait"


def test_send_times_are_leased_again_after_postgresql_was_away(fleet):
    fleet.start_fleet(2)
    sent = send(fleet, 200, fleet.some)
    wait_until(lambda: (fleet.poll(), len(fleet.replies) > 20)[1], "some replies", 20)
    fleet.bed.postgres.kill()
    fleet.bed.postgres.start()
    fleet.bed.postgres.wait_ready()
    fleet.reconnect()
    check_all_served(fleet, sent)
    assert max(by_second(fleet)) <= 1.2 * LIMIT
