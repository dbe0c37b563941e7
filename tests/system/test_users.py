"""Who may have a session: requests by users, by services, and in which order the rules are checked."""

import itertools

import pika.exceptions
import pytest

from bed.service import BASE_URL, EXCHANGE, ROUTING_KEY


class People:
    """Makes users and their memberships."""

    def __init__(self, service):
        self.service = service
        self.numbers = itertools.count(1)

    def user(self, *teams, deleted=False):
        """A user in these teams, joined in this order; returns the id."""
        number = next(self.numbers)
        [row] = self.service.query(
            "INSERT INTO users (email, password_hash, deleted_at) VALUES (%s, '!', %s) RETURNING id",
            [f"user-{number}@example.com", "2025-06-01" if deleted else None])
        for day, team in enumerate(teams, 1):
            self.join(row["id"], team, f"2025-01-{day:02}")
        return row["id"]

    def join(self, user, team, day):
        self.service.query("INSERT INTO team_members (user_id, team_id, role, joined_at) VALUES (%s, %s, 'member', %s)",
                           [user, team, day])


@pytest.fixture(scope="module")
def served(bed):
    """One service for the many small cases of this file."""
    bed.heal()
    corner = bed.service(tapped=True)
    corner.emulator.product()
    corner.people = People(corner)
    corner.start_worker()
    yield corner
    try:
        corner.end()
        assert corner.emulator.counters()["refused"] == 0
    finally:
        corner.close()


def redirected(reply, path, code):
    assert (reply["outcome"], reply["status"], reply["session"], reply["error"]) == ("redirect", 303, None, None)
    assert reply["redirect"] == {"path": path, "url": BASE_URL + path, "code": code}


def not_found(reply):
    assert (reply["outcome"], reply["status"]) == ("failed", 404)
    assert (reply["error"]["code"], reply["error"]["message"]) == ("team_not_found", "Team not found")


def test_a_users_team_is_found(served):
    team = served.team(customer="cus_users")
    reply = served.ask({"user_id": served.people.user(team)})
    assert (reply["outcome"], reply["session"]["customer"]) == ("created", "cus_users")
    row = served.session(reply["request_id"])
    assert row["team_id"] == team and row["user_id"] is not None


def test_of_several_teams_the_one_joined_first_counts(served):
    later, first, last = served.team(), served.team(customer="cus_first"), served.team()
    user = served.people.user()
    served.people.join(user, later, "2025-02-02")
    served.people.join(user, first, "2025-02-01")
    served.people.join(user, last, "2025-02-03")
    assert served.ask({"user_id": user})["session"]["customer"] == "cus_first"


def test_of_teams_joined_at_once_the_first_entry_counts(served):
    teams = [served.team(customer=f"cus_at_once_{number}") for number in range(3)]
    user = served.people.user()
    for team in teams:
        served.people.join(user, team, "2025-02-02")
    assert served.ask({"user_id": user})["session"]["customer"] == "cus_at_once_0"


def test_a_member_may_name_the_team(served):
    teams = [served.team(customer=f"cus_named_{number}") for number in range(3)]
    user = served.people.user(*teams)
    for number, team in enumerate(teams):
        assert served.ask({"user_id": user, "team_id": team})["session"]["customer"] == f"cus_named_{number}"


def test_a_team_that_the_user_is_not_in_is_not_found(served):
    user = served.people.user(served.team())
    not_found(served.ask({"user_id": user, "team_id": served.team()}))
    not_found(served.ask({"user_id": user, "team_id": 2_000_000_000}))
    not_found(served.ask({"user_id": user, "team_id": 2**63 - 1}))


def test_a_user_in_no_team_finds_none(served):
    not_found(served.ask({"user_id": served.people.user()}))


def test_an_unknown_user_is_sent_to_sign_in(served):
    redirected(served.ask({"user_id": 2_000_000_000}), "/sign-in", "unauthenticated")
    redirected(served.ask({"user_id": 2**63 - 1, "team_id": served.team()}), "/sign-in", "unauthenticated")


