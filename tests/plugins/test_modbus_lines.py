"""Lines to Modbus devices: what they share, whom they trust, and whose silence costs whom."""

import asyncio
import errno
import socket
import termios
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
import uvloop

from plugins.api.bench import WallClock, device_spec
from plugins.api.driver import DeviceError, DeviceSpec, NotSent, Queues, Reading, Value
from plugins.api.soundness import expect_device_error
from plugins.drivers.modbus.address import Table
from plugins.drivers.modbus.driver import ModbusDriver
from plugins.drivers.modbus.endpoint import endpoint_of, open_line
from plugins.drivers.modbus.request import read_request
from plugins.drivers.modbus.rtu_simulator import RtuSimulator, SerialSimulator, with_checksum
from plugins.drivers.modbus.simulator import ModbusSimulator, Unit
from services.gateway.poller import Poller
from services.runtime.retry import Backoff
from tests.conftest import Eventually
from tests.plugins.certificates import Authority
from tests.plugins.leaping_loop import LoopClock, pass_time, run_leaping
from tests.plugins.modbus_bench import absent_port, serial_connection

CLOCK = WallClock()
TAG = {"address": "holding:0", "type": "uint16", "writable": True}


def spec(connection: Mapping[str, Any], groups: Mapping[str, Any] | None = None, **more: Any) -> DeviceSpec:
    fields = {"host": "127.0.0.1", "unit_id": 1, "timeout": "2s", **connection, **more}
    if fields.get("transport") == "serial":
        del fields["host"]
    built = device_spec(
        ModbusDriver(),
        connection={key: value for key, value in fields.items() if value is not None},
        groups=groups or {"all": {"tags": {"tag": TAG}}},
    )
    assert list(ModbusDriver().check(built)) == []
    return built


def units_of(*numbers: int) -> dict[int, Unit]:
    """Units whose register 0 holds their number."""
    units = {number: Unit() for number in numbers}
    for number, unit in units.items():
        unit.holding[0] = number
    return units


async def read_once(driver: ModbusDriver, device: DeviceSpec) -> Reading:
    async with driver.open(device, clock=CLOCK) as opened:
        return await opened.read("all")


class Counts:
    """A poller's listener that counts."""

    def __init__(self) -> None:
        self.readings: dict[str, int] = {}
        self.failures: dict[str, int] = {}

    def on_reading(self, group: str, reading: Reading) -> None:
        self.readings[group] = self.readings.get(group, 0) + 1

    def on_failure(self, group: str, error: DeviceError) -> None:
        self.failures[group] = self.failures.get(group, 0) + 1

    def on_poll(self, reading: Reading | None, *, seconds: float, overruns: int) -> None:
        pass


async def no_wait() -> None:
    pass


@asynccontextmanager
async def polled(device: DeviceSpec) -> AsyncIterator[Counts]:
    """The device, polled as the gateway does it."""
    counts = Counts()
    async with ModbusDriver().open(device, clock=CLOCK) as opened:
        poller = Poller(
            device=opened,
            spec=device,
            listener=counts,
            room=no_wait,
            quiet=nullcontext,
            clock=CLOCK,
            backoff=lambda: Backoff(random=Random(1)),
        )
        task = asyncio.create_task(poller.run())
        try:
            yield counts
        finally:
            task.cancel()
            await asyncio.wait([task])


def three_units(interval: str) -> dict[str, Any]:
    return {
        name: {"interval": interval, "unit_id": unit, "tags": {name: TAG}}
        for unit, name in ((1, "one"), (2, "silent"), (3, "three"))
    }


async def test_on_tcp_the_others_are_polled_on_while_a_silent_unit_is_waited_for(eventually: Eventually) -> None:
    units = units_of(1, 2, 3)
    units[2].silent = True
    async with (
        ModbusSimulator(units=units) as simulator,
        polled(spec({"port": simulator.port}, three_units("20ms"), timeout="60s")) as counts,
    ):
        await eventually(lambda: min(counts.readings.get("one", 0), counts.readings.get("three", 0)) >= 20)

    assert counts.failures == {}
    assert units[2].reads == 1, "its first request is still under way"


