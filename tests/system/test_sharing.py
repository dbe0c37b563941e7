"""One ask, one session: answers that stand, conflicts, reuse within a while, and sharing among requests in hand."""

import collections
import time

import pytest

from bed.emulator import SESSIONS
from bed.process import wait_until
from bed.service import REPLIES

LIVE_KEY = "sk_live_portal_emulator"


@pytest.fixture
def ready(service):
    service.emulator.product()
    return service


def session(reply):
    """The session's id; a reply without one fails the test."""
    assert reply["session"], reply.raw
    return reply["session"]["id"]


def outcomes(replies):
    return collections.Counter(reply["outcome"] for reply in replies)


def age(service, request_id, seconds):
    """Makes a stored session older than it is."""
    service.query("UPDATE portal.sessions SET session_created = session_created - %s * interval '1 second' "
                  "WHERE request_id = %s", [seconds, request_id])


def pile_up(service, bodies):
    """Sends them all at once: where no worker runs yet, before any takes one."""
    service.declare()
    return [service.request(body, bulk=True) for body in bodies]


def start_warm(service):
    """Starts a worker and lets one request go first, as it does by itself after each start."""
    service.start_worker()
    assert service.ask({"team_id": service.team()})["outcome"] == "created"


# --- sharing: requests in hand at once ---

def test_five_hundred_requests_for_one_team_share_one_session(ready):
    sent = pile_up(ready, [{"team_id": ready.team()}] * 500)
    ready.start_worker()
    replies = ready.wait_replies(sent)
    assert len({session(reply) for reply in replies}) == 1
    assert outcomes(replies) == {"created": 1, "reused": 499}
    assert len(ready.emulator.session_calls()) == 1
    assert len({row["request_id"] for row in ready.sessions()}) == 500, "each has a row of its own"


def test_two_users_of_one_team_never_share(ready):
    team = ready.team()
    users = [ready.query("INSERT INTO users (email, password_hash) VALUES (%s, '!') RETURNING id", [name])[0]["id"]
             for name in ("ada@example.com", "grace@example.com")]
    for user in users:
        ready.query("INSERT INTO team_members (user_id, team_id, role) VALUES (%s, %s, 'member')", [user, team])
    sent = pile_up(ready, [{"user_id": user} for user in users] * 500)
    ready.start_worker()
    replies = ready.wait_replies(sent)
    sessions = [{session(reply) for reply in replies[number::2]} for number in (0, 1)]
    assert [len(ids) for ids in sessions] == [1, 1] and not sessions[0] & sessions[1]
    assert outcomes(replies) == {"created": 2, "reused": 998}
    assert ready.emulator.counters()["sessions_made"] == 2


def test_only_requests_of_one_shape_share(ready):
    features = {"payment_method_update": {"enabled": True}, "subscription_cancel": {"enabled": True}}
    ready.emulator.data({"configurations": [{"id": name, "features": features} for name in ("bpc_own", "bpc_all")]})
    team = ready.team(stripe_subscription_id="sub_1")
    base = {"team_id": team}
    shapes = [base, {"team_id": ready.team()}, {**base, "return_path": "/settings"}, {**base, "locale": "de"},
              {**base, "locale": "fr"}, {**base, "configuration": "bpc_own"},
              {**base, "flow": {"type": "payment_method_update"}},
              {**base, "flow": {"type": "payment_method_update", "after_completion": {"type": "portal_homepage"}}},
              {**base, "flow": {"type": "subscription_cancel", "subscription": "sub_1"}}]
    sent = pile_up(ready, shapes * 10)
    ready.start_worker()
    replies = ready.wait_replies(sent)
    sessions = [{session(reply) for reply in replies[number::len(shapes)]} for number in range(len(shapes))]
    assert [len(ids) for ids in sessions] == [1] * len(shapes), "each shape has one session"
    assert len(set.union(*sessions)) == len(shapes), "and none that of another"
    assert len(ready.emulator.session_calls()) == len(shapes)


def test_the_default_spelt_out_is_the_same_ask(ready):
    team = ready.team()
    sent = pile_up(ready, [{"team_id": team}, {"team_id": team, "return_path": "/dashboard"},
                           {"team_id": team, "fresh": False, "locale": None}] * 3)
    ready.start_worker()
    assert len({session(reply) for reply in ready.wait_replies(sent)}) == 1


