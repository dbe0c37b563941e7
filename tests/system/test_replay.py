"""tests/replay/ holds every row of the contract; all of it goes through the real queue and comes out as expected."""

import json
import re

import pytest

from bed import contract, replay
from bed.process import ROOT

DIRECTORY = ROOT / "tests/replay"
FILES = sorted(DIRECTORY.glob("*.jsonl"))


def run(runner, path):
    """Runs a file and prints a line for each of its lines; returns those that went wrong."""
    wrong, names = {}, []
    for line in replay.read(path):
        names.append(line["name"])
        try:
            runner.run(line)
        except replay.Unexpected as error:
            wrong[line["name"]] = str(error)
    wrong = {**runner.finish(), **wrong}
    for name in names:
        print(f"{'FAIL' if name in wrong else 'ok  '}  {name}")
    return wrong


@pytest.mark.refused
@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_every_line_comes_out_as_expected_twice_on_the_same_database(service, path):
    """Once sent by another service, once by portalctl."""
    for runner in (replay.Replay, replay.PortalctlReplay):
        print(f"--- {path.name}, by {runner.__name__}")
        wrong = run(runner(service), path)
        assert not wrong, "\n".join(wrong.values())


def expected_codes():
    """Outcomes and codes that lines expect, in replies and dead letters."""
    found = set()
    for path in FILES:
        for line in replay.read(path):
            reply = line["expect"]["reply"] or {}
            for part in ("error", "redirect"):
                found.add((reply.get(part) or {}).get("code"))
            found |= {reply.get("outcome"), line["expect"].get("dead_letter")}
    return found


def test_the_files_hold_every_outcome_and_code_of_the_contract():
    schema = contract.schema("reply.schema.json")
    letter = contract.schema("dead-letter.schema.json")
    wanted = {*schema["properties"]["outcome"]["enum"], *letter["properties"]["x-portal-reason"]["enum"]}
    for part in ("redirect", "error"):
        wanted |= set(schema["definitions"][part]["properties"]["code"]["enum"])
    assert wanted <= expected_codes()


@pytest.mark.parametrize("text, words", [
    ('{"request": {}, "expected": {}}', "unknown in line: expected"),
    ('{"request": {}, "properties": {"replyTo": "x"}}', "unknown in properties: replyTo"),
    ('{"request": {}, "expect": {"calls": [{"url": "/"}]}}', "unknown in call: url"),
    ('{"name": "nothing to send"}', "exactly one of"),
    ('{"request": {}, "body": "x"}', "exactly one of"),
    ('{"request": {}', "Expecting"),
])
def test_a_line_of_another_form_is_an_error_with_its_number(tmp_path, text, words):
    path = tmp_path / "bad.jsonl"
    path.write_text(f'{{"request": {{}}, "x-remark": "fine"}}\n# remark\n\n{text}\n')
    lines = replay.read(path)
    next(lines)
    with pytest.raises(replay.BadLine, match=rf"^bad.jsonl:4: .*{re.escape(words)}"):
        next(lines)


@pytest.mark.parametrize("expected, actual, count", [
    ({"a": 1}, {"a": 1, "b": 2}, 0), ({"a": 1}, {"b": 2}, 1), ({"a": None}, {"a": None}, 0), ({"a": None}, {}, 1),
    ({"a": "~x+"}, {"a": "xx"}, 0), ({"a": "~x+"}, {"a": "xxy"}, 1), ({"a": True}, {"a": 1}, 1),
    ({"a": {"b": 1}}, {"a": None}, 1), ([1], [1, 2], 1),
])
def test_differences_are_found(expected, actual, count):
    assert len(replay.differences(expected, actual, "it")) == count
