"""Several units on one connection: whatever becomes of one, the others are polled as often as was asked for."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random

import pytest

from plugins.api.bench import device_spec
from plugins.api.driver import DeviceError, DeviceSpec, Reading
from plugins.drivers.modbus.driver import ModbusDriver
from plugins.drivers.modbus.simulator import ModbusSimulator, Unit
from services.gateway.poller import Poller
from services.runtime.retry import Backoff
from tests.plugins.leaping_loop import LoopClock, run_leaping

INTERVAL_S = 0.01
SLOTS = 400
LIVING = (1, 3)
FALLEN = 2


def device_file(port: int) -> DeviceSpec:
    connection = {"host": "127.0.0.1", "port": port, "timeout": "400ms"}
    tag = {"address": "holding:0", "type": "uint16"}
    groups = {
        str(unit): {"interval": f"{INTERVAL_S * 1000:g}ms", "unit_id": unit, "tags": {f"tag-{unit}": tag}}
        for unit in (*LIVING, FALLEN)
    }
    return device_spec(ModbusDriver(), connection=connection, groups=groups)


class Tally:
    """A poller's listener that counts good and failed polls by group, and lost slots altogether."""

    def __init__(self) -> None:
        self.good: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()

    def on_reading(self, group: str, reading: Reading) -> None:
        self.good[group] += 1

    def on_failure(self, group: str, error: DeviceError) -> None:
        self.failed[group] += 1

    def on_poll(self, reading: Reading | None, *, seconds: float, overruns: int) -> None:
        pass


async def no_wait() -> None:
    pass


@asynccontextmanager
async def polled(device: DeviceSpec) -> AsyncIterator[Tally]:
    """The device, polled as the gateway does it."""
    tally, clock = Tally(), LoopClock()
    async with ModbusDriver().open(device, clock=clock) as opened:
        poller = Poller(
            device=opened,
            spec=device,
            listener=tally,
            room=no_wait,
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


def fall_silent(unit: Unit) -> None:
    unit.silent = True


def be_reported_away(unit: Unit) -> None:
    """As a gateway does, after it has waited for the unit in vain."""
    unit.delay_s = 0.3
    unit.tamper = lambda answer: bytes([answer[0] | 0x80, 11])


@pytest.mark.parametrize("fall", [fall_silent, be_reported_away])
def test_the_others_keep_their_asked_rate_while_a_unit_is_away(fall: Callable[[Unit], None]) -> None:
    async def polls() -> None:
        units = {number: Unit() for number in (*LIVING, FALLEN)}
        async with ModbusSimulator(units=units) as simulator, polled(device_file(simulator.port)) as tally:
            await asyncio.sleep(20 * INTERVAL_S)
            fall(units[FALLEN])
            tally.good.clear()

            await asyncio.sleep(SLOTS * INTERVAL_S)

            assert tally.failed[str(FALLEN)] >= 5, "it is tried all the while"
            for unit in LIVING:
                assert tally.good[str(unit)] >= SLOTS - 2, "slots are lost only until it is known to be away"

    run_leaping(polls())