def test_fresh_requests_have_sessions_of_their_own(ready):
    team = ready.team()
    sent = pile_up(ready, [{"team_id": team, "fresh": True}] * 20 + [{"team_id": team}] * 5)
    ready.start_worker()
    replies = ready.wait_replies(sent)
    assert len({session(reply) for reply in replies[:20]}) == 20
    assert len({session(reply) for reply in replies[20:]}) == 1
    assert not {session(reply) for reply in replies[:20]} & {session(reply) for reply in replies[20:]}


def test_a_follower_outlives_a_leader_whose_deadline_passes(ready):
    start_warm(ready)
    ready.emulator.fault(SESSIONS, count=1, hang=True)
    team = ready.team()
    deadline = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3))
    leader = ready.request({"team_id": team, "deadline": deadline})
    wait_until(lambda: len(ready.emulator.session_calls()) == 2, "the leader's call")
    followers = [ready.request({"team_id": team}) for _ in range(5)]
    assert ready.wait_reply(leader)["error"]["code"] == "deadline_exceeded"
    replies = ready.wait_replies(followers)
    assert outcomes(replies) == {"created": 1, "reused": 4}
    assert len({session(reply) for reply in replies}) == 1
    keys = [call["idempotency_key"] for call in ready.emulator.session_calls()[1:]]
    assert keys[0] == f"portal:default:{leader.request_id}:1:0"
    assert keys[1:] == [f"portal:default:{followers[0].request_id}:1:0"], "the next one leads, under its own key"
    ready.emulator.clear_faults()


@pytest.mark.refused
def test_what_stripe_refuses_the_leader_is_told_to_all(ready):
    start_warm(ready)
    ready.emulator.fault(SESSIONS, delay_ms=500, status=400, body={"error": {
        "type": "invalid_request_error", "code": "resource_missing", "message": "No such customer"}})
    replies = ready.wait_replies(pile_up(ready, [{"team_id": ready.team()}] * 30))
    assert {reply["error"]["code"] for reply in replies} == {"stripe_error"}
    [_, call] = ready.emulator.session_calls()
    assert {reply["error"]["stripe_request_id"] for reply in replies} == {call["request_id"]}


def test_a_team_that_asks_in_masses_does_not_keep_others_waiting(ready):
    ready.emulator.data({"configurations": [{"id": "bpc_here"}]})
    ready.emulator.fault(SESSIONS, delay_ms=50)
    greedy, other = ready.team(), ready.team()
    sent = pile_up(ready, [{"team_id": greedy, "fresh": True}] * 200 + [{"team_id": other}])
    ready.start_worker(STRIPE_CONCURRENCY="8")
    ready.wait_replies(sent)
    order = [call["parameters"]["customer"] for call in ready.emulator.session_calls()]
    assert order.index(f"cus_{other}") < 20


# --- reuse: a stored session of the same shape ---

def test_a_session_serves_again_for_a_while_also_from_another_worker(ready):
    team = ready.team()
    ready.start_worker()
    first = ready.ask({"team_id": team})
    ready.start_worker()
    replies = [ready.ask({"team_id": team}) for _ in range(6)]
    assert outcomes(replies) == {"reused": 6}
    assert {session(reply) for reply in replies} == {session(first)}
    assert all(reply["session"] == first["session"] for reply in replies)
    age(ready, first["request_id"], 121)
    ready.query("UPDATE portal.sessions SET session_created = session_created - interval '121 seconds' "
                "WHERE request_id <> %s", [first["request_id"]])
    assert ready.ask({"team_id": team})["outcome"] == "created"


@pytest.mark.parametrize("seconds, old, outcome", [(30, 29, "reused"), (30, 31, "created"), (240, 230, "reused"),
                                                   (0, 0, "created")])
def test_the_while_can_be_set(ready, seconds, old, outcome):
    team = ready.team()
    ready.start_worker(PORTAL_SESSION_REUSE_SECONDS=seconds)
    first = ready.ask({"team_id": team})
    age(ready, first["request_id"], old - 1 if outcome == "reused" else old)
    assert ready.ask({"team_id": team})["outcome"] == outcome


def test_a_session_with_less_than_a_minute_left_is_not_handed_out_again(ready):
    team = ready.team()
    ready.start_worker(PORTAL_SESSION_REUSE_SECONDS=240, PORTAL_SESSION_SECONDS=300)
    first = ready.ask({"team_id": team})
    ready.query("UPDATE portal.sessions SET session_created = session_created - interval '239 seconds',"
                " stands_until = stands_until - interval '241 seconds' WHERE request_id = %s", [first["request_id"]])
    assert ready.ask({"team_id": team})["outcome"] == "created"


