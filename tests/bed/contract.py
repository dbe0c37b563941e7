"""include/contract/, the description that senders code against, as a judge of every message that a test sends or gets.

Schemas are read more strictly than a receiver may: a reply or dead letter of this version has no field that they do not
describe.
"""

import copy
import datetime
import functools
import json
import re

import jsonschema
import yaml

from bed.process import ROOT

DIRECTORY = ROOT / "include/contract"
REQUEST_BYTES = 16 * 1024  # of the body, and of the properties
PROPERTIES = ("content_type", "content_encoding", "delivery_mode", "priority", "correlation_id", "reply_to",
              "expiration", "message_id", "timestamp", "type", "user_id", "app_id", "cluster_id")


class Breach(AssertionError):
    """A message is not what the contract says."""


# --- reading schemas ---

def _pattern(_validator, pattern, instance, _schema):
    """As in ECMA 262, which JSON Schema means: in Python `$` would also match before a line feed at the end."""
    if isinstance(instance, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), instance):
        yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")


def _is_integer(_checker, instance):
    """1.0 is an integer to JSON Schema, but not to the worker."""
    return isinstance(instance, int) and not isinstance(instance, bool)


Validator = jsonschema.validators.extend(
    jsonschema.Draft7Validator, {"pattern": _pattern},
    type_checker=jsonschema.Draft7Validator.TYPE_CHECKER.redefine("integer", _is_integer))
FORMATS = jsonschema.FormatChecker(formats=())


@FORMATS.checks("date-time", raises=ValueError)
def _is_date_time(instance):
    if not isinstance(instance, str):
        return True
    found = re.fullmatch(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d):(\d\d)(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)",
                         instance)
    if not found or int(found[3]) > 60:
        return False
    return datetime.datetime.fromisoformat(f"{found[1]}T{found[2]}").year >= 1970


def _closed(part):
    """A schema with every object in it closed."""
    if isinstance(part, list):
        return [_closed(one) for one in part]
    if not isinstance(part, dict):
        return part
    closed = {name: _closed(one) for name, one in part.items()}
    if part.get("type") == "object" and "properties" in part:
        closed["additionalProperties"] = False
    return closed


@functools.cache
def document():
    """The AsyncAPI document, with references to files left as they are."""
    return yaml.safe_load((DIRECTORY / "asyncapi.yaml").read_text())


def schema(name):
    """A file, or one of the document's own schemas."""
    if name.endswith(".json"):
        return json.loads((DIRECTORY / name).read_text())
    return document()["components"]["schemas"][name]


@functools.cache
def _validator(name):
    whole = schema(name) if name.startswith("request") else _closed(schema(name))
    Validator.check_schema(whole)
    return Validator(whole, format_checker=FORMATS)


def problems(name, instance):
    """What is wrong with it, in words."""
    return [_words(error) for error in _validator(name).iter_errors(instance)]


def _words(error):
    """One error, and where it was a choice, why nothing fitted."""
    where = ".".join(map(str, error.absolute_path)) or "as a whole"
    if not error.context:
        return f"{where}: {error.message}"
    return f"{where}: none of {error.validator} fits: {[_words(one) for one in error.context]}"


def _hold(what, name, instance):
    found = problems(name, instance)
    if found:
        raise Breach(f"{what} is not as {name} says: {found}\n{json.dumps(instance, default=str)[:2000]}")


# --- messages ---

def plain(value):
    """A field of an AMQP table as JSON would have it."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, datetime.datetime):
        return int(value.replace(tzinfo=datetime.timezone.utc).timestamp())
    return value


def properties(message):
    """AMQP properties that are there, but for the headers."""
    return {name: plain(getattr(message, name)) for name in PROPERTIES if getattr(message, name) is not None}


def request_body(raw):
    """A request's body as the worker reads it, or None where it is not JSON, or such JSON as the contract rules out."""
    def once(pairs):
        if len({name for name, _ in pairs}) < len(pairs):
            raise ValueError("a field twice")
        return dict(pairs)

    def never(constant):
        raise ValueError(constant)

    try:
        body = json.loads(raw.decode(), object_pairs_hook=once, parse_constant=never)
    except (ValueError, RecursionError):
        return None
    return None if "\\u0000" in json.dumps(body).replace("\\\\", "") else body


def request_problems(raw):
    body = request_body(raw)
    return ["not a JSON object"] if not isinstance(body, dict) else problems("request.schema.json", body)


def check_answered(request, reply):
    """What the worker serves is what the contract allows, and what it finds invalid is what the contract does not."""
    code = (reply["error"] or {}).get("code")
    if code == "poisonous":
        return
    wrong = _wrong_with(request)
    if wrong and code != "invalid_request":
        raise Breach(f"the worker serves what the contract does not allow: {wrong}\n{request.raw[:2000]}")
    if not wrong and code == "invalid_request":
        raise Breach(f"the worker refuses what the contract allows: {reply['error']}\n{request.raw[:2000]}")


def _wrong_with(request):
    """All that the contract finds wrong with a request."""
    if max(len(request.raw), sum(map(len, request.properties.encode()))) > REQUEST_BYTES:
        return ["too large"]
    body = request_body(request.raw)
    if not isinstance(body, dict):
        return ["not a JSON object"]
    if body.get("request_id") is None:
        if request.properties.message_id is None:
            return ["neither request_id nor message_id"]
        body["request_id"] = request.properties.message_id  # which serves as one
    return (problems("request.schema.json", body) + problems("requestHeaders", plain(request.headers)) +
            problems("requestProperties", properties(request.properties)))


def check_reply(reply):
    _check_reply(reply.raw, json.dumps([plain(reply.headers), properties(reply.properties)]))


@functools.lru_cache(maxsize=20_000)
def _check_reply(raw, envelope):
    """Each only once: whoever gets it judges it, and so does the tap."""
    body = json.loads(raw)
    headers, own = json.loads(envelope)
    _hold("a reply", "reply.schema.json", body)
    _hold("a reply's headers", "replyHeaders", headers)
    _hold("a reply's properties", "replyProperties", own)
    if ("expiration" in own) != (body["session"] is not None):
        raise Breach("exactly the replies with a URL expire")


def check_dead_letter(letter):
    headers = plain(letter.headers)
    if "x-portal-reason" in headers:
        _hold("a dead letter's properties", "deadLetterProperties", properties(letter.properties))
    else:  # what the broker itself put aside has the request's headers too
        headers = {name: value for name, value in headers.items() if name.startswith(("x-death", "x-first-death"))}
    _hold("a dead letter's headers", "dead-letter.schema.json", headers)


def check_taken(message):
    """A message out of one of the worker's queues."""
    if message.queue == "portal.dead":
        check_dead_letter(message)
    elif message.queue == "portal.replies":
        check_reply(message)


def examples(message):
    """The examples of a message in the document, by name."""
    return {one["name"]: copy.deepcopy(one) for one in document()["components"]["messages"][message]["examples"]}
