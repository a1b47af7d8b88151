"""The functions that dinrail ships keep the promises of all; test_function_oracles.py is about what they compute."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plugins.api.function_suite import FunctionSuite
from plugins.api.manifest import Manifest, Port
from plugins.api.ports import check_inputs
from plugins.api.registry import plugin_folders, read_manifest

ROOT = Path(__file__).parents[2]
FUNCTIONS = ROOT / "plugins/functions"
SHIPPED = [folder for folder in plugin_folders([FUNCTIONS]) if not folder.name.startswith("_")]


class TestStatistics(FunctionSuite):
    folder = FUNCTIONS / "statistics"


class TestVibration(FunctionSuite):
    folder = FUNCTIONS / "vibration"


class TestAnomaly(FunctionSuite):
    folder = FUNCTIONS / "anomaly"


class TestOee(FunctionSuite):
    folder = FUNCTIONS / "oee"


def manifests() -> list[Manifest]:
    return [read_manifest(folder) for folder in SHIPPED]


def numeric_inputs() -> Iterator[Any]:
    for manifest in manifests():
        for name, function in manifest.functions.items():
            for port, what in function.inputs.items():
                if "number" in (what.type, what.items):
                    yield pytest.param(function.inputs, port, id=f"{name}-{port}")


def sound(port: Port) -> Any:
    """Some value that the port takes."""
    value = {"number": 1.0, "integer": 1, "string": "hann", "boolean": True}[port.items or port.type]
    return [value] * 3 if port.type == "array" else value


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 10**400])
@pytest.mark.parametrize(("ports", "port"), list(numeric_inputs()))
def test_a_number_that_is_none_is_refused_with_input_and_place(ports: dict[str, Port], port: str, bad: float) -> None:
    inputs = {name: sound(what) for name, what in ports.items()}
    assert check_inputs(ports, inputs) == []

    inputs[port] = [1.0, bad, 1.0] if ports[port].type == "array" else bad

    (fault,) = check_inputs(ports, inputs)
    assert fault.startswith(f"input '{port}': ")
    assert "not finite" in fault
    assert " at 1 " in fault or ports[port].type != "array"


def test_no_two_plugins_have_a_function_of_one_name() -> None:
    names = [name for manifest in manifests() for name in manifest.functions]

    assert len(names) == len(set(names))


def test_the_reference_names_every_function_and_all_its_ports() -> None:
    reference = (ROOT / "docs/functions.md").read_text(encoding="utf-8")
    told = {part.partition("\n")[0].strip("` "): part for part in reference.split("\n### ")}
    for manifest in manifests():
        for name, function in manifest.functions.items():
            missing = [port for port in {**function.inputs, **function.outputs} if f"`{port}`" not in told[name]]
            assert not missing, f"docs/functions.md does not tell {name}'s {missing}"


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_each_readme_has_formula_and_source_of_every_function(folder: Path) -> None:
    chapters = (folder / "README.md").read_text(encoding="utf-8").split("\n## ")
    told = {chapter.partition("\n")[0].strip("` "): chapter for chapter in chapters}
    for name in read_manifest(folder).functions:
        assert "\n```\n" in told[name], f"{name} has no formula"
        assert "\nSource: " in told[name], f"{name} has no source"