def test_a_fresh_session_is_given_to_no_other(ready):
    team = ready.team()
    ready.start_worker()
    fresh = ready.ask({"team_id": team, "fresh": True})
    assert ready.ask({"team_id": team})["outcome"] == "created"
    assert ready.ask({"team_id": team, "fresh": True})["outcome"] == "created"
    assert session(ready.ask({"team_id": team})) != session(fresh)


def test_the_rules_come_before_reuse(ready):
    team = ready.team()
    ready.start_worker()
    ready.ask({"team_id": team})
    ready.query("UPDATE teams SET stripe_customer_id = NULL WHERE id = %s", [team])
    assert ready.ask({"team_id": team})["redirect"]["code"] == "no_subscription"
    ready.query("UPDATE teams SET stripe_customer_id = 'cus_another' WHERE id = %s", [team])
    reply = ready.ask({"team_id": team})
    assert (reply["outcome"], reply["session"]["customer"]) == ("created", "cus_another")


@pytest.mark.parametrize("changes", [
    {"PORTAL_NAMESPACE": "other-account"}, {"STRIPE_SECRET_KEY": LIVE_KEY}, {"PORTAL_CONFIGURATION": "bpc_other"},
    {"BASE_URL": "https://other.example.com"},
], ids=lambda changes: next(iter(changes)))
def test_reuse_ends_at_account_mode_configuration_and_site(ready, changes):
    ready.emulator.data({"configurations": [{"id": "bpc_other"}, {"id": "bpc_here"}]})
    ready.emulator.keys(accept=[ready.emulator.secret_key, LIVE_KEY])
    team = ready.team()
    ready.start_worker()
    first = ready.ask({"team_id": team})
    assert ready.ask({"team_id": team})["outcome"] == "reused"
    assert ready.workers[0].stop() == 0
    ready.start_worker(**changes)
    second = ready.ask({"team_id": team})
    assert second["outcome"] == "created" and session(second) != session(first)


# --- the same request again: answers that stand ---

def test_an_answer_stands_for_the_same_ask(ready):
    team = ready.team()
    ready.start_worker()
    first = ready.ask({"request_id": "again", "team_id": team})
    for more in ({}, {"fresh": True}, {"return_path": "/dashboard"}, {"unknown": 1}, {"user_id": None}):
        assert ready.ask({"request_id": "again", "team_id": team, **more}).body == first.body
    assert len(ready.emulator.session_calls()) == 1


@pytest.mark.parametrize("body, code", [
    ({"team_id": 2_000_000_000}, "team_not_found"), ({"user_id": 2_000_000_000}, "unauthenticated")])
def test_an_answer_without_a_session_stands_for_five_minutes(ready, body, code):
    ready.start_worker()
    body = {"request_id": "again", **body}
    first = ready.ask(body)
    assert (first["error"] or first["redirect"])["code"] == code
    assert ready.ask(body).body == first.body
    row = ready.session("again")
    assert 299 < (row["stands_until"] - row["answered_at"]).total_seconds() < 301
    ready.query("UPDATE portal.sessions SET stands_until = now() WHERE request_id = 'again'")
    assert ready.ask(body)["generation"] == 2


def test_a_deadline_that_was_missed_can_be_tried_again_at_once(ready):
    ready.start_worker()
    body = {"request_id": "late", "team_id": ready.team()}
    assert ready.ask({**body, "deadline": "2020-01-31T12:00:00Z"})["error"]["code"] == "deadline_exceeded"
    reply = ready.ask(body)
    assert (reply["outcome"], reply["generation"]) == ("created", 2)


def test_a_url_that_was_wiped_no_longer_stands(ready):
    ready.start_worker()
    body = {"request_id": "wiped", "team_id": ready.team(), "fresh": True}
    first = ready.ask(body)
    ready.query("UPDATE portal.sessions SET url = NULL WHERE request_id = 'wiped'")
    second = ready.ask(body)
    assert (second["outcome"], second["generation"]) == ("created", 2)
    assert session(second) != session(first)


