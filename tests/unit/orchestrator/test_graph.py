"""Which nodes wait for which: cycles, order, branches, writers; and that no definition makes the checks fall."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.v1.definition import Definition
from services.orchestrator.definition.catalogue import Catalogue
from services.orchestrator.definition.graph import Graph, cycle_text
from services.orchestrator.definition.validation import check_text
from tests.unit.orchestrator.test_validation import GOOD, PLANT, folder_catalogue

KNOWN = folder_catalogue(PLANT)
DELAY = {"type": "delay", "duration": "1ms"}


def graph(after: dict[str, list[str]], **fields) -> Graph:
    nodes = {name: {**DELAY, "after": needed, **fields.get(name, {})} for name, needed in after.items()}
    return Graph(Definition.model_validate_json(json.dumps({"pipeline": "t", "nodes": nodes})).nodes)


names = st.sampled_from("abcdefgh")
edges = st.dictionaries(names, st.lists(names, unique=True, max_size=3), min_size=1)


@given(edges)
def test_a_cycle_is_a_way_round_and_what_is_left_is_in_order(after):
    found = graph(after)

    for cycle in found.cycles:
        assert all(one in after[other] for one, other in zip(cycle, [*cycle[1:], cycle[0]], strict=True))
    places = {name: place for place, name in enumerate(found.order)}
    assert places.keys() == after.keys()
    assert all(places[need.name] < places[name] for name, needed in found.needs.items() for need in needed)
    for name in after:
        assert found.before[name] == _ancestors(found, name)


def _ancestors(found: Graph, name: str) -> frozenset[str]:
    direct = {need.name for need in found.needs[name]}
    return frozenset(direct).union(*(_ancestors(found, one) for one in direct))


def test_a_cycle_is_printed_by_name():
    (cycle,) = graph({"a": ["c"], "b": ["a"], "c": ["b"], "d": ["a"]}).cycles

    assert cycle_text(cycle) == "a -> b -> c -> a"


def writers(text: str) -> list[str]:
    faults = check_text(f"pipeline: t\nnodes:\n{text}", source="t", catalogue=KNOWN).faults
    return [fault.message for fault in faults]


FORK = """\
  level: {type: read, tag: filler-plc/tank-level}
  high: {type: condition, when: x > 1, inputs: {x: level.value}}
"""
ONE = "  one: {type: write, tag: servo/target, constants: {value: 1}%s}\n"
TWO = "  two: {type: write, tag: servo/target, constants: {value: 2}%s}\n"


@pytest.mark.parametrize(
    "nodes",
    [
        ONE % "" + TWO % ", after: [one]",
        ONE % "" + "  wait: {type: delay, duration: 1s, after: [one]}\n" + TWO % ", after: [wait]",
        FORK + ONE % ", after: [high.then]" + TWO % ", after: [high.else]",
        FORK
        + "  wait: {type: delay, duration: 1s, after: [high.then]}\n"
        + ONE % ", after: [wait]"
        + TWO % ", after: [high.else]",
    ],
)
def test_writers_in_order_or_on_different_branches_may_share_a_tag(nodes):
    assert writers(nodes) == []


@pytest.mark.parametrize(
    "nodes",
    [
        ONE % "" + TWO % "",
        FORK + ONE % ", after: [high.then]" + TWO % ", after: [high.then]",
        FORK + ONE % ", after: [high.then]" + TWO % ", after: [high]",
    ],
)
def test_writers_that_may_run_at_the_same_time_are_told(nodes):
    assert writers(nodes) == ["servo/target has two writers that may run at the same time: one and two"]


CONTENT = json.loads(check_text(GOOD, source="t", catalogue=KNOWN).definition.model_dump_json())
junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["", "a", "level.value", "state.n", "high.then", "1s", "x +", "read", "plc/a", "\x00"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["type", "nodes", "inputs", "a", "A b", "tag"]), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


PLACES = [path for path in places(CONTENT) if path]


@given(st.lists(st.tuples(st.sampled_from(PLACES), junk), min_size=1, max_size=3))
def test_whatever_stands_in_a_definition_the_checks_tell_faults_and_do_not_fall(changes):
    content = copy.deepcopy(CONTENT)
    for path, value in changes:
        around = content
        for part in path[:-1]:
            around = around[part] if isinstance(around, dict) and part in around else {}
        if isinstance(around, dict):
            around[path[-1]] = value

    checked = check_text(json.dumps(content), source="t", catalogue=Catalogue.of(KNOWN.devices.values(), [], []))

    assert checked.definition is not None or all(fault.line >= 1 for fault in checked.faults)
    assert (checked.definition is None) == bool(checked.faults)


@given(st.text(max_size=40))
def test_whatever_text_is_given_the_checks_do_not_fall(text):
    assert check_text(text, source="t", catalogue=Catalogue()).faults