def test_a_deleted_user_is_sent_to_sign_in(served):
    team = served.team()
    user = served.people.user(team, deleted=True)
    redirected(served.ask({"user_id": user}), "/sign-in", "unauthenticated")
    redirected(served.ask({"user_id": user, "team_id": team}), "/sign-in", "unauthenticated")


@pytest.mark.parametrize("columns", [{"customer": None}, {"product": None}, {"customer": "", "product": ""}], ids=str)
def test_a_users_team_without_a_subscription_is_sent_to_the_prices(served, columns):
    team = served.team(**columns, subscription_status="canceled")
    redirected(served.ask({"user_id": served.people.user(team)}), "/pricing", "no_subscription")


@pytest.mark.parametrize("status", ["canceled", "incomplete_expired"])
def test_a_refused_status_sends_a_user_but_no_service_to_the_prices(served, status):
    team = served.team(subscription_status=status)
    redirected(served.ask({"user_id": served.people.user(team)}), "/pricing", "subscription_inactive")
    redirected(served.ask({"user_id": served.people.user(team), "team_id": team}), "/pricing", "subscription_inactive")
    assert served.ask({"team_id": team})["outcome"] == "created"


@pytest.mark.parametrize("status", [
    "active", "trialing", "past_due", "unpaid", "incomplete", "paused", "Canceled", "", None])
def test_any_other_status_lets_a_user_in(served, status):
    team = served.team(subscription_status=status)
    assert served.ask({"user_id": served.people.user(team)})["outcome"] == "created"


def test_sessions_are_not_given_from_one_user_to_another_nor_to_the_team(served):
    team = served.team()
    asks = [{"user_id": served.people.user(team)}, {"user_id": served.people.user(team)}, {"team_id": team}]
    asks.append({**asks[0], "team_id": team})
    replies = [served.ask(ask) for ask in asks]
    assert [reply["outcome"] for reply in replies] == ["created"] * 4
    assert len({reply["session"]["id"] for reply in replies}) == 4
    assert [served.ask(ask)["outcome"] for ask in asks] == ["reused"] * 4


def test_many_at_once_are_each_answered_for_themselves(served):
    cases = []
    for number in range(60):
        customer = f"cus_crowd_{number}"
        team = served.team(customer=customer)
        cases += [({"user_id": served.people.user(team)}, customer), ({"team_id": team}, customer),
                  ({"user_id": served.people.user(), "team_id": team}, "team_not_found"),
                  ({"user_id": served.people.user(team, deleted=True)}, "unauthenticated")]
    replies = served.wait_replies([served.request(body, bulk=True) for body, _ in cases])
    for (body, expected), reply in zip(cases, replies):
        told = (reply["session"] or {}).get("customer") or (reply["error"] or reply["redirect"])["code"]
        assert told == expected, body


# --- settings of their own ---

def test_the_refused_statuses_can_be_set(service):
    service.emulator.product()
    people = People(service)
    service.start_worker(PORTAL_REFUSED_STATUSES="unpaid, past_due")
    unpaid, canceled = (service.team(subscription_status=status) for status in ("unpaid", "canceled"))
    redirected(service.ask({"user_id": people.user(unpaid)}), "/pricing", "subscription_inactive")
    assert service.ask({"user_id": people.user(canceled)})["outcome"] == "created"


def test_no_status_at_all_can_be_refused(service):
    service.emulator.product()
    service.start_worker(PORTAL_REFUSED_STATUSES="none")
    team = service.team(subscription_status="canceled")
    assert service.ask({"user_id": People(service).user(team)})["outcome"] == "created"


