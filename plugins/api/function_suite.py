"""The behaviour that every plugin of functions shows: one class of tests, run against a plugin's folder.

How a plugin uses it (tests/plugins/test_<id>_functions.py):

    class TestStatistics(FunctionSuite):
        folder = Path("plugins/functions/statistics")

That is all. What the functions give stands in the plugin's `testcases/*.yaml`, a case each:

    function: average
    title: A single value is its own average
    inputs: {values: [3.0]}
    outputs: {average: 3.0, count: 1}      # or  error: values is empty  (a part of the InputError's text)
    tolerance: 1e-9                        # relative and absolute, of numbers; 1e-9 if absent
"""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from math import isclose
from pathlib import Path
from typing import Any, ClassVar

import yaml
from pydantic import BaseModel, ConfigDict

from contracts.v1.message import Level
from plugins.api.function import InputError, keywords
from plugins.api.ports import check_inputs, check_outputs, taken_inputs
from plugins.api.registry import Plugin, load_plugin, unload_plugin


class Case(BaseModel):
    """One call of a function, and what comes of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    function: Level
    title: str
    inputs: dict[Level, Any]
    outputs: dict[Level, Any] | None = None
    error: str | None = None
    tolerance: float = 1e-9


class FunctionSuite:
    """What every plugin of functions shows. Subclasses give `folder`."""

    folder: ClassVar[Path]

    def test_the_plugin_loads_with_all_its_functions(self) -> None:
        """Its manifest is right and its code gives the functions that the manifest names."""
        with _Loaded(self.folder) as plugin:
            assert plugin.manifest.kind == "function"

    def test_every_function_and_every_error_has_a_test_case(self) -> None:
        """There is a case that gives outputs for each function, and none for a function that there is not."""
        with _Loaded(self.folder) as plugin:
            computed = {case.function for case in self._cases() if case.outputs is not None}
            assert computed == set(plugin.manifest.functions), "functions and test cases differ"

    def test_each_test_case_gives_what_it_says(self) -> None:
        """The outputs within the tolerance, or the InputError; and the outputs keep the promises of plugin.yaml."""
        with _Loaded(self.folder) as plugin:
            for case in self._cases():
                _assert_case(plugin, case)

    def test_a_function_changes_no_input_and_gives_the_same_again(self) -> None:
        """It is pure, as far as two calls can show."""
        with _Loaded(self.folder) as plugin:
            for case in self._cases():
                given = _taken(plugin, case)
                before = deepcopy(given)
                first = _called(plugin, case, given)
                assert given == before, f"{case.title}: an input was changed"
                assert _called(plugin, case, given) == first, f"{case.title}: the second call gave something else"

    def _cases(self) -> Iterator[Case]:
        for path in sorted((self.folder / "testcases").glob("*.yaml")):
            for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
                yield Case.model_validate(document)


class _Loaded:
    """The plugin while it is loaded."""

    def __init__(self, folder: Path) -> None:
        self._plugin = load_plugin(folder)

    def __enter__(self) -> Plugin:
        return self._plugin

    def __exit__(self, *_: object) -> None:
        unload_plugin(self._plugin)


def _assert_case(plugin: Plugin, case: Case) -> None:
    outputs = _called(plugin, case, _taken(plugin, case))
    if case.outputs is None:
        assert isinstance(outputs, str), f"{case.title}: no InputError but {outputs!r}"
        assert (case.error or "") in outputs, f"{case.title}: {outputs!r} does not say {case.error!r}"
        return
    assert not isinstance(outputs, str), f"{case.title}: {outputs}"
    faults = check_outputs(plugin.manifest.functions[case.function].outputs, outputs)
    assert not faults, f"{case.title}: {'; '.join(faults)}"
    for name in {*outputs, *case.outputs}:
        got, wanted = outputs.get(name), case.outputs.get(name)
        assert _is_near(got, wanted, case.tolerance), f"{case.title}: {name} is {got!r}, not {wanted!r}"


def _taken(plugin: Plugin, case: Case) -> dict[str, Any]:
    ports = plugin.manifest.functions[case.function].inputs
    faults = check_inputs(ports, case.inputs)
    assert not faults, f"{case.title}: {'; '.join(faults)}"
    return taken_inputs(ports, case.inputs)


def _called(plugin: Plugin, case: Case, inputs: Mapping[str, Any]) -> Mapping[str, Any] | str:
    try:
        outputs: Mapping[str, Any] = plugin.entry[case.function](**keywords(inputs))
    except InputError as error:
        return str(error)
    return outputs


def _is_near(got: object, wanted: object, tolerance: float) -> bool:
    if isinstance(got, list | tuple) and isinstance(wanted, list):
        return len(got) == len(wanted) and all(map(_is_near, got, wanted, [tolerance] * len(wanted)))
    if isinstance(got, dict) and isinstance(wanted, dict):
        return got.keys() == wanted.keys() and all(_is_near(got[key], wanted[key], tolerance) for key in wanted)
    if isinstance(got, float) and isinstance(wanted, int | float) and not isinstance(wanted, bool):
        return isclose(got, wanted, rel_tol=tolerance, abs_tol=tolerance)
    return type(got) is type(wanted) and got == wanted
