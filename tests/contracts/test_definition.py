"""A pipeline's definition: what its file may hold, and the revision of its content."""

import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts.duration import duration_text, parse_duration
from contracts.v1.definition import Definition, canonical, revision
from contracts.v1.node import ComputeNode, DelayNode, ForEachNode, WriteNode
from plugins.api.document import Document

LEVEL = {"type": "read", "tag": "plc/level"}
TREE = Path(__file__).parents[2]
SCHEMA = json.loads((TREE / "contracts/schema/v1/Definition.json").read_text())
EXAMPLES = sorted((TREE / "examples/plant/pipelines").glob("*.yaml"))


def content(text: str):
    return Document.parse(text, source="text").data


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_published_schema_takes_every_example(path):
    jsonschema.validate(content(path.read_text()), SCHEMA)


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("timeout: 10m", "timeout: soon"),
        ("timeout: 10m", "time_out: 10m"),
        ("type: while", "type: until"),
        ("pipeline: cap-batch", "pipeline: Cap Batch"),
        ("nodes:", "steps:"),
    ],
)
def test_the_published_schema_refuses_what_an_editor_can_see_is_wrong(good, bad):
    text = (TREE / "examples/plant/pipelines/cap-batch.yaml").read_text()
    assert good in text

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content(text.replace(good, bad)), SCHEMA)


def definition(**fields) -> Definition:
    return Definition.model_validate_json(json.dumps({"pipeline": "tank", "nodes": {"level": LEVEL}} | fields))


def node(**fields):
    return definition(nodes={"one": fields}).nodes["one"]


def test_what_is_left_out_and_the_form_of_a_duration_do_not_change_the_revision():
    short = definition(triggers=[{"every": "1s"}])
    long = definition(title="", enabled=True, triggers=[{"every": "1000ms", "inputs": {}}], limits={"timeout": "1m"})

    assert revision(short) == revision(long)
    assert revision(short) != revision(definition(triggers=[{"every": "2s"}]))


def test_a_number_and_a_whole_number_are_different_contents():
    def one(value):
        return definition(nodes={"y": {"type": "expression", "expression": "k", "constants": {"k": value}}})

    assert revision(one(3)) != revision(one(3.0))


def test_a_definition_that_was_sent_is_the_one_that_was_read():
    first = definition(
        triggers=[{"every": "250ms"}, {"tag": "plc/level", "debounce": "1.5s"}],
        nodes={
            "each": {
                "type": "for_each",
                "items": "inputs.batch",
                "nodes": {"wait": {"type": "delay", "duration": "1ms"}},
            }
        },
    )

    again = Definition.model_validate_json(first.model_dump_json())

    assert again == first
    assert Definition.model_validate_json(canonical(first)) == first


@given(st.floats(0, 1e6))
def test_a_duration_keeps_its_nanoseconds_when_it_is_written(seconds):
    assert parse_duration(duration_text(seconds)) == pytest.approx(seconds, abs=1e-6 if seconds >= 1 else 1e-9)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.25, "250ms"), (1.0, "1s"), (60.0, "60s"), (1.5, "1.5s"), (0.0, "0ms")]
)
def test_a_duration_is_written_shortly(seconds, text):
    assert duration_text(seconds) == text


def test_reads_and_functions_are_tried_again_and_writes_never_unless_it_is_said():
    assert node(type="compute", function="fft").retries.tries == 3
    assert node(**LEVEL).retries.tries == 3
    assert node(type="write", tag="plc/level").retries.tries == 1
    assert node(type="call", device="servo", function="home").retries.tries == 1
    assert node(type="write", tag="plc/level", retry={"tries": 2}).retries.tries == 2


def test_a_loop_and_a_delay_may_take_as_long_as_the_run():
    assert node(type="delay", duration="2h").timeout_s is None
    assert node(type="for_each", items="inputs.batch", nodes={"level": LEVEL}).timeout_s is None
    assert node(**LEVEL).timeout_s == 30
    assert node(**LEVEL, timeout="200ms").timeout_s == 0.2


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"type": "compute", "function": "fft"}, ComputeNode),
        ({"type": "write", "tag": "servo/target", "constants": {"value": 1.5}}, WriteNode),
        ({"type": "delay", "duration": "50ms"}, DelayNode),
        ({"type": "for_each", "items": "inputs.batch", "nodes": {"level": LEVEL}}, ForEachNode),
    ],
)
def test_the_type_of_a_node_says_what_it_is(fields, kind):
    assert isinstance(node(**fields), kind)


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "read", "tag": "level"},
        {"type": "read", "tag": "plc/level", "tagg": "x"},
        {"type": "rea", "tag": "plc/level"},
        {"type": "delay", "duration": 5},
        {"type": "delay", "duration": "0s"},
        {"type": "alarm", "alarm": "hot", "when": "x > 1", "text": "hot", "priority": 5},
        {"type": "expression", "expression": ""},
        {"type": "for_each", "items": "a.b.c", "nodes": {"level": LEVEL}},
        {"type": "while", "when": "true", "nodes": {}},
    ],
)
def test_a_node_outside_the_contract_is_refused(fields):
    with pytest.raises(ValidationError):
        node(**fields)


@pytest.mark.parametrize("trigger", [{}, {"evry": "1s"}, {"every": "1s", "cron": "* * * * *"}, {"frame": "pump"}])
def test_a_trigger_is_of_one_kind(trigger):
    with pytest.raises(ValidationError):
        definition(triggers=[trigger])
