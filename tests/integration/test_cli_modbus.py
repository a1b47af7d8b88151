"""`dinrail modbus scan` against simulated units, as a person calls it."""

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from contracts.v1.device import ValueType
from plugins.drivers.modbus.rtu_simulator import SerialSimulator
from plugins.drivers.modbus.simulator import Access, ModbusSimulator, Unit
from services.cli.main import app
from tests.plugins.modbus_bench import absent_port


async def scan(*arguments: object) -> Result:
    """Beside the simulator, which needs this thread's loop."""
    return await asyncio.to_thread(CliRunner().invoke, app, ["modbus", "scan", "--rate=1000", *map(str, arguments)])


def silent() -> Unit:
    unit = Unit()
    unit.silent = True
    return unit


def lines(result: Result) -> list[str]:
    return [" ".join(line.split()) for line in result.stdout.splitlines()]


async def test_the_units_that_answer_are_found_among_those_that_do_not() -> None:
    refusing = Unit()
    refusing.refuse("holding:0", code=1)
    units = {1: Unit(), 2: silent(), 3: silent(), 4: refusing}
    units[1].holding[0] = 4711
    async with ModbusSimulator(units=units) as simulator:
        result = await scan(f"127.0.0.1:{simulator.port}", "--units=1-5", "--timeout=1s")

    assert lines(result) == [
        "unit 1 holding:0 = 4711",
        "unit 4 answers, but not for holding:0: illegal function (Modbus exception 1)",
        "2 of 5 units answer",
    ]
    assert result.exit_code == 0


class HangingUpUnit(Unit):
    """Closes the connection, as some devices do where they are asked for a unit that they do not have."""

    simulator: ModbusSimulator

    def answer(self, request: bytes) -> bytes | None:
        self.simulator.drop()
        return None


async def test_a_device_that_hangs_up_when_it_is_asked_for_foreign_units_is_scanned_to_the_end() -> None:
    foreign = HangingUpUnit()
    async with ModbusSimulator(units={1: foreign, 2: Unit(), 3: foreign, 4: Unit()}) as simulator:
        foreign.simulator = simulator
        result = await scan(f"127.0.0.1:{simulator.port}", "--units=1-4", "--timeout=60s")

    assert lines(result) == ["unit 2 holding:0 = 0", "unit 4 holding:0 = 0", "2 of 4 units answer"]


async def test_where_no_unit_answers_that_is_the_answer() -> None:
    async with ModbusSimulator(units={1: silent()}) as simulator:
        result = await scan(f"127.0.0.1:{simulator.port}", "--units=1,5", "--timeout=100ms")

    assert lines(result) == ["none of 2 units answer"]
    assert result.exit_code == 1


async def test_what_can_be_read_is_shown_as_each_type_and_what_cannot_with_its_reason() -> None:
    unit = Unit()
    unit.set_value("holding:1", ValueType.FLOAT32, 50.0)
    unit.holding[3] = 65535
    unit.refuse("holding:4", 3)
    unit.coil[8] = True
    async with ModbusSimulator(units={7: unit}) as simulator:
        result = await scan(
            f"127.0.0.1:{simulator.port}", "--unit=7", "--registers=holding:1-8", "--registers=coil:7-8"
        )

    assert lines(result) == [
        "address bool hex int16 uint16 float32 ABCD float32 CDAB",
        "holding:1 4248 16968 16968 50 2.37772e-41",
        "holding:2 0000 0 0 9.18341e-41 -",
        "holding:3 ffff -1 65535",
        "holding:4-6 illegal data address",
        "holding:7 0000 0 0 0 0",
        "holding:8 0000 0 0",
        "coil:7 false",
        "coil:8 true",
        "unit 7: 7 of 10 can be read",
    ]


async def test_programs_get_the_same_as_json() -> None:
    unit = Unit()
    unit.holding[3] = 5
    async with ModbusSimulator(units={1: unit}) as simulator:
        place = f"127.0.0.1:{simulator.port}"
        units = await scan(place, "--units=1", "--json")
        places = await scan(place, "--registers=holding:3", "--json")

    assert json.loads(units.stdout) == [{"unit": 1, "answers": True, "detail": "holding:0 = 0"}]
    assert json.loads(places.stdout) == [{"address": "holding:3", "hex": "0005", "uint16": 5, "int16": 5}]