async def test_two_devices_at_one_endpoint_share_a_connection_that_the_last_closes(eventually: Eventually) -> None:
    driver = ModbusDriver()
    async with ModbusSimulator(units=units_of(1, 2)) as simulator:
        first, second = (spec({"port": simulator.port, "unit_id": unit}) for unit in (1, 2))
        async with driver.open(first, clock=CLOCK) as one:
            async with driver.open(second, clock=CLOCK) as two:
                both = await asyncio.gather(one.read("all"), two.read("all"))
            assert [reading.values["tag"] for reading in both] == [1, 2]

            assert (await one.read("all")).values["tag"] == 1, "the other's leaving does not close it"

        assert simulator.accepted == 1
        await eventually(lambda: simulator.connected == 0)


async def test_devices_that_name_one_serial_port_in_two_ways_are_told_to_name_it_alike(tmp_path: Path) -> None:
    driver = ModbusDriver()
    by_id = tmp_path / "by-id"
    async with SerialSimulator(units=units_of(1), path=tmp_path / "tty") as line:
        by_id.symlink_to(line.path)
        async with driver.open(spec(serial_connection(line.path)), clock=CLOCK):
            error = await expect_device_error(read_once(driver, spec(serial_connection(by_id))))

    assert error.cause == "config"
    assert f"another device has {by_id} open with other settings: make serial the same in both" in str(error)


async def test_two_devices_share_a_serial_port(tmp_path: Path) -> None:
    driver = ModbusDriver()
    async with SerialSimulator(units=units_of(1, 2), path=tmp_path / "tty") as line:
        first, second = (spec(serial_connection(line.path), unit_id=unit) for unit in (1, 2))
        async with driver.open(first, clock=CLOCK) as one, driver.open(second, clock=CLOCK) as two:
            both = await asyncio.gather(one.read("all"), two.read("all"))

    assert [reading.values["tag"] for reading in both] == [1, 2]


async def test_devices_at_one_endpoint_that_disagree_about_it_are_told_in_what(tmp_path: Path) -> None:
    driver = ModbusDriver()
    async with SerialSimulator(units=units_of(1), path=tmp_path / "tty") as line:
        connection = serial_connection(line.path)
        slower = {**connection, "serial": {**connection["serial"], "baudrate": 9600}}
        async with driver.open(spec(connection), clock=CLOCK):
            error = await expect_device_error(read_once(driver, spec(slower)))

    assert error.cause == "config"
    assert "make serial the same in both" in str(error)


async def test_a_shared_connection_that_is_lost_is_opened_again_by_whoever_comes_first() -> None:
    driver = ModbusDriver()
    async with ModbusSimulator(units=units_of(1, 2)) as simulator:
        first, second = (spec({"port": simulator.port, "unit_id": unit}) for unit in (1, 2))
        async with driver.open(first, clock=CLOCK) as one, driver.open(second, clock=CLOCK) as two:
            simulator.drop()
            await expect_device_error(one.read("all"))
            assert (await read_once(driver, first)).values["tag"] == 1
            await expect_device_error(two.read("all"))
        assert (await read_once(driver, second)).values["tag"] == 2

    assert simulator.accepted == 3


@pytest.mark.parametrize("transport", ["tcp", "rtu-tcp"])
def test_a_connection_that_is_closed_since_nobody_uses_it_is_opened_again_without_an_error(transport: str) -> None:
    async def polls() -> None:
        units, driver = units_of(1, 2), ModbusDriver()
        async with ModbusSimulator(units=units) as tcp, RtuSimulator(units=units) as rtu:
            server = tcp if transport == "tcp" else rtu
            first, second = (spec({"transport": transport, "port": server.port, "unit_id": unit}) for unit in (1, 2))
            async with driver.open(first, clock=CLOCK) as one, driver.open(second, clock=CLOCK) as two:
                await one.read("all")
                await closed_at_rest(server)
                assert (await two.read("all")).values == {"tag": 2}
                assert (await one.read("all")).values == {"tag": 1}
                await closed_at_rest(server)
                await one.write("tag", 7)
                assert units[1].holding[0] == 7
                assert (server.accepted, server.connected) == (3, 1)
                await closed_at_rest(server)
                assert (await read_once(driver, first)).values == {"tag": 7}
                assert (await two.read("all")).values == {"tag": 2}
                assert (server.accepted, server.connected) == (4, 1)

    run_leaping(polls())


