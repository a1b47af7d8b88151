"""Several units on one connection: whatever becomes of one, the others are polled as often as was asked for."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from random import Random
from typing import Any

import pytest

from plugins.api.bench import device_spec
from plugins.api.driver import DeviceError, DeviceSpec, Reading
from plugins.drivers.modbus.driver import ModbusDriver
from plugins.drivers.modbus.rtu_simulator import RtuSimulator, SerialSimulator
from plugins.drivers.modbus.simulator import ModbusSimulator, Unit
from services.gateway.poller import Poller
from services.runtime.retry import Backoff
from tests.plugins.leaping_loop import LoopClock, Transit, run_leaping
from tests.plugins.modbus_bench import serial_connection

SLOTS = 200
LIVING = (1, 3)
FALLEN = (2, 4, 5)
TIMEOUT_S = 1.0


class FrailUnit(Unit):
    """loses: of three answers one arrives."""

    loses = False

    def answer(self, request: bytes) -> bytes | None:
        answer = super().answer(request)
        return None if self.loses and self.reads % 3 else answer


def device_file(connection: Mapping[str, Any], interval_s: float) -> DeviceSpec:
    tag = {"address": "holding:0", "type": "uint16"}
    groups = {
        str(unit): {"interval": f"{interval_s * 1000:g}ms", "unit_id": unit, "tags": {f"tag-{unit}": tag}}
        for unit in (*LIVING, *FALLEN)
    }
    return device_spec(ModbusDriver(), connection={**connection, "timeout": f"{TIMEOUT_S:g}s"}, groups=groups)


class Tally:
    """A poller's listener that counts good and failed polls by group."""

    def __init__(self) -> None:
        self.good: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.news = asyncio.Event()

    def on_reading(self, group: str, reading: Reading) -> None:
        self.good[group] += 1
        self.news.set()

    def on_failure(self, group: str, error: DeviceError) -> None:
        self.failed[group] += 1
        self.news.set()

    def on_poll(self, reading: Reading | None, *, seconds: float, overruns: int) -> None:
        pass

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(120):
            while not condition():
                self.news.clear()
                await self.news.wait()


async def no_wait() -> None:
    pass


@asynccontextmanager
async def polled(device: DeviceSpec) -> AsyncIterator[Tally]:
    """The device, polled as the gateway does it, but for a unit that is away more often."""
    tally, clock = Tally(), LoopClock()
    async with ModbusDriver().open(device, clock=clock) as opened:
        poller = Poller(
            device=opened,
            spec=device,
            listener=tally,
            room=no_wait,
            quiet=nullcontext,
            clock=clock,
            backoff=lambda: Backoff(first_s=0.2, most_s=0.2, random=Random(1)),
        )
        task = asyncio.create_task(poller.run())
        try:
            yield tally
            assert not task.done(), "the connection is kept"
        finally:
            task.cancel()
            await asyncio.wait([task])


@asynccontextmanager
async def reached(transport: str, units: Mapping[int, Unit], folder: Path) -> AsyncIterator[Mapping[str, Any]]:
    """The fields of a connection over which these units are served."""
    if transport == "tcp":
        async with ModbusSimulator(units=units) as tcp:
            yield {"host": "127.0.0.1", "port": tcp.port}
    elif transport == "rtu-tcp":
        async with RtuSimulator(units=units) as rtu:
            yield {"transport": transport, "host": "127.0.0.1", "port": rtu.port}
    else:
        async with SerialSimulator(units=units, path=folder / "tty") as serial:
            yield serial_connection(serial.path)


def fall_silent(unit: FrailUnit) -> None:
    unit.silent = True


def be_heard_now_and_then(unit: FrailUnit) -> None:
    """As on a bad cable."""
    unit.delay_s = 0.03
    unit.loses = True


def be_reported_away(unit: FrailUnit) -> None:
    """As a gateway does, after it has waited for the unit in vain."""
    unit.delay_s = 0.3
    unit.tamper = lambda answer: bytes([answer[0] | 0x80, 11])


HOLD_S = 0.02
"""What a unit that falls silent costs the others on TCP: see the driver's README, "Several units, ..."."""


@pytest.mark.parametrize(
    ("transport", "options", "fall", "interval_s", "cost_s"),
    [
        ("tcp", {}, fall_silent, 0.01, HOLD_S),
        ("tcp", {}, be_reported_away, 0.01, HOLD_S),
        ("tcp", {"in_flight": 4}, fall_silent, 0.01, 0.0),
        ("tcp", {"in_flight": 4}, be_reported_away, 0.01, 0.0),
        ("rtu-tcp", {}, fall_silent, 0.1, TIMEOUT_S),
        ("rtu-tcp", {}, be_heard_now_and_then, 0.1, TIMEOUT_S),
        ("serial", {}, fall_silent, 0.1, TIMEOUT_S),
    ],
)
@pytest.mark.parametrize("lived", [True, False])
def test_the_others_keep_their_asked_rate_while_units_are_away(
    transport: str,
    options: Mapping[str, int],
    fall: Callable[[FrailUnit], None],
    interval_s: float,
    cost_s: float,
    lived: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def polls() -> None:
        units = {number: FrailUnit() for number in (*LIVING, *FALLEN)}
        async with (
            reached(transport, units, tmp_path) as connection,
            polled(device_file({**connection, **options}, interval_s)) as tally,
        ):
            if lived:
                await tally.until(lambda: min(tally.good[str(unit)] for unit in units) >= 20)
            for number in FALLEN:
                fall(units[number])
            now = asyncio.get_running_loop().time
            fell_at = now()
            tally.good.clear()
            await tally.until(lambda: min(tally.failed[str(unit)] for unit in FALLEN) >= 1)
            slots = int((now() - fell_at) / interval_s)
            for unit in LIVING:
                assert tally.good[str(unit)] >= slots - 1 - len(FALLEN) * cost_s / interval_s, "from the fall on"
            tally.good.clear()
            tally.failed.clear()

            known_at = now()
            await tally.until(lambda: now() - known_at >= SLOTS * interval_s)

            for unit in LIVING:
                assert tally.good[str(unit)] >= SLOTS - 1, "once they are known to be away"
            await tally.until(lambda: min(tally.failed[str(unit)] for unit in FALLEN) >= 2)

    run_leaping(polls(), transit=Transit(monkeypatch))


@pytest.mark.parametrize(
    ("transport", "delay_s"), [("tcp", 0.0), ("tcp", 0.4), ("rtu-tcp", 0.0), ("rtu-tcp", 0.4), ("serial", 0.4)]
)
def test_a_unit_that_is_back_is_polled_again_also_if_it_is_slow_and_the_line_is_busy(
    transport: str, delay_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def polls() -> None:
        units = {number: FrailUnit() for number in (*LIVING, *FALLEN)}
        for number in FALLEN:
            units[number].silent = True
        async with reached(transport, units, tmp_path) as connection, polled(device_file(connection, 0.1)) as tally:
            await tally.until(lambda: min(tally.failed[str(unit)] for unit in FALLEN) >= 6)
            units[2].silent, units[2].delay_s = False, delay_s
            back_at = asyncio.get_running_loop().time()

            await tally.until(lambda: tally.good["2"] >= 1)
            found_at = asyncio.get_running_loop().time()
            await tally.until(lambda: tally.good["2"] >= 2)

            assert found_at - back_at <= 4 * TIMEOUT_S, "the first probe after its return finds it"

    run_leaping(polls(), transit=Transit(monkeypatch))
