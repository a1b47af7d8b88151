"""The driver that is there to be copied keeps the promises of every driver; copy this file with it."""

import socket
from collections.abc import AsyncIterator, Mapping

import pytest_asyncio

from plugins.api.bench import WallClock, device_spec
from plugins.api.driver import DeviceSpec, Driver, Value
from plugins.api.soundness import expect_device_error
from plugins.api.suite import DriverSuite, read_group
from plugins.drivers._template.driver import DRIVER
from plugins.drivers._template.simulator import Instrument, running


def spec(port: int, *, timeout: str = "2s") -> DeviceSpec:
    tags = {
        "level": {"quantity": "level", "type": "float64", "writable": True},
        "pump": {"quantity": "pump", "type": "bool", "writable": True},
        "recipe": {"quantity": "recipe", "type": "string", "writable": True},
    }
    connection = {"host": "127.0.0.1", "port": port, "timeout": timeout}
    return device_spec(DRIVER, connection=connection, groups={"all": {"interval": "1s", "tags": tags}})


class TemplateBench:
    """See plugins.api.bench.Bench."""

    driver: Driver = DRIVER
    written: Mapping[str, Value] = {"level": -1e300, "pump": True, "recipe": "Süßmost, naturtrüb"}
    deadline_s = 30.0

    def __init__(self, instrument: Instrument, *, absent_port: int) -> None:
        self.instrument = instrument
        self.device = spec(instrument.port)
        self.absent = spec(absent_port)

    async def stall(self) -> None:
        self.instrument.asked.clear()
        self.instrument.answering.clear()

    async def asked(self) -> None:
        await self.instrument.asked.wait()

    async def resume(self) -> None:
        self.instrument.answering.set()

    async def drop(self) -> None:
        self.instrument.drop()

    async def change(self, tag: str, value: Value) -> None:
        self.instrument.values[tag] = str(value)

    def writes_taken(self) -> int:
        return self.instrument.writes


class TestTemplate(DriverSuite):
    @pytest_asyncio.fixture
    async def bench(self) -> AsyncIterator[TemplateBench]:
        with socket.socket() as taken:
            # Bound and never listening: nobody else can get the port, and whoever connects to it is refused.
            taken.bind(("127.0.0.1", 0))
            async with running(Instrument({"level": "12.5", "pump": "OFF", "recipe": "Apfelsaft"})) as instrument:
                yield TemplateBench(instrument, absent_port=taken.getsockname()[1])

    async def test_an_instrument_that_does_not_answer_is_said_to_give_no_answer_in_time(
        self, bench: TemplateBench
    ) -> None:
        """Whether it is the connection or a question that takes too long."""
        await bench.stall()
        device = spec(bench.instrument.port, timeout="50ms")

        async def read() -> None:
            async with DRIVER.open(device, clock=WallClock()) as opened:
                await read_group(opened, device.groups[0])

        error = await expect_device_error(read())

        assert str(error).endswith(": no answer in time")
