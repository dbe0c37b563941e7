"""portalctl request: asks as a service would, and says by its exit status what came of it."""

import json
import re
import subprocess
import sys
import time

import pytest

from bed import contract
from bed.process import ROOT, wait_until
from bed.service import REPLIES, REQUESTS
from test_backpressure import memory_alarm
from test_ctl import (DONE, INTERRUPTED, LATE, REDIRECT, REFUSED, RETRYABLE, UNAVAILABLE, USAGE, finish, portalctl, start)


def test_a_session_is_printed_for_people_and_as_json(serving):
    team = serving.team(customer="cus_ada")
    result = portalctl(serving, "request", "--team", str(team), "--id", "r-1", "--return-path", "/billing")
    assert result.status == DONE, result
    row = serving.session("r-1")
    assert result.output.startswith("created (200)\n")
    for words in (row["url"], row["session_id"], "cus_ada", row["configuration"], "/billing", "r-1, generation 1"):
        assert words in result.output

    again = portalctl(serving, "request", "--team", str(team), "--id", "r-1", "--return-path", "/billing", "--json")
    assert again.status == DONE and contract.problems("reply.schema.json", again.json) == []
    assert (again.json["session"]["id"], again.json["session"]["url"]) == (row["session_id"], row["url"])


def test_every_field_of_a_request_can_be_given(serving):
    team = serving.team(customer="cus_ada", stripe_subscription_id="sub_1")
    serving.emulator.data({"configurations": [{"id": "bpc_own", "features": {
        "subscription_cancel": {"enabled": True}, "payment_method_update": {"enabled": True}}}]})
    arguments = ["--team", str(team), "--id", "r-1", "--locale", "de", "--configuration", "bpc_own", "--fresh",
                 "--flow", "subscription_cancel", "--subscription", "sub_1", "--deadline", "2199-01-31T12:00:00Z"]
    assert portalctl(serving, "request", *arguments).status == DONE
    [call] = serving.emulator.session_calls()
    assert call["parameters"]["locale"] == "de" and call["parameters"]["configuration"] == "bpc_own"
    assert call["parameters"]["flow_data[subscription_cancel][subscription]"] == "sub_1"
    row = serving.session("r-1")
    assert row["fresh"] and json.loads(row["body"])["deadline"] == "2199-01-31T12:00:00Z"
    flow = {"type": "payment_method_update", "after_completion": {"type": "redirect", "return_path": "/done"}}
    result = portalctl(serving, "request", "--team", str(team), "--id", "r-2", "--flow", json.dumps(flow), "--json")
    assert result.status == DONE
    assert json.loads(serving.session("r-2")["body"])["flow"] == flow
    result = portalctl(serving, "request", "--team", str(team), "--id", "r-2", "--generation", "2", "--flow",
                       json.dumps(flow), "--json")
    assert result.json["generation"] == 2


def test_the_exit_status_is_the_outcomes(serving):
    redirect = portalctl(serving, "request", "--team", str(serving.team(customer=None)))
    assert redirect.status == REDIRECT and "redirect no_subscription (303)" in redirect.output
    assert "https://app.example.com/pricing" in redirect.output
    refused = portalctl(serving, "request", "--team", "2000000000")
    assert refused.status == REFUSED and "failed team_not_found (404)" in refused.output
    late = portalctl(serving, "request", "--team", str(serving.team()), "--deadline", "2020-01-31T12:00:00Z", "--json")
    assert late.status == RETRYABLE and late.json["error"]["code"] == "deadline_exceeded"


def test_a_user_asks(serving):
    result = portalctl(serving, "request", "--user", "4711")
    assert result.status == REDIRECT and "unauthenticated" in result.output


def test_it_may_be_listed_as_a_sender(service):
    service.emulator.product()
    service.start_worker(PORTAL_TEAM_SENDERS="portal")
    service.declare()
    assert portalctl(service, "request", "--team", str(service.team())).status == DONE


@pytest.mark.parametrize("arguments, words", [
    ([], "team_id or user_id"), (["--team", "one"], "--team"), (["--team", "1", "--id", "a b"], "request_id"),
    (["--team", "1", "--return-path", "//evil.example"], "return_path"), (["--team", "1", "--locale", "xx"], "locale"),
    (["--team", "1", "--flow", "dance"], "flow.type"), (["--team", "1", "--flow", "{"], "--flow"),
    (["--team", "1", "--configuration", "x"], "configuration"), (["--team", "1", "--deadline", "soon"], "deadline"),
    (["--team", "1", "--no-wait", "--reply-to", "portal.dead"], "reply_to"), (["--team", "1", "--timeout", "2d"], "at most a day"),
    (["--team", "1", "--locale", "\udcff"], "UTF-8"), (["--team", "1", "--flow", "\udcff"], "UTF-8"),
    (["--team", "1", "--flow", "subscription_cancel", "--subscription", "\udcff"], "UTF-8"),
])
def test_what_the_worker_would_refuse_is_not_sent(service, arguments, words):
    service.declare()
    result = portalctl(service, "request", *arguments)
    assert (result.status, result.output) == (USAGE, "") and words in result.errors
    assert service.queue_depth(REQUESTS) == 0