def test_a_device_that_is_away_after_its_connection_was_closed_at_rest_is_lost() -> None:
    async def poll() -> tuple[DeviceError, DeviceError]:
        async with AsyncExitStack() as stack:
            simulator = await stack.enter_async_context(ModbusSimulator(units=units_of(1)))
            opened = ModbusDriver().open(spec({"port": simulator.port}), clock=CLOCK)
            device = await stack.enter_async_context(opened)
            await device.read("all")
            await pass_time(60)
            await simulator.stop()
            await pass_time(1)
            return await expect_device_error(device.write("tag", 7)), await expect_device_error(device.read("all"))

    of_write, error = run_leaping(poll())

    assert (of_write.cause, of_write.lost) == ("busy", True)
    assert "nothing was sent: nothing answers at" in str(of_write)
    assert (error.cause, error.lost) == ("comm", True)
    assert "nothing answers at" in str(error)


async def closed_at_rest(server: ModbusSimulator | RtuSimulator) -> None:
    """As a gateway does with a connection that nobody has used for a minute."""
    await pass_time(60)
    server.drop()
    await pass_time(1)


async def test_many_devices_at_an_endpoint_that_is_not_there_fail_together() -> None:
    driver = ModbusDriver()
    with absent_port() as port:
        outcomes = await asyncio.gather(
            *(read_once(driver, spec({"port": port, "unit_id": unit})) for unit in range(1, 30)), return_exceptions=True
        )

    assert {type(outcome) for outcome in outcomes} == {DeviceError}
    assert len({str(outcome) for outcome in outcomes}) == 1


async def test_a_device_with_much_to_ask_does_not_keep_others_waiting_for_all_of_it() -> None:
    units = units_of(1, 2)
    asked: list[int] = []
    units[1].on_read = lambda _: asked.append(1)
    units[2].on_read = lambda _: asked.append(2)
    driver = ModbusDriver()
    many = {"all": {"tags": {f"t{n}": {"address": f"holding:{200 * n}", "type": "uint16"} for n in range(20)}}}
    async with RtuSimulator(units=units) as simulator:
        connection = {"transport": "rtu-tcp", "port": simulator.port}
        busy, small = spec(connection, many), spec(connection, unit_id=2)
        async with driver.open(busy, clock=CLOCK) as one, driver.open(small, clock=CLOCK) as two:
            reading = asyncio.create_task(one.read("all"))
            await units[1].asked.wait()
            await two.read("all")
            await reading

    assert asked.index(2) <= 2


@pytest.mark.parametrize("transport", ["tcp", "rtu-tcp"])
async def test_a_write_that_is_given_up_while_it_waits_for_its_turn_is_never_sent(transport: str) -> None:
    units = units_of(1, 2)
    units[1].delay_s = 0.1
    driver = ModbusDriver()
    async with ModbusSimulator(units=units) as tcp, RtuSimulator(units=units) as rtu:
        port = tcp.port if transport == "tcp" else rtu.port
        slow, other = (spec({"transport": transport, "port": port, "unit_id": unit}) for unit in (1, 2))
        async with driver.open(slow, clock=CLOCK) as one, driver.open(other, clock=CLOCK) as two:
            reading = asyncio.create_task(one.read("all"))
            await units[1].asked.wait()
            writing = asyncio.create_task(two.write("tag", 5))
            await asyncio.sleep(0)
            writing.cancel()
            await reading

            assert (await two.read("all")).values["tag"] == 2

    assert writing.cancelled()
    assert units[2].writes == 0


