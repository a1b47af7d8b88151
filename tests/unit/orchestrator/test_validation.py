"""Broken definitions: every fault at once, with its place and mend, the same from a folder and from the bus."""

import json
import shutil
from pathlib import Path

import pytest

from contracts.codec import decode, encode
from contracts.v1.definition import Definition
from contracts.v1.device import DeviceInfo
from contracts.v1.plugin import PluginInfo
from services.cli.check import check, folder_catalogue
from services.cli.site import TREE
from services.orchestrator.definition.catalogue import Catalogue
from services.orchestrator.definition.definition_file import read_definition
from services.orchestrator.definition.validation import MOST_NODES, check_text

TESTCASES = sorted((Path(__file__).parent / "testcases").iterdir())
PLANT = TREE / "examples/plant"


PLC = """\
device: filler-plc
driver: modbus
connection: {host: 127.0.0.1, unit_id: 1}
groups:
  fast:
    interval: 100ms
    tags:
      tank-level: {address: "holding:10", type: float32, unit: "%"}
"""


def site_of(testcase: Path, folder: Path) -> Path:
    (folder / "devices").mkdir(parents=True)
    (folder / "devices/filler-plc.yaml").write_text(PLC)
    shutil.copy(PLANT / "devices/servo.yaml", folder / "devices")
    shutil.copytree(testcase / "pipelines", folder / "pipelines")
    return folder


def from_folder(testcase: Path, folder: Path) -> list[tuple[str, str, int, str, str]]:
    faults = check(site_of(testcase, folder)).faults
    return [
        (Path(one.source).name, one.field, one.line, one.message.replace(f"{folder}/pipelines/", ""), one.mend)
        for one in faults
    ]


def told(faults) -> str:
    return "".join(f"{file}:{line}: {field}: {message}\n" for file, field, line, message, _ in faults)


@pytest.mark.parametrize("testcase", TESTCASES, ids=lambda path: path.name)
def test_every_fault_of_a_broken_definition_is_told_at_once_with_its_place_and_a_mend(testcase, tmp_path):
    faults = from_folder(testcase, tmp_path)

    assert told(faults) == (testcase / "expected.txt").read_text()
    assert all(mend for *_, mend in faults)


def retained(folder: Path) -> Catalogue:
    """The catalogue as a subscriber has it: everything went over the wire as JSON."""
    known = folder_catalogue(folder / "devices")
    devices = [decode(DeviceInfo, encode(info, topic="t"), topic="t") for info in known.devices.values()]
    plugin = PluginInfo(
        id="all",
        kind="function",
        version="1.0.0",
        title="",
        instance="compute",
        since=0,
        functions=dict(known.functions),
    )
    plugins = [decode(PluginInfo, encode(plugin, topic="t"), topic="t")]
    return Catalogue.of(devices, plugins, definitions(folder))


def definitions(folder: Path) -> list[Definition]:
    found = [
        read_definition(path.read_text(), source=path.name).definition
        for path in sorted((folder / "pipelines").iterdir())
    ]
    return [Definition.model_validate_json(one.model_dump_json()) for one in found if one]


@pytest.mark.parametrize(
    "testcase", [path for path in TESTCASES if path.name not in {"taken-name", "not-yaml"}], ids=lambda path: path.name
)
def test_the_answer_to_the_command_is_that_of_the_check_of_a_folder(testcase, tmp_path):
    expected = from_folder(testcase, tmp_path)
    catalogue = retained(tmp_path)

    answers = []
    for path in sorted((tmp_path / "pipelines").iterdir()):
        answer = check_text(path.read_text(), source=path.name, catalogue=catalogue).validation
        assert not answer.ok
        answers += [(path.name, one.path, one.line, one.message, one.mend) for one in answer.faults]

    assert answers == sorted(expected, key=lambda fault: (fault[0], fault[2], fault[1], fault[3]))


