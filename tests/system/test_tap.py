"""The judge of all messages (bed/tap.py) sees whoever sends them, and notices what is wrong."""

import pika
import pytest

from bed import contract
from bed.message import Message
from bed.service import DEAD, REPLIES
from bed.worker import run


def test_messages_of_other_programs_are_judged(service):
    service.start_worker()
    service.declare()
    run(service.settings(), "request", "--team", "2000000000", program="portalctl")
    assert service.judge() == {"request": 1, "reply": 1}
    service.request(raw=b"?", reply_to=None)
    service.wait_dead_letters()
    assert service.judge() == {"request": 1, "dead letter": 1, "reply": 1}


@pytest.mark.parametrize("key, words", [("amq.gen-x", "a reply is not"), (REPLIES, "a reply is not"),
                                        (DEAD, "a dead letter's headers is not")])
def test_a_message_that_breaks_the_contract_is_noticed_whoever_gets_it(service, key, words):
    service.declare()
    connection = pika.BlockingConnection(pika.URLParameters(service.amqp_url))
    connection.channel().basic_publish("", key, b"{}")
    connection.close()
    with pytest.raises(contract.Breach, match=words):
        service.judge()
    service.channel.queue_purge(DEAD)


FORBIDDEN = [b"[]", b'{"team_id": 1}', b'{"request_id": "r", "team_id": 0}',
             b'{"request_id": "r", "team_id": 1, "fresh": 1}']
ALLOWED = [b'{"request_id": "r", "team_id": 1}', b'{"request_id": "r", "user_id": 1, "unknown": 1}']


@pytest.mark.parametrize("raw, code", [(raw, "team_not_found") for raw in FORBIDDEN] +
                         [(raw, "invalid_request") for raw in ALLOWED])
def test_a_worker_that_judges_requests_unlike_the_contract_is_noticed(raw, code):
    request = Message("request", raw, pika.BasicProperties())
    reply = Message(REPLIES, f'{{"error": {{"code": "{code}"}}}}'.encode(), pika.BasicProperties())
    with pytest.raises(contract.Breach, match="serves what|refuses what"):
        contract.check_answered(request, reply)
