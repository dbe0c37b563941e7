"""Every field of a request, wrong in type, range and value, and hostile: the answer names the field, nothing reaches
Stripe, and the contract's schema refuses the same."""

import decimal
import json

import pytest

from bed import contract

# Ways to lead a customer who leaves the portal to somebody else's site, or to smuggle something into a header.
OTHER_ORIGINS = [
    "//evil.example", "///evil.example", "//evil.example/dashboard", "/\\evil.example", "\\\\evil.example",
    "\\/evil.example", "https://evil.example/", "https:evil.example", "javascript:alert(1)", "data:text/html,x",
    "/\t/evil.example", "/\n/evil.example", "/\r\nSet-Cookie: a=b", " //evil.example", "/ /evil.example", "/\x7f",
    "@evil.example", ".evil.example", ":8443/", "?next=//evil.example", "#", "evil.example", "/\u2028", "/\u3002evil",
    "/\u202egpj.exe", "/dashboard\\..\\..\\evil.example", "/ü",
]
TYPES = [True, 1.5, [], {}, [1], {"a": 1}]
LONG = "x" * 300


def cancel(**more):
    return {"type": "subscription_cancel", "subscription": "sub_1", **more}


def confirm(items=({"id": "si_1"},), **more):
    return {"type": "subscription_update_confirm", "subscription": "sub_1", "items": list(items), **more}


def card(**after):
    return {"type": "payment_method_update", "after_completion": after}