GOOD = """\
pipeline: tank
inputs:
  speed: {type: number, unit: mm/s, range: [0, 10], default: 1.0}
  batch: {type: array, optional: true}
triggers:
  - every: 1s
  - {cron: "*/5 * * * *", zone: Europe/Berlin, missed: once}
  - {frame: filler-plc/fast, deliver: every}
  - {tag: filler-plc/tank-level, deadband: 0.5, debounce: 200ms}
  - event: {aggregate: device, id: servo, type: online}
nodes:
  level: {type: read, tag: filler-plc/tank-level}
  scaled: {type: expression, expression: "clamp(x * k, 0, 500)", inputs: {x: level.value, k: inputs.speed}}
  high: {type: condition, when: "x > 80", inputs: {x: level.value}}
  up: {type: write, tag: servo/target, inputs: {value: scaled.value}, after: [high.then], expect: {moving: false}}
  down: {type: write, tag: servo/target, constants: {value: 0}, after: [high.else]}
  home: {type: call, device: servo, function: home, after: [up, down], join: any}
  fill: {type: derive, tag: line/fill, inputs: {value: scaled.value, q: level.q}}
  again: {type: read, tag: line/fill, after: [fill]}
  hot: {type: alarm, alarm: tank-high, when: "x > 80", clear: "x < 75", inputs: {x: level.value}, text: Too full}
  until:
    type: while
    when: "n < 3"
    state: {n: 0}
    inputs: {k: level.value}
    nodes:
      next: {type: expression, expression: "n + 1", inputs: {n: state.n, k: outer.k, i: inputs.speed}}
      back: {type: write, tag: servo/target, inputs: {value: next.value}}
    next: {n: next.value}
    after: [home]
  each:
    type: for_each
    items: inputs.batch
    nodes:
      one: {type: expression, expression: "x", inputs: {x: item.value}}
    output: one.value
    on_error: default
    default: {values: []}
outputs: {level: scaled.value, rounds: until.rounds}
"""


@pytest.fixture(scope="module")
def plant() -> Catalogue:
    return folder_catalogue(PLANT)


def test_a_right_definition_has_no_fault(plant):
    text = GOOD.replace("items: trigger.values", "items: inputs.batch").replace(
        "inputs: {speed", "inputs: {batch: {type: array, optional: true}, speed"
    )
    checked = check_text(text, source="tank.yaml", catalogue=plant)

    assert checked.faults == ()
    assert checked.definition is not None


def test_the_same_pipeline_in_json_is_the_same_pipeline(plant):
    yaml = check_text(
        GOOD.replace("items: trigger.values", "items: inputs.batch").replace(
            "inputs: {speed", "inputs: {batch: {type: array, optional: true}, speed"
        ),
        source="t",
        catalogue=plant,
    ).definition
    text = json.dumps(json.loads(yaml.model_dump_json()), indent="\t")

    assert check_text(text, source="t", catalogue=plant).definition == yaml


def test_a_number_with_an_exponent_is_a_number_in_json(plant):
    text = '{"pipeline": "t", "nodes": {"y": {"type": "expression", "expression": "k * 2", "constants": {"k": 1e-7}}}}'

    assert check_text(text, source="t", catalogue=plant).definition.nodes["y"].constants == {"k": 1e-7}


def test_a_pipeline_that_is_saved_again_does_not_stand_in_its_own_way(plant):
    text = "pipeline: t\nnodes:\n  up: {type: write, tag: servo/target, constants: {value: 1}}\n"
    first = check_text(text, source="t", catalogue=plant).definition

    again = check_text(text, source="t", catalogue=Catalogue.of(plant.devices.values(), [], [first]))

    assert again.faults == ()


def test_a_device_whose_file_is_broken_brings_no_faults_to_pipelines(tmp_path):
    site = site_of(Path(__file__).parent / "testcases/unknown-tag", tmp_path)
    servo = site / "devices/servo.yaml"
    servo.write_text(servo.read_text().replace("interval: 1s", "interval: 1"))

    assert "servo/taget" not in " ".join(fault.message for fault in check(site).faults)


def test_more_nodes_than_the_bound_are_told(plant):
    nodes = "".join(f"  n{at}: {{type: delay, duration: 1ms}}\n" for at in range(MOST_NODES + 1))

    (fault,) = check_text(f"pipeline: t\nnodes:\n{nodes}", source="t", catalogue=plant).faults

    assert "501 nodes are more than 500" in fault.message


def test_loops_inside_one_another_have_a_bound(plant):
    node = {"type": "delay", "duration": "1ms"}
    for _ in range(7):
        node = {"type": "for_each", "items": "trigger.values", "nodes": {"inner": node}}

    faults = check_text(json.dumps({"pipeline": "t", "nodes": {"a": node}}), source="t", catalogue=plant).faults

    assert "more than 5 loops" in faults[0].message


@pytest.mark.parametrize(
    "text", ["", "3", "[]", "{", "a: [", "\x00", "pipeline: t", "pipeline: t\nnodes: 3", "a: &a [*a]"]
)
def test_what_is_no_pipeline_is_told_and_no_crash(text, plant):
    assert check_text(text, source="t", catalogue=plant).faults