@pytest.mark.parametrize("transport", ["tcp", "rtu-tcp"])
@pytest.mark.parametrize(("tag", "value"), [("tag", 1), ("bit", True)])
def test_a_write_whose_turn_on_the_line_comes_too_late_is_refused_in_time_and_never_sent(
    transport: str, tag: str, value: Value
) -> None:
    async def write() -> None:
        units = units_of(1, 2)
        driver, clock = ModbusDriver(), LoopClock()
        bit = {"address": "holding:0", "type": "bool", "bit": 9, "writable": True}
        groups = {"all": {"tags": {"tag": TAG, "bit": bit}}}
        async with ModbusSimulator(units=units) as tcp, RtuSimulator(units=units) as rtu:
            port = tcp.port if transport == "tcp" else rtu.port
            connection = {"transport": transport, "port": port, "timeout": "60s", "write_bit": "read-modify-write"}
            slow, other = (spec(connection, groups, unit_id=unit) for unit in (1, 2))
            async with driver.open(slow, clock=clock) as one, driver.open(other, clock=clock) as two:
                assert isinstance(two, Queues)
                await two.read("all")
                units[1].delay_s = 1.0  # the line is its own for so long, on TCP for 20 ms
                reading = asyncio.create_task(one.read("all"))
                await units[1].asked.wait()
                begun = clock.monotonic()

                with pytest.raises(NotSent):
                    await two.write_within(tag, value, seconds=0.01)

                assert clock.monotonic() - begun == pytest.approx(0.01, abs=0.005)
                await reading
                await two.read("all")

        assert units[2].writes == 0
        assert units[2].holding[0] == 2

    run_leaping(write())


def test_a_write_to_a_unit_that_was_away_is_answered_late_but_once_while_others_are_asked() -> None:
    async def write() -> None:
        units = units_of(1, 2)
        units[2].silent = True
        driver, clock = ModbusDriver(), LoopClock()
        async with RtuSimulator(units=units) as simulator:
            living, away = (
                spec({"transport": "rtu-tcp", "port": simulator.port, "retries": 0}, unit_id=unit) for unit in (1, 2)
            )
            async with driver.open(living, clock=clock) as one, driver.open(away, clock=clock) as two:
                await expect_device_error(two.read("all"))
                units[2].silent, units[2].delay_s = False, 0.4
                units[1].delay_s = 0.01
                writing = asyncio.create_task(two.write("tag", 5))
                while not writing.done():
                    assert (await one.read("all")).values["tag"] == 1
                await writing
                assert units[1].reads >= 10, "it is not waited for"

                assert (await two.read("all")).values["tag"] == 5

        assert units[2].writes == 1

    run_leaping(write())


@pytest.mark.parametrize("in_flight", [1, 3])
async def test_no_more_requests_are_under_way_than_the_device_may_take(in_flight: int) -> None:
    units = units_of(1)
    units[1].silent = True
    many = {"all": {"tags": {f"t{n}": {"address": f"holding:{200 * n}", "type": "uint16"} for n in range(10)}}}
    async with ModbusSimulator(units=units) as simulator:
        device = spec({"port": simulator.port, "in_flight": in_flight, "retries": 0, "timeout": "100ms"}, many)

        await expect_device_error(read_once(ModbusDriver(), device))

    assert units[1].reads == in_flight


async def test_requests_that_go_out_together_come_back_to_their_own_tags() -> None:
    units = units_of(1)
    many = {"all": {"tags": {f"t{n}": {"address": f"holding:{200 * n}", "type": "uint16"} for n in range(40)}}}
    for n in range(40):
        units[1].holding[200 * n] = n
    async with ModbusSimulator(units=units) as simulator:
        reading = await read_once(ModbusDriver(), spec({"port": simulator.port, "in_flight": 8}, many))

    assert reading.values == {f"t{n}": n for n in range(40)}


def test_a_unit_that_was_silent_before_is_asked_only_once_per_poll() -> None:
    async def reads() -> None:
        units = units_of(1)
        units[1].silent = True
        async with ModbusSimulator(units=units) as simulator:
            device = spec({"port": simulator.port, "retries": 3})
            async with ModbusDriver().open(device, clock=CLOCK) as opened:
                await expect_device_error(opened.read("all"))
                assert units[1].reads == 4
                await expect_device_error(opened.read("all"))
                assert units[1].reads == 5

    run_leaping(reads())