def test_no_reply_in_time_is_said(service):
    service.declare()
    result = portalctl(service, "request", "--team", "1", "--timeout", "1s")
    assert result.status == LATE and "portalctl status" in result.errors
    assert service.queue_depth(REQUESTS) == 1


def test_without_a_worker_ever_nobody_takes_it(service):
    result = portalctl(service, "request", "--team", "1")
    assert result.status == UNAVAILABLE and "portalctl check" in result.errors, result
    service.declare()
    service.bed.rabbitmq.evaluate(
        f'rabbit_amqqueue:delete(element(2, rabbit_amqqueue:lookup(rabbit_misc:r(<<"{service.name}">>, queue, '
        f'<<"{REQUESTS}">>))), false, false, <<"bed">>), 0')
    result = portalctl(service, "request", "--team", "1")
    assert result.status == UNAVAILABLE and "no queue takes requests" in result.errors, result


def test_it_can_be_left_to_itself(serving):
    result = portalctl(serving, "request", "--team", str(serving.team()), "--id", "r-1", "--no-wait")
    assert (result.status, result.output) == (DONE, "sent r-1\n")
    wait_until(lambda: serving.session("r-1"), "the answer")
    wait_until(lambda: serving.queue_depth(REPLIES) == 1, "the reply")
    [reply] = serving.take(REPLIES)
    assert (reply["request_id"], reply["outcome"]) == ("r-1", "created")
    serving.connect()
    result = portalctl(serving, "request", "--team", "1", "--id", "r-2", "--no-wait", "--json", "--reply-to", serving.reply_to)
    assert (result.status, result.json) == (DONE, {"request_id": "r-2"})
    wait_until(lambda: (serving.poll(0.1), serving.replies)[1], "the reply, where it was wanted")
    assert serving.replies[0]["request_id"] == "r-2"


def test_it_is_sent_again_after_a_broker_that_restarts_and_answered(service):
    service.emulator.product()
    service.declare()
    asking = start(service, "request", "--team", service.team(), "--id", "r-1", "--json")
    wait_until(lambda: service.queue_depth(REQUESTS) == 1, "the request")
    service.bed.rabbitmq.restart()
    wait_until(lambda: service.queue_depth(REQUESTS) == 2, "the request once more")
    service.start_worker()
    result = finish(asking)
    assert result.status == DONE and "trying again" in result.errors, result
    assert result.json["session"]["id"] == service.session("r-1")["session_id"]
    assert service.emulator.counters()["sessions_made"] == 1


def test_ctrl_c_ends_the_wait(service):
    service.declare()
    asking = start(service, "request", "--team", "1")
    wait_until(lambda: service.queue_depth(REQUESTS) == 1, "the request")
    began = time.monotonic()
    asking.send_signal(2)
    result = finish(asking)
    assert result.status == INTERRUPTED and time.monotonic() - began < 10
    assert "interrupted" in result.errors and "portalctl sessions" in result.errors


@pytest.mark.parametrize("arguments", [[], ["--no-wait"]], ids=["awaited", "left to itself"])
def test_a_broker_that_takes_nothing_does_not_keep_it_for_longer_than_told(service, arguments):
    service.declare()
    with memory_alarm(service.bed.rabbitmq):
        result = portalctl(service, "request", "--team", "1", "--timeout", "2s", *arguments)
    assert result.status == LATE and "RabbitMQ takes no messages just now" in result.errors, result
    assert "RabbitMQ did not take the request" in result.errors and "portalctl check" in result.errors


def test_a_broker_that_is_gone_is_waited_for_no_longer_than_told(service):
    service.declare()
    port = str(service.bed.rabbitmq.port)
    proxy = subprocess.Popen([sys.executable, "-m", "bed.proxy", "127.0.0.1", port, "0"], text=True, stdout=subprocess.PIPE,
                             cwd=ROOT / "tests")
    try:
        url = service.amqp_url.replace(f":{port}/", f":{proxy.stdout.readline().strip()}/")
        asking = start(service, "request", "--team", "1", "--timeout", "15s", env={"AMQP_URL": url})
        wait_until(lambda: service.queue_depth(REQUESTS) == 1, "the request")
    finally:
        proxy.kill()
        proxy.communicate()
    result = finish(asking)
    assert result.status == UNAVAILABLE and re.search(r"trying again for up to \d+ s", result.errors), result