async def test_one_unit_alone_is_tried_where_it_is_named() -> None:
    async with ModbusSimulator(units={1: Unit(), 5: Unit()}) as simulator:
        result = await scan(f"127.0.0.1:{simulator.port}", "--unit=5")

    assert lines(result) == ["unit 5 holding:0 = 0", "1 of 1 units answers"]


async def test_a_serial_line_is_scanned_as_well(tmp_path: Path) -> None:
    async with SerialSimulator(units={9: Unit()}, path=tmp_path / "tty") as line:
        arguments = ("--serial", line.path, "--baud=115200", "--parity=none", "--units=8-10", "--timeout=1s")
        result = await scan(*arguments)

    assert lines(result) == ["unit 9 holding:0 = 0", "1 of 3 units answers"]


async def test_a_scan_writes_nothing() -> None:
    unit = Unit()
    async with ModbusSimulator(units={1: unit}) as simulator:
        await scan(f"127.0.0.1:{simulator.port}", "--units=1")
        await scan(f"127.0.0.1:{simulator.port}", "--registers=coil:0-9", "--registers=input:0-9")

    assert set(unit.functions) == {3, 1, 4}


async def test_an_address_where_nothing_answers_is_told_in_one_line() -> None:
    with absent_port() as port:
        result = await scan(f"127.0.0.1:{port}")

    assert result.stderr == f"nothing answers at 127.0.0.1:{port}: Connection refused\n"
    assert result.exit_code == 2


async def test_a_port_that_hangs_up_on_tls_is_told_with_a_reason() -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        place = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        result = await scan(place, "--transport=tls", "--units=1")

    assert result.exit_code == 2
    assert result.stderr.strip().startswith(f"nothing answers at {place}: ")
    assert not result.stderr.strip().endswith(":")


async def test_a_silent_unit_has_no_registers_to_show() -> None:
    async with ModbusSimulator(units={1: silent()}) as simulator:
        result = await scan(f"127.0.0.1:{simulator.port}", "--registers=holding:0-9", "--timeout=100ms")

    assert "does not answer within 0.1 s" in result.stderr
    assert result.exit_code == 2


@pytest.mark.parametrize("as_json", [False, True])
async def test_what_was_found_is_shown_though_the_unit_falls_silent_midway(as_json: bool) -> None:
    unit = Unit()

    def fall_silent(_: Access) -> None:
        unit.silent = True

    unit.on_read = fall_silent
    async with ModbusSimulator(units={1: unit}) as simulator:
        options = ["--timeout=100ms", "--registers=holding:0-99", "--registers=input:0-9"]
        result = await scan(f"127.0.0.1:{simulator.port}", *options, *(["--json"] if as_json else []))

    if as_json:
        assert [one["address"] for one in json.loads(result.stdout)] == [f"holding:{n}" for n in range(100)]
    else:
        assert lines(result)[-1] == "unit 1: 100 of 100 can be read"
    assert "does not answer within 0.1 s" in result.stderr
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "say where: a HOST[:PORT], or --serial with a port"),
        (["plc", "--serial=/dev/ttyUSB0"], "say where"),
        (["plc:modbus"], "'modbus' is no port"),
        (["plc", "--units=5", "--registers=holding:0-9"], "write --unit for the one whose --registers are shown"),
        (["plc", "--units=5", "--unit=5"], "--units looks which units answer"),
        (["plc", "--units=0-999"], "'0-999' is no range of units"),
        (["plc", "--registers=plums:1-2"], "'plums:1-2' is no range of addresses"),
        (["plc", "--registers=holding:9-2"], "they go from 0 up to 65535"),
        (["plc", "--transport=pigeon"], "transport: Input should be 'tcp', 'tls', 'rtu-tcp'"),
        (["plc", "--ca=ca.pem"], "tls: tls says nothing about transport tcp"),
        (["--serial=/no/such/port"], "/no/such/port cannot be opened: No such file or directory"),
        (["plc", "--timeout=5"], "write 5s or 5ms"),
    ],
)
async def test_what_cannot_be_done_is_told_with_its_mend(arguments: list[str], told: str) -> None:
    result = await scan(*arguments)

    assert told in result.stderr
    assert result.exit_code == 2
