"""`dinrail read`, `write` and `call` as a person types them, against a running gateway."""

import asyncio
import json
import sys

import pytest
import yaml

from contracts.v1.device import ValueType
from plugins.drivers.modbus.simulated_unit import Unit
from plugins.drivers.modbus.simulator import ModbusSimulator
from tests.integration.gateway_site import listening, running_gateway
from tests.integration.ledger import online

PUMP_TAGS = {
    "speed": {"address": "holding:10", "type": "float32", "unit": "rpm", "range": [-100, 100], "writable": True},
    "open": {"address": "coil:1", "type": "bool", "writable": True},
}


@pytest.fixture
def site(broker, tmp_path):
    """A site's folder as far as the command line needs it."""
    folder = tmp_path / "site"
    (folder / "secrets").mkdir(parents=True)
    (folder / "secrets" / "operator.password").write_text("any\n")
    settings = {"site": "test", "broker": {"host": "127.0.0.1", "port": broker.port}}
    (folder / "dinrail.yaml").write_text(yaml.safe_dump(settings))
    return folder


async def dinrail(site, *words):
    """Exit code, output and errors of a command."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.cli.main", *words[:1], "--dir", str(site), *words[1:],
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode, out.decode().strip(), err.decode().strip()


async def test_an_operator_reads_writes_and_is_told_why_not(broker, site, tmp_path):
    unit = Unit()
    unit.set_value("holding:10", ValueType.FLOAT32, 50.0)
    async with ModbusSimulator(units={1: unit}) as plc:
        pump = {
            "driver": "modbus",
            "writes": "enabled",
            "connection": {"host": "127.0.0.1", "port": plc.port, "unit_id": 1},
            "groups": {"fast": {"interval": "1h", "tags": PUMP_TAGS}},
        }
        async with listening(broker) as listener, running_gateway(broker, tmp_path, {"pump": pump}):
            await online(listener)
            done = await dinrail(site, "write", "pump", "speed", "-75")
            negative = unit.value("holding:10", ValueType.FLOAT32)
            asked = [
                ("write", "--expect", "speed=-75", "pump", "open", "on"),
                ("write", "pump", "speed", "101"),
                ("write", "pump", "speed", "fast"),
                ("write", "pomp", "speed", "1"),
                ("write", "pump", "speed", "-7", "--expct", "speed=-75"),
                ("write", "pump", "speed", "--timeot=3"),
                ("read", "--json", "pump"),
            ]
            opened, refused, mistyped, unknown, extra, misspelt, shown = await asyncio.gather(
                *(dinrail(site, *words) for words in asked)
            )

    assert done == (0, "pump/speed: written -75, read back -75", "")
    assert negative == -75.0
    assert opened == (0, "pump/open: written true, read back true", "")
    assert refused == (1, "", "out_of_range: 101.0 is outside the range of speed: -100.0 to 100.0 rpm")
    assert mistyped == (2, "", "'fast' is no number; the tag is of type float32")
    assert unknown == (2, "", "no device 'pomp' at this site that operator sees; `dinrail device list` tells")
    assert (extra[0], "--expct" in extra[2]) == (2, True)
    assert (misspelt[0], "there is no option --timeot=3" in misspelt[2]) == (2, True)
    assert json.loads(shown[1])["values"]["speed"] == -75.0


async def test_an_operator_runs_a_function(broker, site, tmp_path):
    servo = {
        "driver": "mock_servo",
        "writes": "enabled",
        "connection": {"velocity": 1000, "acceleration": 20000},
        "groups": {"state": {"interval": "1s", "tags": {"position": {"type": "float64", "signal": "position"}}}},
    }
    async with listening(broker) as listener, running_gateway(broker, tmp_path, {"servo": servo}):
        await online(listener, "servo")
        moved = await dinrail(site, "call", "servo", "move_to", "position=20")
        refused = await dinrail(site, "call", "servo", "move_to")
        no_name = await dinrail(site, "call", "servo", "move to")
        infinite = await dinrail(site, "call", "servo", "move_to", "position=1e999")

    assert moved == (0, "servo: move_to done: position = 20", "")
    assert refused == (1, "", "invalid: move_to: the input 'position' is missing")
    assert no_name[0] == 2
    assert no_name[2].startswith("function: 'move to' cannot be a name; use 1 to 63 of a-z 0-9 _ -")
    assert infinite == (1, "", "invalid: input position: '1e999' is not of type number")