def test_only_listed_senders_may_ask_without_a_user(service):
    service.emulator.product()
    people, team = People(service), service.team()
    service.start_worker(PORTAL_TEAM_SENDERS="portalctl,billing")
    for properties in ({"user_id": "sender"}, {}):
        reply = service.ask({"team_id": team}, **properties)
        assert (reply["outcome"], reply["status"], reply["generation"]) == ("failed", 403, None)
        assert reply["error"]["code"] == "forbidden_sender" and "PORTAL_TEAM_SENDERS" in reply["error"]["message"]
        assert service.session(reply["request_id"]) is None
    letters = service.wait_dead_letters(2)
    assert [letter.headers["x-portal-reason"] for letter in letters] == ["forbidden_sender"] * 2
    assert service.ask({"user_id": people.user(team)}, user_id="sender")["outcome"] == "created"
    assert service.ask({"user_id": people.user(team), "team_id": team})["outcome"] == "created"


def test_a_listed_sender_may_ask_without_a_user(service):
    service.emulator.product()
    team = service.team()
    service.start_worker(PORTAL_TEAM_SENDERS="portalctl,sender")
    assert service.ask({"team_id": team}, user_id="sender")["outcome"] == "created"
    reply = service.ask({"team_id": team})
    assert reply["error"]["code"] == "forbidden_sender", "the AMQP user-id has to be there: the broker checks it"


def test_nobody_can_pass_for_another_sender(service):
    service.start_worker(PORTAL_TEAM_SENDERS="portal")
    service.declare()
    channel = service.channel.connection.channel()
    channel.confirm_delivery()
    with pytest.raises(pika.exceptions.ChannelClosedByBroker):
        channel.basic_publish(EXCHANGE, ROUTING_KEY, b'{"request_id": "spoof", "team_id": 1}',
                              pika.BasicProperties(user_id="portal", reply_to=service.reply_to))


# --- the order of the rules ---

PAST = "2020-01-31T12:00:00Z"


def test_the_rules_are_checked_in_the_order_of_the_contract(service):
    """Each request breaks a rule and all that come after it; the first is told."""
    service.emulator.product()
    people = People(service)
    service.start_worker(PORTAL_TEAM_SENDERS="billing")
    broken, taken = service.team(customer=None, subscription_status="canceled"), service.team()
    member, late = people.user(broken), {"deadline": PAST}
    flow = {"type": "subscription_cancel", "subscription": "sub_somebody_elses"}
    service.ask({"request_id": "taken", "user_id": people.user(taken)})

    def code(body, **properties):
        reply = service.ask(body, **properties)
        return (reply["error"] or reply["redirect"])["code"]

    assert code({"request_id": "taken", "team_id": broken, "fresh": "x", **late}) == "invalid_request"
    assert code({"request_id": "taken", "team_id": broken, **late}) == "forbidden_sender"
    assert code({"request_id": "taken", "user_id": 2_000_000_000, **late}) == "request_conflict"
    assert code({"user_id": 2_000_000_000, **late}) == "deadline_exceeded"
    assert code({"user_id": 2_000_000_000, "team_id": 2_000_000_000}) == "unauthenticated"
    assert code({"user_id": member, "team_id": taken}) == "team_not_found"
    assert code({"user_id": member, "flow": flow}) == "no_subscription"
    service.query("UPDATE teams SET stripe_customer_id = 'cus_now' WHERE id = %s", [broken])
    assert code({"user_id": member, "flow": flow}) == "subscription_inactive"
    service.query("UPDATE teams SET subscription_status = 'active' WHERE id = %s", [broken])
    assert code({"user_id": member, "flow": flow}) == "subscription_not_found"
    assert len(service.emulator.session_calls()) == 1, "none of these was asked of Stripe"


def test_a_stored_answer_comes_before_the_deadline(service):
    service.emulator.product()
    service.start_worker()
    body = {"request_id": "stored", "team_id": service.team()}
    first = service.ask(body)
    assert service.ask({**body, "deadline": PAST}).body == first.body
