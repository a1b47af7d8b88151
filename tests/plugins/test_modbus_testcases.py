"""Each folder under plugins/drivers/modbus/testcases: a device, its registers, and what must be read from them.

A new case needs no code: device.yaml (connection and groups of a device file), registers.yaml (by unit, table and first
address; `refused` ranges), expected.yaml (values, quality, requests).
"""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

import plugins.drivers.modbus
from plugins.api.bench import WallClock, device_spec
from plugins.api.driver import DeviceSpec
from plugins.api.soundness import assert_sound, tags_of
from plugins.drivers.modbus.driver import DRIVER
from plugins.drivers.modbus.simulator import ModbusSimulator, Unit

FOLDER = Path(plugins.drivers.modbus.__path__[0]) / "testcases"
CASES = sorted(folder for folder in FOLDER.iterdir() if folder.is_dir())


def content(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def unit_of(tables: dict[str, Any]) -> Unit:
    unit = Unit()
    for address, refused in tables.pop("refused", {}).items():
        unit.refuse(address, refused["count"], code=refused["code"])
    for table, runs in tables.items():
        for start, values in runs.items():
            for place, value in enumerate(values):
                getattr(unit, table)[start + place] = value
    return unit


def spec_of(folder: Path, port: int) -> DeviceSpec:
    device = content(folder / "device.yaml")
    connection = {"host": "127.0.0.1", "port": port, "unit_id": 1, **device.get("connection", {})}
    return device_spec(DRIVER, connection=connection, groups=device["groups"])


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
async def test_the_case_is_read_as_expected(folder: Path) -> None:
    units = {number: unit_of(tables) for number, tables in content(folder / "registers.yaml").items()}
    expected = content(folder / "expected.yaml")
    values, quality = {}, {}

    async with ModbusSimulator(units=units) as simulator:
        spec = spec_of(folder, simulator.port)
        assert list(DRIVER.check(spec)) == []
        async with DRIVER.open(spec, clock=WallClock()) as device:
            for group in spec.groups:
                reading = await device.read(group.name)
                assert_sound(reading, tags_of(group))
                values |= reading.values
                quality |= reading.quality

    assert values == expected["values"]
    assert {name: type(value) for name, value in values.items()} == {
        name: type(value) for name, value in expected["values"].items()
    }
    assert msgspec.to_builtins(quality) == expected.get("quality", {})
    assert sum(unit.reads for unit in units.values()) == expected["requests"]


README = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
EXAMPLES = [yaml.safe_load(part.partition("```")[0]) for part in README.split("```yaml\n")[1:]]
ANY_GROUP = {"all": {"tags": {"tag": {"address": "holding:0", "type": "uint16"}}}}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["connection"].get("transport", "tcp"))
def test_every_example_in_the_readme_is_right(example: dict[str, Any]) -> None:
    spec = device_spec(DRIVER, connection=example["connection"], groups=example.get("groups", ANY_GROUP))

    assert list(DRIVER.check(spec)) == []