# By the name that the answer has to give: bodies, but for request_id and team_id, of which each is wrong there.
WRONG = {
    "request_id": [{"request_id": value} for value in (
        7, *TYPES, "", "x" * 129, "a b", "ü", "a/b", "a\n", "'; DROP TABLE teams; --", "../../etc/passwd",
        "%s%n", "a:1:0\r\n", "a\u202e")],
    "team_id": [{"team_id": value} for value in (
        "1", *TYPES, "", 0, -1, 2**63, 10**30, -10**30, "1 OR 1=1", "١")],
    "user_id": [{"user_id": value} for value in (
        "1", *TYPES, "", 0, -1, 2**63, 10**30, -10**30, "1; SELECT 1")],
    "team_id or user_id": [{"team_id": None}, {"team_id": None, "user_id": None}],
    "return_path": [{"return_path": value} for value in (
        7, *TYPES, "", "dashboard", "/" + "a" * 2000, *OTHER_ORIGINS)],
    "locale": [{"locale": value} for value in (
        7, *TYPES, "", "xx", "de-XX", "EN", "en_US", "en\r\n", "../en", "auto&customer=cus_2", LONG)],
    "configuration": [{"configuration": value} for value in (
        7, *TYPES, "", "bpc_", "cus_1", "BPC_1", "bpc_1 ", "bpc_" + LONG, "bpc_1/../../products",
        "bpc_1&customer=cus_2", "bpc_1\r\nX: y")],
    "fresh": [{"fresh": value} for value in (1, 0, "true", "", [], {}, [True])],
    "deadline": [{"deadline": value} for value in (
        1_700_000_000, *TYPES, "", "tomorrow", "2036-01-01", "12:00:00Z", "2036-01-01T12:00:00", "2036-02-30T12:00:00Z",
        "2036-13-01T12:00:00Z", "2036-01-01T24:00:00Z", "2036-01-01T12:60:00Z", "2036-01-01T12:00:00+24:00",
        "1969-12-31T23:59:59Z", "2036-01-01T12:00:00Z\n", "2036-01-01T12:00:00ZZ", "+002036-01-01T12:00:00Z",
        "infinity")],
    "flow": [{"flow": value} for value in (7, True, 1.5, [], ["x"], "subscription_cancel", "")],
    "flow.type": [{"flow": value} for value in (
        {}, {"type": None}, {"type": 7}, {"type": []}, {"type": ""}, {"type": "subscription_pause"},
        {"type": "Subscription_cancel"}, {"type": "subscription_cancel][subscription"},
        {"type": "subscription_cancel\n"})],
    "flow.subscription": [{"flow": value} for value in (
        {"type": "subscription_cancel"}, {"type": "subscription_update"}, {"type": "subscription_update_confirm"},
        *(cancel(subscription=value) for value in (
            None, 7, *TYPES, "", "sub_", "si_1", "sub_1 2", "sub_" + LONG, "sub_1&customer=cus_2", "sub_1][x", "sub_ü",
            "sub_1\n")),
        {"type": "payment_method_update", "subscription": "sub_1"})],
    "flow.retention": [{"flow": value} for value in (
        cancel(retention=7), cancel(retention=[]), cancel(retention="STAY"),
        {"type": "subscription_update", "subscription": "sub_1", "retention": {"type": "coupon_offer", "coupon": "S"}},
        {"type": "payment_method_update", "retention": {"type": "coupon_offer", "coupon": "S"}})],
    "flow.retention.type": [{"flow": cancel(retention=value)} for value in (
        {}, {"type": "gift", "coupon": "S"}, {"type": 7, "coupon": "S"})],
    "flow.retention.coupon": [{"flow": cancel(retention={"type": "coupon_offer", **value})} for value in (
        {}, {"coupon": 7}, {"coupon": ""}, {"coupon": "A B"}, {"coupon": LONG}, {"coupon": "S&customer=cus_2"})],
    "flow.items": [{"flow": value} for value in (
        {"type": "subscription_update_confirm", "subscription": "sub_1"},
        {**confirm(), "items": 7}, {**confirm(), "items": {"id": "si_1"}}, confirm(items=[]), confirm(items=["si_1"]),
        confirm(items=[{"id": "si_1"}, {"id": "si_2"}]), cancel(items=[{"id": "si_1"}]))],
    "flow.items[0].id": [{"flow": confirm(items=[value])} for value in (
        {}, {"id": 7}, {"id": ""}, {"id": "sub_1"}, {"id": "si_1]["})],
    "flow.items[0].price": [{"flow": confirm(items=[{"id": "si_1", "price": value}])} for value in (
        7, "", "price 1", LONG, "price_1&quantity=0")],
    "flow.items[0].quantity": [{"flow": confirm(items=[{"id": "si_1", "quantity": value}])} for value in (
        -1, 1.5, 2.0, "2", True, 2**31, 10**30, [])],
    "flow.discounts": [{"flow": value} for value in (
        confirm(discounts=7), confirm(discounts=[]), confirm(discounts=["S"]),
        confirm(discounts=[{"coupon": "A"}, {"coupon": "B"}]), cancel(discounts=[{"coupon": "A"}]))],
    "flow.discounts[0]": [{"flow": confirm(discounts=[value])} for value in (
        {}, {"coupon": None}, {"coupon": "A", "promotion_code": "promo_1"})],
    "flow.discounts[0].coupon": [{"flow": confirm(discounts=[{"coupon": value}])} for value in (7, "", "A B", LONG)],
    "flow.discounts[0].promotion_code": [{"flow": confirm(discounts=[{"promotion_code": value}])} for value in (
        7, "", "promo_", "WINTER", "promo_1 ")],
    "flow.after_completion": [{"flow": {"type": "payment_method_update", "after_completion": value}} for value in (
        7, True, [], "redirect")],
    "flow.after_completion.type": [{"flow": card(**value)} for value in (
        {}, {"type": 7}, {"type": ""}, {"type": "portal"}, {"type": "redirect\n", "return_path": "/"})],
    "flow.after_completion.custom_message": [{"flow": card(**value)} for value in (
        *({"type": "hosted_confirmation", "custom_message": value} for value in (7, *TYPES, "", "ä" * 501)),
        {"type": "portal_homepage", "custom_message": "Thanks"},
        {"type": "redirect", "return_path": "/", "custom_message": "Thanks"})],
    "flow.after_completion.return_path": [{"flow": card(**value)} for value in (
        {"type": "redirect"},
        *({"type": "redirect", "return_path": value} for value in (7, *TYPES, "", "/" + "a" * 2000, *OTHER_ORIGINS)),
        {"type": "hosted_confirmation", "return_path": "/"}, {"type": "portal_homepage", "return_path": "/"})],
}