@pytest.mark.parametrize("transport", ["tcp", "rtu-tcp"])
def test_a_connection_that_brings_nothing_any_more_is_given_up(transport: str) -> None:
    async def reads() -> list[str]:
        units = units_of(1)
        units[1].silent = True
        driver = ModbusDriver()
        async with ModbusSimulator(units=units) as tcp, RtuSimulator(units=units) as rtu:
            port = tcp.port if transport == "tcp" else rtu.port
            tags = {"all": {"tags": {"text": {"address": "holding:0", "type": "string", "length": 40}}}}
            device = spec({"transport": transport, "port": port, "retries": 0, "timeout": "500ms"}, tags)
            async with driver.open(device, clock=CLOCK) as opened:
                return [str(await expect_device_error(opened.read("all"))) for _ in range(13)]

    told = run_leaping(reads())

    assert "does not answer" in told[11]
    assert "is lost" in told[12]


async def test_a_silent_unit_of_which_much_was_asked_at_once_does_not_cost_the_others_their_connection() -> None:
    units = units_of(1, 2)
    tags = {f"t{n}": {"address": f"holding:{200 * n}", "type": "uint16"} for n in range(16)}
    groups = {"living": {"tags": {"tag": TAG}}, "silent": {"unit_id": 2, "tags": tags}}
    async with ModbusSimulator(units=units) as simulator:
        device = spec({"port": simulator.port, "in_flight": 16, "timeout": "500ms", "retries": 0}, groups)
        async with ModbusDriver().open(device, clock=CLOCK) as opened:
            await opened.read("living")
            units[2].silent = True
            await expect_device_error(opened.read("silent"))

            assert (await opened.read("living")).values["tag"] == 1

    assert units[2].reads == 16


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_timeout_below_what_a_loops_timers_can_tell_apart_is_a_device_error(run: Callable[..., None]) -> None:
    async def read() -> None:
        units = units_of(1)
        units[1].silent = True
        async with ModbusSimulator(units=units) as simulator:
            device = spec({"port": simulator.port, "in_flight": 3})
            line = await open_line(endpoint_of(device.connection), timeout_s=5)
            answers = [line.ask(read_request(1, Table.HOLDING, 0, 1), timeout_s=0.001) for _ in range(3)]
            for answer in answers:
                await expect_device_error(answer)
            line.close()

    run(read())


class OverchargedUnit(Unit):
    """Leaves out, as simple devices do, what it cannot take: the third to the fifteenth request."""

    def answer(self, request: bytes) -> bytes | None:
        answer = super().answer(request)
        return None if 3 <= self.reads <= 15 else answer


async def test_a_device_that_takes_fewer_requests_at_a_time_than_it_is_sent_is_read_all_the_same() -> None:
    unit = OverchargedUnit()
    for n in range(16):
        unit.holding[200 * n] = n
    tags = {f"t{n}": {"address": f"holding:{200 * n}", "type": "uint16"} for n in range(16)}
    async with ModbusSimulator(units={1: unit}) as simulator:
        device = spec({"port": simulator.port, "in_flight": 16, "timeout": "100ms"}, {"all": {"tags": tags}})

        reading = await read_once(ModbusDriver(), device)

    assert reading.values == {f"t{n}": n for n in range(16)}


