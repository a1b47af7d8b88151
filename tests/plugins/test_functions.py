"""Plugins of functions: what is checked when one is loaded, and its ports."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.api.manifest import Port
from plugins.api.ports import check_inputs, check_outputs, taken_inputs
from plugins.api.registry import PluginError, Registry, load_plugin, unload_plugin

MANIFEST = """
id: {id}
version: 1.0.0
kind: function
title: Doubles
description: For tests.
entry: function:FUNCTIONS
functions:
  double:
    title: Twice
    inputs:
      x-1: {{type: number, range: [0, 10], unit: mm}}
      note: {{type: string, optional: true}}
    outputs:
      y: {{type: number}}
"""
CODE = """
def double(x_1, note=""):
    return {"y": 2 * x_1}

FUNCTIONS = {"double": double}
"""


def plugin(tmp_path: Path, code: str = CODE, manifest: str = MANIFEST) -> Path:
    folder = tmp_path / "doubles"
    folder.mkdir(exist_ok=True)
    (folder / "plugin.yaml").write_text(manifest.format(id="doubles"))
    (folder / "function.py").write_text(code)
    return folder


def test_a_plugin_of_functions_is_found_by_its_kind_and_loads(tmp_path: Path) -> None:
    plugin(tmp_path)

    loaded = Registry([tmp_path], kind="function").load("doubles")

    assert loaded.entry["double"](x_1=2.0) == {"y": 4.0}
    assert Registry([tmp_path], kind="driver").available() == {}
    unload_plugin(loaded)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("FUNCTIONS = 3", "no map from names"),
        ("FUNCTIONS = {}", "double is missing"),
        (CODE + "FUNCTIONS['triple'] = double", "triple is not in plugin.yaml"),
        ("FUNCTIONS = {'double': 1}", "double is no plain function"),
        ("async def f(x_1, note=''): ...\nFUNCTIONS = {'double': f}", "double is no plain function"),
        ("def f(x_1): ...\nFUNCTIONS = {'double': f}", "unexpected keyword argument 'note'"),
        ("def f(x_1, note): ...\nFUNCTIONS = {'double': f}", "missing a required argument: 'note'"),
    ],
)
def test_functions_that_are_not_those_of_the_manifest_are_refused(tmp_path: Path, code: str, told: str) -> None:
    with pytest.raises(PluginError, match=told):
        load_plugin(plugin(tmp_path, code))


def test_a_plugin_of_functions_that_names_none_is_refused_with_the_line(tmp_path: Path) -> None:
    head = MANIFEST.partition("functions:\n")[0]

    with pytest.raises(PluginError, match="names none"):
        load_plugin(plugin(tmp_path, manifest=head))
    with pytest.raises(PluginError, match=r"plugin.yaml:8.*names none"):
        load_plugin(plugin(tmp_path, manifest=head + "functions: {{}}"))


PORTS = {
    "x": Port(type="number", range=(0, 10), unit="mm"),
    "n": Port(type="integer", optional=True),
    "list": Port(type="array", optional=True),
    "counts": Port(type="array", items="integer", optional=True),
    "map": Port(type="object", optional=True),
    "on": Port(type="boolean", optional=True),
}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "the input 'x' is missing"),
        ({"x": None}, "the input 'x' is missing"),
        ({"x": "1"}, "input 'x': '1' is not of type number"),
        ({"x": True}, "input 'x': True is not of type number"),
        ({"x": 10.5}, "input 'x': 10.5 is outside its range: 0 to 10 mm"),
        ({"x": math.nan}, "input 'x': nan is no plain JSON value, or a number in it is not finite"),
        ({"x": 1, "n": 1.0}, "input 'n': 1.0 is not of type integer"),
        ({"x": 1, "on": 1}, "input 'on': 1 is not of type boolean"),
        ({"x": 1, "lst": []}, "there is no input 'lst'; did you mean 'list'?"),
        (
            {"x": 1, "list": [1.0, math.inf]},
            "input 'list': inf at 1 is no plain JSON value, or a number in it is not finite",
        ),
        (
            {"x": 1, "list": [1.0, {2}]},
            "input 'list': {2} at 1 is no plain JSON value, or a number in it is not finite",
        ),
        ({"x": 1, "counts": [1, True]}, "input 'counts': True at 1 is not of type integer"),
        ({"x": 1, "map": {1: 2}}, "input 'map': {1: 2} is no plain JSON value, or a number in it is not finite"),
    ],
)
def test_each_fault_of_an_input_is_told(given: dict[str, object], told: str) -> None:
    assert check_inputs(PORTS, given) == [told]


def test_all_faults_are_told_at_once_and_right_inputs_have_none() -> None:
    assert len(check_inputs(PORTS, {"n": "a", "what": 1})) == 3
    assert check_inputs(PORTS, {"x": 10, "n": None, "list": [1, 2.5, "a", None], "map": {"a": [1]}}) == []
    assert check_outputs({"y": Port(type="number")}, {}) == ["the output 'y' is missing"]


def test_a_function_takes_numbers_as_floats_and_nothing_that_is_absent() -> None:
    taken = taken_inputs(PORTS, {"x": 3, "n": 3, "list": None})

    assert taken == {"x": 3.0, "n": 3}
    assert isinstance(taken["x"], float)


def test_a_value_that_has_no_end_is_a_fault_and_no_crash() -> None:
    endless: list[object] = []
    endless.append(endless)

    assert len(check_outputs(PORTS, {"x": 1.0, "list": endless})) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.lists(JSON))
def test_every_json_value_may_stand_in_an_array(items: list[object]) -> None:
    assert check_inputs(PORTS, {"x": 1.0, "list": items}) == []
