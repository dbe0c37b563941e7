"""A message that crashes the worker: it ends in portal.dead, and nobody is taken along."""

import collections

import pytest

from bed.crash import MARKER, Supervisor
from bed.outage import prepare, said, waiting
from bed.process import wait_until
from bed.service import DEAD, REQUESTS


@pytest.fixture
def ready(service):
    prepare(service)
    service.declare()
    return service


def see_it_buried(service, supervisor, good, poison, seconds):
    """Until all are answered and the queue is empty; the poison as such, the rest with a session each."""
    sent = [*good, *poison]

    def done():
        service.poll()
        return all(service.replies_to(one) for one in sent) and service.queue_depth(REQUESTS) == 0

    supervisor.until(done, lambda: f"all to be answered\n{service.logs()[-3000:]}", seconds)
    replies = service.wait_replies(good)
    assert collections.Counter(reply["outcome"] for reply in replies) == {"created": len(good)}
    assert len({reply["session"]["id"] for reply in replies}) == len(good)
    for one in poison:
        reply = service.wait_reply(one)
        assert (reply["outcome"], reply["status"], reply["error"]["code"]) == ("failed", 500, "poisonous")
    letters = service.wait_dead_letters(len(poison))
    assert [letter.headers["x-portal-reason"] for letter in letters] == ["poisonous"] * len(poison)
    assert {letter.raw for letter in letters} == {one.body for one in poison}
    assert service.query("SELECT * FROM portal.suspects") == []


def poisonous(service, number, **more):
    return service.request({"request_id": f"poison-{number}", "team_id": service.some[0], "note": MARKER, **more},
                           message_id=f"poison-{number}")


def send_among(service, count, places):
    """Good requests, and a poisonous one at each of the places."""
    good, poison = [], []
    for number in range(count):
        if number in places:
            poison.append(poisonous(service, number))
        else:
            good.append(service.request({"team_id": service.some[number % 20], "fresh": True}, bulk=True))
    return good, poison


def test_one_among_256_is_buried_alone(ready):
    good, poison = send_among(ready, 256, {100})
    supervisor = Supervisor(ready)
    see_it_buried(ready, supervisor, good, poison, 120)
    print(f"{supervisor.crashes} crashes")
    assert 4 <= supervisor.crashes <= 8, "five times with the others, three times alone"
    tries = [line for worker in ready.workers for line in said(worker, "worked alone")]
    assert any("try 3" in line for line in tries)


@pytest.mark.slow
def test_three_among_256_with_two_workers(ready):
    good, poison = send_among(ready, 256, {10, 100, 200})
    first, second = Supervisor(ready), Supervisor(ready)

    def tend_second():
        second.tend()
        return True

    first.until(lambda: tend_second() and (ready.poll(), all(ready.replies_to(one) for one in [*good, *poison]))[1],
                "all to be answered", 240)
    see_it_buried(ready, first, good, poison, 60)
    print(f"{first.crashes + second.crashes} crashes")


def test_a_poisonous_message_whose_reply_is_refused_is_buried_too(ready):
    ready.request({"request_id": "p", "team_id": 1, "note": MARKER}, reply_to="somebody.elses")
    supervisor = Supervisor(ready)
    supervisor.until(lambda: ready.queue_depth(REQUESTS) == 0 and ready.queue_depth(DEAD) == 1, "the letter", 120)
    assert ready.query("SELECT * FROM portal.suspects") == []


def test_a_worker_that_is_stopped_in_order_counts_nobody_as_poisonous(ready):
    """Requests that come back often: given back by outages, or by workers that stop."""
    ready.emulator.fault("/v1/billing_portal/sessions", hang=True)
    sent = [ready.request({"team_id": ready.some[n], "fresh": True}) for n in range(5)]
    for _ in range(7):
        worker = ready.start_worker(PORTAL_DRAIN_SECONDS=0)
        wait_until(lambda: waiting(ready)[0] == 0, "all to be in hand")
        assert worker.stop() == 0
    assert ready.queue_depth(REQUESTS) == 5
    assert ready.query("SELECT * FROM portal.suspects") == []
    ready.emulator.clear_faults()
    last = ready.start_worker()
    assert {reply["outcome"] for reply in ready.wait_replies(sent)} == {"created"}
    assert len(said(last, "worked alone")) == 5
    ready.wait_empty(REQUESTS)
    assert ready.query("SELECT * FROM portal.suspects") == [] and ready.dead_letters() == []
