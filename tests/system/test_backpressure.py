"""A broker that takes no replies, or takes them and does not deliver them: each case ends well, and stalls nobody."""

import collections
import contextlib
import time

import pika
import pytest

from bed.outage import (Usage, absorb, check_all_served, prepare, said, send, wait_first_reply, wait_intake_closed,
                        waiting, warm_up)
from bed.process import SANITIZED, wait_until
from bed.rabbitmq import ErlangError
from bed.service import REPLIES, REQUESTS


@pytest.fixture
def serving(service):
    prepare(service)
    warm_up(service, PORTAL_CONCURRENCY=16, PORTAL_REPLIES_MAX_LENGTH=10, PORTAL_DRAIN_SECONDS=3)
    return service


# ---- memory alarm ----

@contextlib.contextmanager
def memory_alarm(rabbitmq):
    def watermark(share):
        rabbitmq.evaluate(f"vm_memory_monitor:set_vm_memory_high_watermark({share:.10f}), 0")

    watermark(0.0000001)
    try:
        yield
    finally:
        watermark(0.4)


def test_a_memory_alarm_is_an_outage(serving):
    serving.emulator.fault("/v1/billing_portal/sessions", delay_ms=500)
    sent = send(serving, 60, serving.some)
    wait_until(lambda: waiting(serving)[0] < 60, "some to be in hand")
    with memory_alarm(serving.bed.rabbitmq):
        # The broker tells a connection that it is blocked only once that publishes.
        serving.worker.wait_status("waiting for", "RabbitMQ", "alarm")
        wait_intake_closed(serving)
        usage, before = Usage(serving.worker), absorb(serving)
        time.sleep(3)
        assert SANITIZED or usage.stop()[0] < 0.15
        assert absorb(serving) == before
    print(f"the first reply came {wait_first_reply(serving, before, 20):.2f} s after the alarm")
    check_all_served(serving, sent)


def test_a_worker_stops_in_order_during_a_memory_alarm(serving):
    serving.emulator.fault("/v1/billing_portal/sessions", delay_ms=300)
    sent = send(serving, 60, serving.some)
    with memory_alarm(serving.bed.rabbitmq):
        serving.worker.wait_status("waiting for", "RabbitMQ", "alarm")
        began = time.monotonic()
        assert serving.worker.stop() == 0
        assert time.monotonic() - began < 12
    serving.start_worker(PORTAL_REPLIES_MAX_LENGTH=10)
    check_all_served(serving, sent)


# ---- a full reply queue ----

def test_a_full_reply_queue_holds_a_quarter_of_the_slots_and_nobody_else(serving):
    sent = [serving.request({"team_id": serving.some[n % 20], "fresh": True}, reply_to=REPLIES) for n in range(60)]
    wait_until(lambda: waiting(serving)[0] == 0 and serving.queue_depth(REQUESTS) <= 4,
               lambda: f"all but a quarter to be acknowledged: {serving.queues()}", 30)
    kept, held = serving.queue_depth(REPLIES), serving.queue_depth(REQUESTS)
    # RabbitMQ's limit is soft: it refuses once it has noticed that it is passed; a busy one takes dozens meanwhile.
    print(f"{kept} replies in the queue, {held} requests wait for it")
    assert 10 <= kept < 50 and 1 <= held <= 4
    began = time.monotonic()
    assert serving.ask({"team_id": serving.some[0], "fresh": True})["outcome"] == "created"
    assert time.monotonic() - began < 8, "others are answered meanwhile"
    returned = said(serving.worker, "no queue took its reply")
    assert len(returned) == 60 - kept - held, "the others count as returned"
    rows = {row["request_id"] for row in serving.sessions() if row["url"]}
    assert {one.request_id for one in sent} <= rows, "their answers are kept"
    serving.replies += serving.take(REPLIES)
    serving.wait_empty(REQUESTS)
    serving.replies += serving.take(REPLIES)
    assert len(serving.replies) == 2 + kept + held, "those that waited come once there is room"
    again = serving.wait_replies([serving.request({"request_id": one.request_id, "team_id": serving.some[n % 20],
                                                   "fresh": True}) for n, one in enumerate(sent)])
    stored = {row["request_id"]: row["session_id"] for row in serving.sessions()}
    assert all(reply["session"]["id"] == stored[reply["request_id"]] for reply in [*again, *serving.replies])


# ---- replies that nobody takes ----

def test_replies_to_queues_that_are_gone_cost_only_themselves(serving):
    lost = [serving.request({"team_id": serving.some[n % 20], "fresh": True}, reply_to=f"amq.gen-gone-{n}")
            for n in range(50)]
    good = send(serving, 50, serving.some)
    check_all_served(serving, good)
    serving.wait_empty(REQUESTS)
    stored = {row["request_id"] for row in serving.sessions() if row["outcome"] == "created"}
    assert {one.request_id for one in lost} <= stored
    assert len(said(serving.worker, "no queue took its reply")) == 50


