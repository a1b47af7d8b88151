"""The Modbus driver against its simulator: what only Modbus devices do."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import uvloop
from pymodbus.client import AsyncModbusTcpClient

import plugins.drivers.modbus
from contracts.v1.device import ValueType
from contracts.v1.frame_codec import QualityStruct
from plugins.api.bench import WallClock, device_spec
from plugins.api.driver import Device, DeviceSpec, Reading
from plugins.api.registry import load_plugin
from plugins.api.soundness import expect_device_error
from plugins.drivers.modbus.address import Table
from plugins.drivers.modbus.driver import DRIVER
from plugins.drivers.modbus.simulator import Access, ModbusSimulator, Unit
from tests.conftest import Eventually
from tests.plugins.certificates import Authority
from tests.plugins.leaping_loop import LoopClock, run_leaping
from tests.plugins.modbus_bench import ModbusBench, cell_of, modbus_bench, rtu_bench, serial_bench, tags

NEAR_AND_FAR = {
    "near": {"address": "holding:0", "type": "uint16", "writable": True},
    "far": {"address": "holding:1000", "type": "uint16", "writable": True},
}


class StoppedClock:
    """A clock that stands still until it is moved on."""

    def __init__(self) -> None:
        self.us = 1_000_000

    def now_us(self) -> int:
        return self.us

    def monotonic(self) -> float:
        return self.us / 1e6


@pytest.fixture
def unit() -> Unit:
    return Unit()


@pytest_asyncio.fixture
async def simulator(unit: Unit) -> AsyncIterator[ModbusSimulator]:
    async with ModbusSimulator(units={1: unit}) as simulator:
        yield simulator


def device_of(
    simulator: ModbusSimulator, groups: Mapping[str, Mapping[str, Any]] | None = None, **connection: object
) -> DeviceSpec:
    return device_spec(
        DRIVER,
        connection={"host": "127.0.0.1", "port": simulator.port, "unit_id": 1, "timeout": "200ms", **connection},
        groups=groups or {"all": {"tags": NEAR_AND_FAR}},
    )


async def read_once(spec: DeviceSpec, group: str = "all") -> Reading:
    async with DRIVER.open(spec, clock=WallClock()) as device:
        return await device.read(group)


async def test_a_refused_block_makes_only_its_own_tags_bad(unit: Unit, simulator: ModbusSimulator) -> None:
    unit.holding[0] = 7
    unit.refuse("holding:1000")

    reading = await read_once(device_of(simulator))

    assert reading.values == {"near": 7, "far": None}
    assert reading.quality == {"far": QualityStruct(0, "device", 2)}


@pytest.mark.parametrize("code", [1, 2, 3, 4, 6])
async def test_a_device_that_refuses_everything_has_answered(unit: Unit, simulator: ModbusSimulator, code: int) -> None:
    unit.refuse("holding:0", 2000, code=code)

    reading = await read_once(device_of(simulator))

    assert reading.values == {"near": None, "far": None}
    assert set(reading.quality.values()) == {QualityStruct(0, "device", code)}


async def test_a_unit_that_the_gateway_does_not_reach_is_a_device_error(simulator: ModbusSimulator) -> None:
    error = await expect_device_error(read_once(device_of(simulator, unit_id=9)))

    assert (error.cause, error.code) == ("comm", 11)


@pytest.mark.parametrize("retries", [0, 2])
async def test_a_read_without_an_answer_is_asked_again_as_often_as_configured(
    unit: Unit, simulator: ModbusSimulator, retries: int
) -> None:
    unit.silent = True

    error = await expect_device_error(read_once(device_of(simulator, retries=retries, timeout="150ms")))

    assert unit.reads == 1 + retries
    assert "unit 1" in str(error)
    assert "0.15 s" in str(error)


async def test_a_read_whose_first_answer_is_lost_succeeds_at_the_second_try(
    unit: Unit, simulator: ModbusSimulator
) -> None:
    unit.holding[0] = 7
    unit.silent = True

    async with DRIVER.open(device_of(simulator, retries=1), clock=WallClock()) as device:
        reading = asyncio.create_task(device.read("all"))
        await unit.asked.wait()
        unit.silent = False

        assert (await reading).values["near"] == 7


async def test_a_device_that_fails_at_every_poll_fills_no_log(
    unit: Unit, simulator: ModbusSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    unit.silent = True

    await expect_device_error(read_once(device_of(simulator, timeout="150ms")))
    await expect_device_error(read_once(device_of(simulator, host="no such host")))

    assert caplog.records == []


@pytest.mark.parametrize("retries", [0, 3])
async def test_a_write_is_never_repeated_whatever_the_retries_of_reads(
    unit: Unit, simulator: ModbusSimulator, retries: int
) -> None:
    unit.silent = True

    async with DRIVER.open(device_of(simulator, retries=retries, timeout="150ms"), clock=WallClock()) as device:
        await expect_device_error(device.write("near", 5))

    assert unit.writes == 1


async def test_a_connection_that_breaks_in_a_request_is_told_before_the_timeout(
    unit: Unit, simulator: ModbusSimulator
) -> None:
    unit.silent = True

    async with DRIVER.open(device_of(simulator, timeout="60s"), clock=WallClock()) as device:
        reading = asyncio.create_task(device.read("all"))
        await unit.asked.wait()
        simulator.drop()

        async with asyncio.timeout(30):
            error = await expect_device_error(reading)

    assert error.cause == "comm"
    assert "lost" in str(error)


async def test_the_driver_does_not_reconnect_by_itself(unit: Unit, simulator: ModbusSimulator) -> None:
    async with DRIVER.open(device_of(simulator), clock=WallClock()) as device:
        await device.read("all")
        simulator.drop()
        for _ in range(3):
            await expect_device_error(device.read("all"))
        await expect_device_error(device.write("near", 1))

    assert simulator.accepted == 1


async def test_leaving_closes_the_connection_after_a_fault_too(
    unit: Unit, simulator: ModbusSimulator, eventually: Eventually
) -> None:
    unit.silent = True

    await expect_device_error(read_once(device_of(simulator, timeout="150ms")))

    assert simulator.accepted == 1
    await eventually(lambda: simulator.connected == 0)


def test_a_late_answer_is_not_taken_for_that_of_the_next_request() -> None:
    async def reads() -> None:
        groups = {name: {"tags": {name: tag}} for name, tag in NEAR_AND_FAR.items()}
        unit = Unit()
        unit.holding[0], unit.holding[1000] = 7, 8
        unit.delay_s = 0.15
        async with ModbusSimulator(units={1: unit}) as simulator:
            spec = device_of(simulator, groups, timeout="100ms", retries=0)
            async with DRIVER.open(spec, clock=LoopClock()) as device:
                await expect_device_error(device.read("near"))
                unit.delay_s = 0.09

                assert (await device.read("far")).values == {"far": 8}

    run_leaping(reads())


@pytest.mark.parametrize(
    "tamper",
    [
        lambda _: bytes([3, 0]),
        lambda _: bytes([3, 4, 0, 1, 0, 2]),
        lambda _: bytes([3, 2, 0]),
        lambda _: bytes([3, 1, 0, 7]),
        lambda _: bytes([4, 2, 0, 7]),
        lambda _: bytes([6, 0, 0, 0, 7]),
    ],
    ids=["empty", "too long", "cut short", "wrong count", "other read", "write"],
)
async def test_an_answer_that_is_not_to_the_point_is_a_device_error(
    unit: Unit, simulator: ModbusSimulator, tamper: Callable[[bytes], bytes]
) -> None:
    unit.tamper = tamper

    error = await expect_device_error(read_once(device_of(simulator)))

    assert error.cause == "device"


async def test_a_cancellation_that_comes_together_with_the_answer_is_not_lost(
    unit: Unit, simulator: ModbusSimulator
) -> None:
    unit.silent = True
    async with DRIVER.open(device_of(simulator), clock=WallClock()) as device:
        line = device._link._line  # type: ignore[attr-defined]
        reading = asyncio.create_task(device.read("all"))
        await unit.asked.wait()

        line.data_received(struct.pack(">HHHBBBH", 1, 0, 5, 1, 3, 2, 7))
        reading.cancel()

        with pytest.raises(asyncio.CancelledError):
            await reading


async def test_a_value_that_does_not_fit_is_refused_before_anything_is_sent(
    unit: Unit, simulator: ModbusSimulator
) -> None:
    async with DRIVER.open(device_of(simulator), clock=WallClock()) as device:
        error = await expect_device_error(device.write("near", 70_000))

    assert error.cause == "range"
    assert unit.writes == 0


async def test_a_coil_takes_a_bool_only(unit: Unit, simulator: ModbusSimulator) -> None:
    groups = {"all": {"tags": {"pump": {"address": "coil:5", "type": "bool", "writable": True}}}}
    async with DRIVER.open(device_of(simulator, groups), clock=WallClock()) as device:
        error = await expect_device_error(device.write("pump", 1))

    assert error.cause == "range"
    assert unit.writes == 0


async def test_a_refused_write_carries_the_exception_code(unit: Unit, simulator: ModbusSimulator) -> None:
    unit.refuse("holding:0", code=4)

    async with DRIVER.open(device_of(simulator), clock=WallClock()) as device:
        error = await expect_device_error(device.write("near", 5))

    assert (error.cause, error.code) == ("device", 4)
    assert "near at holding:0: server device failure" in str(error)


async def test_a_write_that_the_device_is_too_busy_for_is_refused_for_now(
    unit: Unit, simulator: ModbusSimulator
) -> None:
    unit.refuse("holding:0", code=6)

    async with DRIVER.open(device_of(simulator), clock=WallClock()) as device:
        error = await expect_device_error(device.write("near", 5))

    assert (error.cause, error.code) == ("busy", 6)


@pytest.mark.parametrize(
    ("tag", "value", "mend"),
    [
        ("bit", True, "write_bit: read-modify-write"),
        ("one", 5, "write_register: 16"),
        ("coil", True, "write_coil: 15"),
    ],
)
async def test_a_write_by_a_function_that_the_device_does_not_know_is_told_the_other_way(
    unit: Unit, simulator: ModbusSimulator, tag: str, value: bool | int, mend: str
) -> None:
    tags = {
        "bit": {"address": "holding:4", "bit": 2, "type": "bool", "writable": True},
        "one": {"address": "holding:4", "type": "int16", "writable": True},
        "coil": {"address": "coil:4", "type": "bool", "writable": True},
    }
    unit.refuse("holding:4", code=1)
    unit.refuse("coil:4", code=1)
    async with DRIVER.open(device_of(simulator, {"all": {"tags": tags}}), clock=WallClock()) as device:
        error = await expect_device_error(device.write(tag, value))

    assert f"illegal function (Modbus exception 1); another way to write a {tag}".replace("a one", "a register") in str(
        error
    )
    assert mend in str(error)


async def test_a_write_that_the_device_acknowledges_since_it_takes_long_is_no_refusal(
    unit: Unit, simulator: ModbusSimulator
) -> None:
    unit.tamper = lambda answer: bytes([answer[0] | 0x80, 5]) if answer[0] == 6 else answer

    async with DRIVER.open(device_of(simulator), clock=WallClock()) as device:
        await device.write("near", 5)

        assert (await device.read("all")).values["near"] == 5


@pytest.mark.parametrize(("on", "left"), [(True, 0b1010_0000_0001_0100), (False, 0b1010_0000_0001_0000)])
async def test_writing_a_bit_leaves_the_others_of_its_register(
    unit: Unit, simulator: ModbusSimulator, on: bool, left: int
) -> None:
    groups = {"all": {"tags": {"flag": {"address": "holding:4", "bit": 2, "type": "bool", "writable": True}}}}
    unit.holding[4] = 0b1010_0000_0001_0000 | (0 if on else 0b100)

    async with DRIVER.open(device_of(simulator, groups), clock=WallClock()) as device:
        await device.write("flag", on)

    assert unit.holding[4] == left


async def test_a_write_touches_its_own_registers_only(unit: Unit, simulator: ModbusSimulator) -> None:
    written: list[Access] = []
    unit.on_write = written.append
    groups = {
        "all": {
            "tags": {
                "one": {"address": "holding:4", "type": "int16", "writable": True},
                "four": {"address": "holding:8", "type": "float64", "writable": True},
                "coil": {"address": "coil:9", "type": "bool", "writable": True},
            }
        }
    }

    async with DRIVER.open(device_of(simulator, groups), clock=WallClock()) as device:
        await device.write("one", -1)
        await device.write("four", 0.1)
        await device.write("coil", True)

    assert written == [Access(Table.HOLDING, 4, 1), Access(Table.HOLDING, 8, 4), Access(Table.COIL, 9, 1)]


async def test_groups_with_units_of_their_own_read_from_them_and_a_silent_one_spoils_no_other() -> None:
    units = {1: Unit(), 2: Unit()}
    units[1].holding[0], units[2].holding[0] = 11, 22
    async with ModbusSimulator(units=units) as simulator:
        tag = {"address": "holding:0", "type": "uint16"}
        groups = {"mine": {"tags": {"a": tag}}, "other": {"unit_id": 2, "tags": {"b": tag}}}
        async with DRIVER.open(device_of(simulator, groups, timeout="150ms"), clock=WallClock()) as device:
            assert (await device.read("mine")).values == {"a": 11}
            assert (await device.read("other")).values == {"b": 22}
            units[2].silent = True

            await expect_device_error(device.read("other"))

            assert (await device.read("mine")).values == {"a": 11}


async def test_the_time_of_a_reading_is_the_arrival_of_its_last_answer(unit: Unit, simulator: ModbusSimulator) -> None:
    clock = StoppedClock()

    def pass_time(_: Access) -> None:
        clock.us += 500

    unit.on_read = pass_time
    async with DRIVER.open(device_of(simulator), clock=clock) as device:
        reading = await device.read("all")

    assert unit.reads == 2
    assert reading.t == 1_001_000


async def test_the_connection_sends_without_delay_and_is_kept_alive_while_nothing_is_asked(
    simulator: ModbusSimulator,
) -> None:
    async with DRIVER.open(device_of(simulator), clock=WallClock()) as device:
        stream = device._link._line._transport.get_extra_info("socket")  # type: ignore[attr-defined]

        assert stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        assert stream.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0
        assert stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30


async def test_a_host_that_cannot_be_resolved_is_a_device_error(simulator: ModbusSimulator) -> None:
    error = await expect_device_error(read_once(device_of(simulator, host="no such host")))

    assert "no such host" in str(error)


@pytest.mark.parametrize("transport", ["tcp", "tls", "rtu-tcp", "serial"])
def test_driver_and_simulators_work_under_uvloop(transport: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    benches: dict[str, AbstractAsyncContextManager[ModbusBench]] = {
        "tcp": modbus_bench(),
        "tls": modbus_bench(
            tls=authority.server_context("127.0.0.1"), more={"transport": "tls", "tls": {"ca": authority.ca}}
        ),
        "rtu-tcp": rtu_bench(),
        "serial": serial_bench(tmp_path),
    }

    async def read_and_write() -> None:
        async with benches[transport] as bench, DRIVER.open(bench.device, clock=WallClock()) as device:
            await device.write("level", 12.5)
            assert (await device.read("all")).values["level"] == 12.5
            await bench.drop()
            await expect_device_error(device.read("all"))

    uvloop.run(read_and_write())


async def test_every_value_set_in_the_simulator_arrives_equal(simulator: ModbusSimulator) -> None:
    async with modbus_bench() as bench, DRIVER.open(bench.device, clock=WallClock()) as device:
        for name, value in bench.written.items():
            cell_of(bench.unit, tags(bench.device)[name]).set(value)

        reading = await device.read("all")

        assert {name: reading.values[name] for name in bench.written} == bench.written


async def test_the_plugin_loads_by_its_manifest(unit: Unit, simulator: ModbusSimulator) -> None:
    (folder,) = plugins.drivers.modbus.__path__
    plugin = load_plugin(Path(folder))
    unit.holding[0] = 7
    spec = device_spec(
        plugin.entry,
        connection={"host": "127.0.0.1", "port": simulator.port, "unit_id": 1},
        groups={"all": {"tags": NEAR_AND_FAR}},
    )

    async with plugin.entry.open(spec, clock=WallClock()) as device:
        opened: Device = device
        reading = await opened.read("all")

    assert plugin.manifest.id == "modbus"
    assert reading.values["near"] == 7


@pytest.fixture
def client_of(simulator: ModbusSimulator) -> Callable[[], AsyncModbusTcpClient]:
    return lambda: AsyncModbusTcpClient("127.0.0.1", port=simulator.port, retries=0, reconnect_delay=0)


async def test_the_simulator_answers_a_foreign_client_as_the_protocol_says(
    unit: Unit, client_of: Callable[[], AsyncModbusTcpClient]
) -> None:
    unit.set_value("input:3", ValueType.FLOAT32, 1.5, order="CDAB")
    unit.discrete[9] = True
    async with client_of() as client:
        assert not (await client.write_coils(10, [True, False, True] * 5, device_id=1)).isError()
        assert not (await client.write_coil(11, True, device_id=1)).isError()
        assert not (await client.write_registers(20, [1, 2, 3], device_id=1)).isError()
        assert not (await client.write_register(21, 500, device_id=1)).isError()
        assert not (await client.mask_write_register(address=22, and_mask=0xFFF0, or_mask=0x8, device_id=1)).isError()

        assert (await client.read_coils(10, count=4, device_id=1)).bits[:4] == [True, True, True, True]
        assert (await client.read_coils(14, count=11, device_id=1)).bits[:11] == ([False, True, True] * 4)[:11]
        assert (await client.read_discrete_inputs(8, count=3, device_id=1)).bits[:3] == [False, True, False]
        assert (await client.read_holding_registers(20, count=3, device_id=1)).registers == [1, 500, 8]
        assert (await client.read_input_registers(3, count=2, device_id=1)).registers == [0, 0x3FC0]
        assert unit.value("input:3", ValueType.FLOAT32, order="CDAB") == 1.5
        assert unit.value("coil:11", ValueType.BOOL) is True


async def test_the_simulator_refuses_what_the_protocol_refuses(
    unit: Unit, simulator: ModbusSimulator, client_of: Callable[[], AsyncModbusTcpClient]
) -> None:
    async with client_of() as client:
        beyond = await client.read_holding_registers(65535, count=2, device_id=1)
        too_many = await client.write_registers(0, [0] * 124, device_id=1)
        unknown = await client.read_fifo_queue(address=0, device_id=1)
        no_unit = await client.read_coils(0, count=1, device_id=5)

    assert [answer.exception_code for answer in (beyond, too_many, unknown, no_unit)] == [2, 3, 1, 11]


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", struct.pack(">HHHBBHH", 1, 1, 6, 1, 3, 0, 1), bytes(12)])
async def test_the_simulator_drops_a_client_that_speaks_something_else(simulator: ModbusSimulator, said: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
    writer.write(said)

    async with asyncio.timeout(30):
        assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_the_simulator_takes_requests_in_pieces_and_in_bundles(unit: Unit, simulator: ModbusSimulator) -> None:
    unit.holding[0] = 7
    request = struct.pack(">HHHBBHH", 1, 0, 6, 1, 3, 0, 1)
    answer = struct.pack(">HHHBBBH", 1, 0, 5, 1, 3, 2, 7)
    reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async with asyncio.timeout(30):
        writer.write(request[:5])
        await writer.drain()
        writer.write(request[5:] + request + request[:9])
        assert await reader.readexactly(2 * len(answer)) == 2 * answer
        writer.write(request[9:])
        assert await reader.readexactly(len(answer)) == answer
    writer.close()
    await writer.wait_closed()


async def test_a_stopped_simulator_starts_again_at_its_port(simulator: ModbusSimulator) -> None:
    port = simulator.port

    await simulator.stop()
    await expect_device_error(read_once(device_of(simulator)))
    await simulator.start()

    assert simulator.port == port
    assert (await read_once(device_of(simulator))).quality == {}


@pytest.mark.parametrize(("start", "count", "code"), [(0, 5, None), (0, 6, 2), (7, 1, 2), (8, 3, None), (4, 9, 2)])
def test_a_refused_range_is_refused_where_a_request_touches_it(start: int, count: int, code: int | None) -> None:
    unit = Unit()
    unit.refuse("holding:5", 3)

    answer = unit.answer(struct.pack(">BHH", 3, start, count))

    assert answer is not None
    assert (answer[1] if answer[0] & 0x80 else None) == code


def test_the_faults_of_a_unit_can_be_taken_back() -> None:
    unit = Unit()
    request = struct.pack(">BHH", 3, 0, 1)
    unit.refuse("holding:0")
    assert unit.answer(request) == bytes([0x83, 2])

    unit.accept()

    assert unit.answer(request) == bytes([3, 2, 0, 0])


@pytest.mark.parametrize("request_", [b"\x03", b"\x03\0\0\0", b"\x05\0\0\0\1", b"\x10\0\0\0\1\2\0", b"\x0f\0\0\0\1\1"])
def test_a_malformed_request_is_an_illegal_value(request_: bytes) -> None:
    assert Unit().answer(request_) == bytes([request_[0] | 0x80, 3])


def test_registers_past_the_last_cannot_be_set() -> None:
    with pytest.raises(IndexError):
        Unit().set_value("holding:65535", ValueType.FLOAT32, 1.0)