async def test_a_server_whose_certificate_the_authority_has_not_signed_is_not_spoken_to(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    async with ModbusSimulator(units=units_of(1), tls=theirs.server_context("127.0.0.1")) as simulator:
        device = spec({"transport": "tls", "port": simulator.port, "tls": {"ca": ours.ca}})

        error = await expect_device_error(read_once(ModbusDriver(), device))

    assert error.cause == "config"
    assert "unable to get local issuer certificate" in str(error)


async def test_a_server_with_a_certificate_for_another_name_is_not_spoken_to_unless_that_is_the_one_meant(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path)
    async with ModbusSimulator(units=units_of(1), tls=authority.server_context("plc.example")) as simulator:
        connection = {"transport": "tls", "port": simulator.port}

        error = await expect_device_error(read_once(ModbusDriver(), spec({**connection, "tls": {"ca": authority.ca}})))
        meant = spec({**connection, "tls": {"ca": authority.ca, "server_name": "plc.example"}})
        reading = await read_once(ModbusDriver(), meant)

    assert "127.0.0.1" in str(error)
    assert reading.values["tag"] == 1


async def test_a_server_that_asks_for_a_certificate_gets_ours_or_nothing_is_read(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    own = authority.issue("gateway.example")
    tls = authority.server_context("127.0.0.1", asks_for_certificates=True)
    async with ModbusSimulator(units=units_of(1), tls=tls) as simulator:
        connection = {"transport": "tls", "port": simulator.port}
        with_own = {"ca": authority.ca, "certificate": own.certificate, "key": own.key}

        await expect_device_error(read_once(ModbusDriver(), spec({**connection, "tls": {"ca": authority.ca}})))
        reading = await read_once(ModbusDriver(), spec({**connection, "tls": with_own}))

    assert reading.values["tag"] == 1


async def test_a_tls_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with absent_port() as port:
        device = spec({"transport": "tls", "port": port, "tls": {"ca": tmp_path / "none.pem"}})

        error = await expect_device_error(read_once(ModbusDriver(), device))

    assert error.cause == "config"
    assert "none.pem" in str(error)


@pytest.mark.parametrize(
    "noise",
    [b"\x00\xff", with_checksum(bytes([1, 3, 0, 0, 0, 1])), with_checksum(bytes([2, 3, 2, 0, 9]))],
    ids=["a few bytes", "our own request", "another unit's answer"],
)
async def test_noise_before_an_answer_does_not_spoil_it(noise: bytes) -> None:
    async with RtuSimulator(units=units_of(1)) as simulator:
        simulator.noise = noise

        reading = await read_once(ModbusDriver(), spec({"transport": "rtu-tcp", "port": simulator.port}))

    assert reading.values["tag"] == 1


async def test_an_answer_with_a_wrong_checksum_is_asked_for_again_without_waiting_for_the_timeout() -> None:
    units = units_of(1)
    async with RtuSimulator(units=units) as simulator:
        simulator.flipped = 3
        units[1].on_read = lambda _: setattr(simulator, "flipped", None) if units[1].reads > 1 else None
        device = spec({"transport": "rtu-tcp", "port": simulator.port, "timeout": "60s"})

        async with asyncio.timeout(30):
            reading = await read_once(ModbusDriver(), device)

    assert reading.values["tag"] == 1


async def test_a_slow_line_has_the_time_that_its_bytes_take_beside_the_timeout(tmp_path: Path) -> None:
    units = units_of(1)
    units[1].delay_s = 0.15
    tags = {f"t{n}": {"address": f"holding:{n}", "type": "uint16"} for n in range(20)}
    async with SerialSimulator(units=units, path=tmp_path / "tty") as line:
        connection = {**serial_connection(line.path), "timeout": "10ms", "retries": 0}
        connection["serial"] = {**connection["serial"], "baudrate": 300}  # 53 characters: 1.8 s

        reading = await read_once(ModbusDriver(), spec(connection, {"all": {"tags": tags}}))

    assert reading.quality == {}


async def test_a_line_rests_between_two_exchanges(tmp_path: Path) -> None:
    units = units_of(1)
    times: list[float] = []
    units[1].on_read = lambda _: times.append(CLOCK.monotonic())
    groups = {"all": {"tags": {f"t{n}": {"address": f"holding:{200 * n}", "type": "uint16"} for n in range(4)}}}
    async with SerialSimulator(units=units, path=tmp_path / "tty") as line:
        await read_once(ModbusDriver(), spec(serial_connection(line.path), groups, pause="40ms"))

    assert min(later - earlier for earlier, later in pairwise(times)) >= 0.04


def test_a_line_that_is_never_silent_is_used_all_the_same() -> None:
    async def read() -> Reading:
        async with RtuSimulator(units=units_of(1)) as simulator:
            device = spec({"transport": "rtu-tcp", "port": simulator.port, "pause": "50ms"})
            async with ModbusDriver().open(device, clock=CLOCK) as opened:
                noise = asyncio.create_task(disturb(simulator))
                try:
                    async with asyncio.timeout(30):
                        for _ in range(3):
                            reading = await opened.read("all")
                        return reading
                finally:
                    noise.cancel()
                    await asyncio.wait([noise])

    async def disturb(simulator: RtuSimulator) -> None:
        while True:
            for client in simulator.clients:
                client.send(b"\xff")
            await pass_time(0.02)

    assert run_leaping(read()).values["tag"] == 1


async def test_an_opening_that_is_given_up_leaves_the_endpoint_to_other_settings() -> None:
    driver = ModbusDriver()
    with socket.socket() as speechless:
        speechless.bind(("127.0.0.1", 0))
        speechless.listen()  # takes connections, and says nothing on them
        port = speechless.getsockname()[1]
        opening = asyncio.create_task(read_once(driver, spec({"transport": "tls", "port": port})))
        for _ in range(5):
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.wait([opening])

        async with driver.open(spec({"port": port}), clock=CLOCK):
            assert opening.cancelled()


@pytest.mark.parametrize("port", ["no such port", "/dev/null"])
async def test_a_serial_port_that_cannot_be_opened_is_a_device_error(port: str) -> None:
    error = await expect_device_error(read_once(ModbusDriver(), spec(serial_connection(Path(port)))))

    assert port in str(error)


async def test_a_serial_port_that_is_pulled_out_while_it_is_opened_is_a_device_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise termios.error(errno.EIO, "Input/output error")

    async with SerialSimulator(units=units_of(1), path=tmp_path / "tty") as line:
        monkeypatch.setattr(termios, "tcflush", gone)
        error = await expect_device_error(read_once(ModbusDriver(), spec(serial_connection(line.path))))

    assert error.cause == "comm"
    assert "cannot be opened: Input/output error" in str(error)


@pytest.mark.parametrize(
    ("fields", "functions"),
    [
        ({}, [5, 6, 22, 16]),
        ({"write_coil": 15, "write_register": 16}, [15, 16, 22, 16]),
        ({"write_bit": "read-modify-write"}, [5, 6, 3, 6, 16]),
        ({"write_bit": "read-modify-write", "write_register": 16}, [5, 16, 3, 16, 16]),
    ],
)
async def test_writes_use_the_functions_that_the_device_knows(fields: dict[str, Any], functions: list[int]) -> None:
    units = units_of(1)
    units[1].holding[5] = 0b1000
    tags = {
        "coil": {"address": "coil:3", "type": "bool", "writable": True},
        "one": {"address": "holding:4", "type": "int16", "writable": True},
        "bit": {"address": "holding:5", "bit": 1, "type": "bool", "writable": True},
        "two": {"address": "holding:6", "type": "float32", "writable": True},
    }
    async with ModbusSimulator(units=units) as simulator:
        device = spec({"port": simulator.port, **fields}, {"all": {"tags": tags}})
        async with ModbusDriver().open(device, clock=CLOCK) as opened:
            for tag, value in (("coil", True), ("one", -5), ("bit", True), ("two", 1.5)):
                await opened.write(tag, value)
            reading = await opened.read("all")

    assert reading.values == {"coil": True, "one": -5, "bit": True, "two": 1.5}
    assert units[1].holding[5] == 0b1010
    assert list(units[1].functions)[: len(functions)] == functions


async def test_two_devices_that_wait_for_one_silent_unit_hold_up_no_other(eventually: Eventually) -> None:
    units = units_of(1, 2)
    units[2].silent = True
    driver = ModbusDriver()
    async with ModbusSimulator(units=units) as simulator:
        files = [spec({"port": simulator.port, "unit_id": unit, "timeout": "60s"}) for unit in (1, 2, 2)]
        async with (
            driver.open(files[0], clock=CLOCK) as living,
            driver.open(files[1], clock=CLOCK) as one,
            driver.open(files[2], clock=CLOCK) as other,
        ):
            await living.read("all")
            waiting = [asyncio.create_task(device.read("all")) for device in (one, other)]
            await units[2].asked.wait()

            async with asyncio.timeout(30):
                for _ in range(3):
                    assert (await living.read("all")).values["tag"] == 1

            assert units[2].reads == 1, "a unit is asked nothing more while an answer of it is overdue"
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