class DirectSender:
    """Asks over RabbitMQ's direct reply-to."""

    def __init__(self, service):
        self.service, self.replies = service, collections.defaultdict(list)
        url = service.bed.rabbitmq.url(service.name, "sender", service.bed.sender_password)
        self.connection = pika.BlockingConnection(pika.URLParameters(f"{url}?heartbeat=0"))
        self.channel = self.connection.channel()
        self.channel.basic_consume("amq.rabbitmq.reply-to", self._on_reply, auto_ack=True)

    def _on_reply(self, _channel, _method, properties, body):
        self.replies[properties.correlation_id].append(body)

    def request(self, number, team):
        body = f'{{"request_id": "direct-{number}", "team_id": {team}, "fresh": true}}'.encode()
        self.channel.basic_publish("portal", "request", body, pika.BasicProperties(
            delivery_mode=2, reply_to="amq.rabbitmq.reply-to", correlation_id=f"direct-{number}"))

    def wait(self, count):
        def complete():
            self.connection.process_data_events(0.05)
            return len(self.replies) >= count

        wait_until(complete, lambda: f"{count} replies, there are {len(self.replies)}\n{self.service.logs()}", 60)


def test_malformed_direct_addresses_cost_no_other_reply(serving):
    sender = DirectSender(serving)
    addresses = ["amq.rabbitmq.reply-to.garbage", "amq.rabbitmq.reply-to.", "amq.rabbitmq.reply-to.g2dkAA==.x",
                 "amq.rabbitmq.reply-to.AAAA.BBBB"]
    for number in range(100):
        sender.request(number, serving.some[number % 20])
        if number % 10 == 0:
            serving.request({"team_id": serving.some[0], "fresh": True}, reply_to=addresses[number // 10 % 4])
    good = send(serving, 50, serving.some)
    check_all_served(serving, good)
    sender.wait(100)
    serving.wait_empty(REQUESTS)
    assert serving.dead_letters() == []
    assert serving.worker.alive()
    outcomes = collections.Counter(row["outcome"] for row in serving.sessions())
    assert outcomes == {"created": 161}
    sender.connection.close()


def test_direct_replies_to_somebody_who_left_are_done_with(serving):
    sender = DirectSender(serving)
    serving.emulator.fault("/v1/billing_portal/sessions", delay_ms=500)
    for number in range(20):
        sender.request(number, serving.some[number])
    wait_until(lambda: serving.queues().get(REQUESTS) == 20, "them to be queued")
    sender.connection.close()
    serving.wait_empty(REQUESTS)
    assert len(serving.sessions()) == 21


# ---- the requests' own queue ----

@pytest.mark.parametrize("queue", [REQUESTS, REPLIES, "portal.dead"])
def test_a_queue_that_was_deleted_is_made_anew(serving, queue):
    """A request that is malformed wants portal.dead, one without a reply_to portal.replies."""
    serving.channel.queue_delete(queue)
    wait_until(lambda: is_back(serving, queue), lambda: f"the queue to be back\n{serving.logs()}", every=0.2)
    wait_until(lambda: REQUESTS in serving.bed.rabbitmq.bound(serving.name, "portal"), "the binding to be back")
    assert serving.ask({"team_id": serving.some[0], "fresh": True})["outcome"] == "created"
    malformed = serving.request(raw=b"?", message_id="malformed")
    assert serving.wait_reply(malformed)["error"]["code"] == "invalid_request"
    wait_until(lambda: any(letter.properties.correlation_id == malformed.correlation_id
                           for letter in serving.dead_letters()), "its dead letter")
    serving.request({"request_id": "to-replies", "team_id": serving.some[0]}, reply_to=None)
    wait_until(lambda: any(reply["request_id"] == "to-replies" for reply in serving.take(REPLIES)), "its reply")
    serving.wait_empty(REQUESTS)


def is_back(service, queue):
    """Nobody misses a reply queue, or one for dead letters, until one is to be sent."""
    with contextlib.suppress(ErlangError):  # it has no leader yet
        if queue in service.queues():
            return True
    if queue == "portal.dead":
        service.request(raw=b"??", message_id=None)
    elif queue == REPLIES:
        service.request({"team_id": service.some[0]}, reply_to=None)
    return False


def test_senders_are_told_to_stop_when_the_requests_queue_cannot_take_more(serving):
    """A worker holds no more than its prefetch, however much is queued."""
    serving.emulator.fault("/v1/billing_portal/sessions", hang=True)
    send(serving, 500, serving.some)
    wait_until(lambda: waiting(serving)[0] == 500 - 16, "the prefetch to be in hand")
    time.sleep(0.5)
    assert waiting(serving) == (500 - 16, 1)
    serving.emulator.clear_faults()
    serving.wait_empty(REQUESTS, 60)
