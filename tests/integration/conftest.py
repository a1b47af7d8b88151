"""A PLC for each test; an InfluxDB for the tests of a module, and its database, empty, for each of them."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from contracts.v1.device import ValueType
from plugins.drivers.modbus.simulated_unit import Unit
from plugins.drivers.modbus.simulator import ModbusSimulator
from tests.histories import BUCKET, Embedded, Influx, Place
from tests.influx_proxy import influx_proxy
from tests.recorder_rig import Rig, rig
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


@pytest.fixture(params=["embedded", "influxdb"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where values are recorded: a test is done with each kind of history."""
    if request.param == "embedded":
        return Embedded(tmp_path / "recorder.db")
    return request.getfixturevalue("influx")


@pytest.fixture
async def recorder(place: Place, tmp_path: Path) -> AsyncIterator[Rig]:
    """A recorder that records into `place`."""
    async with rig(tmp_path / "recorder.db", place.store()) as open_rig:
        yield open_rig
