"""The device files and the table that the simulators serve from say the same."""

from pathlib import Path
from typing import Any

import pytest

from contracts.v1.device import ValueType
from examples.plant.model import Plant
from examples.plant.signals import (
    BITS,
    ENERGY_METER,
    FILLER_PLC,
    NAMESPACE,
    NODES,
    PASTEURISER,
    REGISTERS,
    UNITS,
    Register,
)
from plugins.api.document import Document
from plugins.api.registry import Registry
from services.gateway.device_file import parse_device

DEVICES = Path(__file__).parents[3] / "examples" / "plant" / "devices"
WIDTH = {"int16": 1, "uint16": 1, "int32": 2, "uint32": 2, "float32": 2, "int64": 4, "uint64": 4, "float64": 4}


def content(device: str) -> dict[str, Any]:
    path = DEVICES / f"{device}.yaml"
    data = Document.parse(path.read_text(encoding="utf-8"), source=path.name).data
    assert isinstance(data, dict)
    return data


def tags(device: str) -> dict[str, dict[str, Any]]:
    return {name: fields for group in content(device)["groups"].values() for name, fields in group["tags"].items()}


@pytest.mark.parametrize("device", [FILLER_PLC, ENERGY_METER])
def test_each_modbus_tag_stands_where_the_simulator_serves_it(device: str) -> None:
    registers = {register.tag: register for register in REGISTERS if register.device == device}
    bits = {bit.tag: bit for bit in BITS if bit.device == device}

    found = tags(device)

    assert content(device)["connection"]["unit_id"] == UNITS[device]
    assert found.keys() == registers.keys() | bits.keys()
    for name, fields in found.items():
        register = registers[bits[name].word] if name in bits else registers[name]
        assert fields["address"] == f"{register.table}:{register.address}", name
        assert fields.get("bit") == (bits[name].bit if name in bits else None), name
        if name not in bits:
            assert fields.get("raw", fields["type"]) == register.type, name
            assert fields.get("scale", 1.0) == register.scale, name
            assert fields.get("length", 0) == register.length, name
            assert fields.get("writable", False) == register.writable, name
            assert WIDTH.get(register.type, 1) == 1 or fields.get("order", "ABCD") == register.order, name


def test_each_opc_ua_tag_names_the_variable_that_the_simulator_serves() -> None:
    nodes = {node.tag: node for node in NODES}

    found = tags(PASTEURISER)

    assert found.keys() == nodes.keys()
    for name, fields in found.items():
        assert fields["node"] == f"nsu={NAMESPACE};s={nodes[name].name}", name
        assert fields["type"] == nodes[name].type, name
        assert fields.get("writable", False) == nodes[name].writable, name


@pytest.mark.parametrize("unit", sorted(set(UNITS.values())))
@pytest.mark.parametrize("table", ["coil", "discrete", "input", "holding"])
def test_no_two_values_share_a_register(unit: int, table: str) -> None:
    taken: dict[int, str] = {}

    for register in (register for register in REGISTERS if (register.unit, register.table) == (unit, table)):
        for address in range(register.address, register.address + _width(register)):
            assert address not in taken, f"{register.tag} overlaps {taken[address]} at {address}"
            taken[address] = register.tag


def _width(register: Register) -> int:
    return register.length or WIDTH.get(register.type, 1)


def test_the_plant_has_tags_of_every_type_and_more_than_sixty() -> None:
    found = [fields for path in DEVICES.glob("*.yaml") for fields in tags(path.stem).values()]

    assert len(found) >= 60
    assert {fields["type"] for fields in found} == {str(kind) for kind in ValueType}
    assert {fields.get("order", "ABCD") for fields in found} == {"ABCD", "CDAB", "BADC", "DCBA"}
    assert all(fields["title"] for fields in found)


def test_what_may_be_written_is_what_the_model_keeps_within_the_same_limits() -> None:
    paths = {register.tag: register.path for register in REGISTERS} | {node.tag: node.path for node in NODES}

    for device in (FILLER_PLC, ENERGY_METER, PASTEURISER):
        for name, fields in tags(device).items():
            if fields.get("writable") and "range" in fields:
                assert tuple(fields["range"]) == Plant.LIMITS[paths[name]], name


def test_the_gateway_takes_every_device_file() -> None:
    drivers = Registry([DEVICES.parents[2] / "plugins" / "drivers"], kind="driver")

    devices = [
        parse_device(path.read_text(encoding="utf-8"), source=path.name, drivers=drivers)
        for path in DEVICES.glob("*.yaml")
    ]

    assert {device.name for device in devices} == {FILLER_PLC, ENERGY_METER, PASTEURISER, "servo"}
    assert all(device.enabled and device.writes for device in devices)
