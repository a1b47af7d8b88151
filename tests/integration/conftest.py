"""A PLC for each test; an InfluxDB for the tests of a module, and its database, empty, for each of them."""

import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from contracts.v1.device import ValueType
from plugins.drivers.modbus.simulated_unit import Unit
from plugins.drivers.modbus.simulator import ModbusSimulator
from services.runtime.commands.page import SUFFIX
from tests.histories import BUCKET, Influx
from tests.influx_proxy import influx_proxy
from tests.servers import influxd


@pytest.fixture
def unit() -> Unit:
    """What the PLC holds: 50.0 as a float32 in holding registers 10 and 11."""
    unit = Unit()
    unit.set_value("holding:10", ValueType.FLOAT32, 50.0)
    return unit


@pytest.fixture
async def plc(unit: Unit) -> AsyncIterator[ModbusSimulator]:
    """A Modbus server with `unit` as its unit 1."""
    async with ModbusSimulator(units={1: unit}) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def influx_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with influxd(tmp_path_factory.mktemp("influxd")) as url:
        yield url


@pytest.fixture
def influx(influx_server: str) -> Iterator[Influx]:
    with influx_proxy(influx_server) as api:
        place = Influx(influx_server, api)
        place.query(f"DROP DATABASE {BUCKET}")
        place.query(f"CREATE DATABASE {BUCKET}")
        yield place


class BookSync:
    """The sync of command books' pages. asked: there was one. allowed: it is done, or fails if there is an error."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.allowed = threading.Event()
        self.error: OSError | None = None
        self._sync = os.fdatasync

    def __call__(self, fd: int) -> None:
        if Path(f"/proc/self/fd/{fd}").readlink().suffix == SUFFIX:
            self.asked.set()
            self.allowed.wait(30)
            if self.error:
                raise self.error
        self._sync(fd)


@pytest.fixture
def book_sync(monkeypatch: pytest.MonkeyPatch) -> BookSync:
    """In place of the disk's own, until it is allowed."""
    sync = BookSync()
    monkeypatch.setattr(os, "fdatasync", sync)
    return sync