def test_a_generation_is_worked_once(ready):
    ready.start_worker()
    body = {"request_id": "generations", "team_id": ready.team(), "fresh": True}

    def ask(wanted):
        return ready.ask(body, headers={"x-portal-generation": wanted})

    first, second, again, below, far = ask(1), ask(2), ask(2), ask(1), ask(7)
    assert [reply["generation"] for reply in (first, second, again, below, far)] == [1, 2, 2, 2, 7]
    assert session(second) == session(again) == session(below)
    assert len({session(reply) for reply in (first, second, far)}) == 3
    assert ask(7).body == far.body and ready.session("generations")["generation"] == 7
    keys = [call["idempotency_key"] for call in ready.emulator.session_calls()]
    assert keys == [f"portal:default:generations:{generation}:0" for generation in (1, 2, 7)]


def test_one_request_sent_many_times_at_once_has_one_answer(ready):
    body = {"request_id": "crowd", "team_id": ready.team(), "fresh": True}
    sent = pile_up(ready, [body] * 40)
    ready.start_worker(ready=False, PORTAL_CONCURRENCY=10)
    ready.start_worker(ready=False, PORTAL_CONCURRENCY=10)
    replies = ready.wait_replies(sent)
    assert len({reply.raw for reply in replies}) == 1 and replies[0]["outcome"] == "created"
    assert len(ready.emulator.sessions()) == 1


def test_each_delivery_is_answered_at_its_own_address(ready):
    body = {"request_id": "addresses", "team_id": ready.team()}
    ready.declare()
    mine, default = ready.request(body), ready.request(body, reply_to=None)
    ready.start_worker()
    reply = ready.wait_reply(mine)
    ready.wait_empty()
    [other] = ready.take(REPLIES)
    assert other.properties.correlation_id == default.correlation_id and other.body == reply.body


# --- conflicts ---

def test_another_ask_under_an_id_never_gets_its_url(ready):
    ready.emulator.data({"configurations": [{"id": "bpc_here"}]})
    team, other = ready.team(), ready.team()
    ready.start_worker()
    first = ready.ask({"request_id": "mine", "team_id": team})
    for ask in ({"team_id": other}, {"user_id": 1}, {"team_id": team, "user_id": 1},
                {"team_id": team, "return_path": "/elsewhere"}, {"team_id": team, "locale": "de"},
                {"team_id": team, "configuration": "bpc_here"},
                {"team_id": team, "flow": {"type": "payment_method_update"}}):
        for headers in (None, {"x-portal-generation": 9}):
            reply = ready.ask({"request_id": "mine", **ask}, headers=headers)
            assert (reply["status"], reply["error"]["code"]) == (409, "request_conflict"), ask
            assert reply["generation"] is None
            assert session(first) not in reply.raw.decode() and first["session"]["url"] not in reply.raw.decode()
    assert len(ready.emulator.session_calls()) == 1
    assert ready.ask({"request_id": "mine", "team_id": team}).body == first.body, "the first ask keeps its answer"
    assert ready.dead_letters() == []


def test_a_conflict_outlives_the_answer(ready):
    ready.start_worker()
    ready.ask({"request_id": "mine", "team_id": ready.team()})
    ready.query("UPDATE portal.sessions SET url = NULL, stands_until = now() - interval '1 day'")
    assert ready.ask({"request_id": "mine", "team_id": ready.team()})["error"]["code"] == "request_conflict"


@pytest.mark.refused
def test_of_two_asks_that_race_for_an_id_one_wins(ready):
    ready.emulator.data({"configurations": [{"id": "bpc_here"}]})
    ready.emulator.fault(SESSIONS, delay_ms={"uniform": [1, 30]})
    teams = {team: f"cus_{team}" for team in (ready.team(), ready.team())}
    asks = [{"request_id": f"race-{number}", "team_id": team, "fresh": True}
            for number in range(60) for team in sorted(teams, reverse=number % 2)]
    sent = pile_up(ready, asks)
    for _ in range(3):
        ready.start_worker(ready=False, PORTAL_CONCURRENCY=7)
    replies = ready.wait_replies(sent)
    for number in range(60):
        pair = list(zip(asks, replies))[2 * number:2 * number + 2]
        assert sorted(reply["outcome"] for _, reply in pair) == ["created", "failed"]
        for ask, reply in pair:
            if reply["session"]:
                assert reply["session"]["customer"] == teams[ask["team_id"]]
            else:
                assert reply["error"]["code"] == "request_conflict"
