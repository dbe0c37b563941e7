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


def _closed(schema):
    """The schema with every object in it closed."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(one) for name, one in schema.items()}
    if schema.get("type") == "object" and "properties" in schema:
        closed["additionalProperties"] = False
    return closed


def _file(name):
    return json.loads((DIRECTORY / name).read_text())


@functools.cache
def document():
    """The AsyncAPI document, with references to files left as they are."""
    return yaml.safe_load((DIRECTORY / "asyncapi.yaml").read_text())


@functools.cache
def _validator(name):
    """Of a file, or of one of the document's own schemas."""
    schema = _file(name) if name.endswith(".json") else document()["components"]["schemas"][name]
    if not name.startswith("request"):
        schema = _closed(schema)
    Validator.check_schema(schema)
    return Validator(schema, format_checker=FORMATS)


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
    """A request's body as the worker reads it, or None where it is not JSON."""
    def once(pairs):
        if len({name for name, _ in pairs}) < len(pairs):
            raise ValueError("a field twice")
        return dict(pairs)

    try:
        return json.loads(raw.decode(), object_pairs_hook=once)
    except (ValueError, RecursionError):
        return None


def request_problems(raw):
    body = request_body(raw)
    return ["not a JSON object"] if not isinstance(body, dict) else problems("request.schema.json", body)


def check_requests(requests, reply):
    """What was sent under the correlation id of this reply, each as body and properties: where the worker finds nothing
    wrong with it, neither may the contract."""
    error = reply["error"] or {}
    if len(requests) != 1 or error.get("code") in ("invalid_request", "poisonous"):
        return
    raw, message = requests[0]
    if request_problems(raw):
        raise Breach(f"the worker serves what the contract does not allow: {request_problems(raw)}\n{raw[:2000]}")
    if request_body(raw).get("request_id") is None and message.message_id is None:
        raise Breach("the worker serves a request without an id")


def check_reply(reply):
    _hold("a reply", "reply.schema.json", reply.body)
    _hold("a reply's headers", "replyHeaders", plain(reply.headers))
    _hold("a reply's properties", "replyProperties", properties(reply.properties))
    if ("expiration" in properties(reply.properties)) != (reply["session"] is not None):
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