# The same of properties and headers, about which a schema of the body says nothing.
WRONG_PROPERTIES = {
    "message_id": [{"message_id": value} for value in ("", "a b", "x" * 129, "ü", "a\n", "'; DROP TABLE teams; --")],
    "x-portal-generation": [{"headers": {"x-portal-generation": value}} for value in (
        0, -1, 10**9 + 1, 2**62, "1", "", True, decimal.Decimal("1.5"), None, [1],
        {"a": 1})],
    "x-portal-deadline": [{"headers": {"x-portal-deadline": value}} for value in (
        "never", "", "None", "2036-01-01", "2036-01-01T12:00:00Z\n", 1, True, None, ["none"])],
}


@pytest.fixture(scope="module")
def served(bed):
    bed.heal()
    corner = bed.service(tapped=True)
    corner.start_worker()
    yield corner
    try:
        assert corner.emulator.calls() == [], "nothing of all this reaches Stripe"
        corner.end()
    finally:
        corner.close()


def check_refused(served, sent, name):
    replies = served.wait_replies(sent)
    for request, reply in zip(sent, replies):
        what = f"{request.body} was answered with {reply.raw}"
        assert (reply["outcome"], reply["status"]) == ("failed", 400), what
        assert reply["error"]["code"] == "invalid_request", what
        words = reply["error"]["message"].removeprefix("header ").split()
        assert words[0].rstrip(",") == name.split()[0], what
    return replies


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_field_is_named(served, name):
    sent = []
    for number, fields in enumerate(WRONG[name]):
        raw = json.dumps({"request_id": f"bad-{number}", "team_id": 1, **fields}).encode()
        assert contract.request_problems(raw), f"the schema allows {raw}"
        sent.append(served.request(raw=raw))
    check_refused(served, sent, name)


@pytest.mark.parametrize("name", WRONG_PROPERTIES)
def test_a_wrong_property_is_named(served, name):
    sent = [served.request({"team_id": 1, **({"request_id": None} if name == "message_id" else {})}, **properties)
            for properties in WRONG_PROPERTIES[name]]
    check_refused(served, sent, name)


@pytest.mark.parametrize("body", [b'{"request_id": "r", "team_id": 1}', b"?"], ids=["well-formed", "malformed"])
@pytest.mark.parametrize("reply_to", [
    "portal.dead", "portal.requests", "", "teams", "amq.gen", "portal.replies\n", "portal.replies\0"])
def test_a_reply_to_that_is_not_allowed_gets_nothing(served, reply_to, body):
    sent = served.request(raw=body, reply_to=reply_to)
    served.wait_empty()
    [letter] = [one for one in served.dead_letters() if one.properties.correlation_id == sent.correlation_id]
    assert letter.headers["x-portal-reason"] == "reply_refused"
    assert served.replies_to(sent) == []


def test_a_header_makes_no_wrong_field_right(served):
    reply = served.ask({"team_id": 1, "deadline": "soon"}, headers={"x-portal-deadline": "none"})
    assert reply["error"]["message"].startswith("deadline ")


def test_the_first_wrong_thing_is_told_in_the_order_of_the_contract(served):
    body = {"team_id": "x", "return_path": "//evil.example", "fresh": "x"}
    assert served.ask(body)["error"]["message"].startswith("team_id ")
    assert served.ask({**body, "team_id": 1})["error"]["message"].startswith("return_path ")
    assert served.ask({**body, "team_id": 1, "return_path": "/"})["error"]["message"].startswith("fresh ")
