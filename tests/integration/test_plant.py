"""The demo plant over its real sockets: what the drivers read is what the model holds, and what they write arrives."""

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from examples.plant.modbus_server import PlantModbusServer
from examples.plant.model import Alarms, Plant
from examples.plant.opcua_server import PlantOpcUaServer
from examples.plant.signals import BITS, ENERGY_METER, FILLER_PLC, NODES, PASTEURISER, REGISTERS
from plugins.api.bench import WallClock, device_spec
from plugins.api.document import Document
from plugins.api.driver import Device, DeviceError, DeviceSpec, Reading, Value
from plugins.api.registry import Registry
from plugins.api.soundness import assert_sound, tags_of
from plugins.api.suite import read_group

ROOT = Path(__file__).parents[2]
BAD_SENSOR_FAILURE = 0x808C0000
DRIVERS = Registry([ROOT / "plugins" / "drivers"], kind="driver")


def content_of(device: str) -> dict[str, Any]:
    path = ROOT / "examples" / "plant" / "devices" / f"{device}.yaml"
    data = Document.parse(path.read_text(encoding="utf-8"), source=path.name).data
    assert isinstance(data, dict)
    return data


class Opened:
    """A device of the plant, opened by its driver."""

    def __init__(self, spec: DeviceSpec, device: Device) -> None:
        self._spec = spec
        self._device = device
        self._groups = {tag.name: group for group in spec.groups for tag in group.tags}

    async def read_all(self) -> dict[str, Value]:
        """Every tag of every group; all must be good."""
        values: dict[str, Value] = {}
        for group in self._spec.groups:
            reading = await read_group(self._device, group)
            assert_sound(reading, tags_of(group))
            assert not reading.quality
            values |= reading.values
        return values

    async def read(self, tag: str) -> Reading:
        """The group of this tag."""
        return await read_group(self._device, self._groups[tag])

    async def write(self, tag: str, value: Value) -> None:
        """Writes one tag."""
        await self._device.write(tag, value)

    async def value(self, tag: str) -> Value:
        """This tag's value."""
        return (await self.read(tag)).values[tag]


@asynccontextmanager
async def opened(name: str, **connection: object) -> AsyncIterator[Opened]:
    """The device of this name with these fields of its connection replaced."""
    content = content_of(name)
    driver = DRIVERS.load(content["driver"]).entry
    connection = content["connection"] | connection
    spec = device_spec(driver, connection=connection, groups=content["groups"], name=name)
    assert list(driver.check(spec)) == []
    async with asyncio.timeout(30), driver.open(spec, clock=WallClock()) as device:
        yield Opened(spec, device)


class ModbusBench:
    """The plant at rest behind its Modbus server."""

    def __init__(self, plant: Plant, server: PlantModbusServer) -> None:
        self.plant = plant
        self._server = server
        self._now = 0.0

    def step(self, seconds: float) -> None:
        """The plant's next seconds, served."""
        self._now += seconds
        self.plant.step(seconds)
        self._server.refresh(self._now)

    def open(self, name: str = FILLER_PLC, *, timeout: str = "5s") -> AbstractAsyncContextManager[Opened]:
        """One of its devices."""
        return opened(name, port=self._server.port, timeout=timeout, retries=0)


class OpcUaBench:
    """The plant at rest behind its OPC UA server."""

    def __init__(self, plant: Plant, server: PlantOpcUaServer) -> None:
        self.plant = plant
        self._server = server

    async def step(self, seconds: float) -> None:
        """The plant's next seconds, served."""
        self.plant.step(seconds)
        await self._server.refresh()

    def open(self) -> AbstractAsyncContextManager[Opened]:
        """Its one device."""
        return opened(PASTEURISER, url=self._server.url)


@pytest.fixture
def plant() -> Plant:
    plant = Plant.from_seed(11)
    plant.step(20.0)
    return plant


@pytest_asyncio.fixture
async def modbus(plant: Plant) -> AsyncIterator[ModbusBench]:
    async with PlantModbusServer(plant=plant, host="127.0.0.1", port=0) as server:
        yield ModbusBench(plant, server)


@pytest_asyncio.fixture
async def opcua(plant: Plant) -> AsyncIterator[OpcUaBench]:
    async with PlantOpcUaServer(plant=plant, host="127.0.0.1", port=0) as server:
        yield OpcUaBench(plant, server)


def assert_equal(tag: str, value: Value, model: object, resolution: float) -> None:
    if isinstance(value, float):
        assert isinstance(model, int | float)
        assert value == pytest.approx(model, rel=1e-6, abs=resolution), tag
    elif isinstance(value, list):
        assert isinstance(model, Iterable)
        assert value == pytest.approx(list(model)), tag
    elif isinstance(value, bool) or not isinstance(value, int):
        assert value == model, tag
    else:
        assert isinstance(model, int | float)
        assert value == round(model), tag


@pytest.mark.parametrize("name", [FILLER_PLC, ENERGY_METER])
async def test_each_tag_of_a_modbus_device_is_the_models_value(modbus: ModbusBench, name: str) -> None:
    async with modbus.open(name) as device:
        values = await device.read_all()

    for register in (register for register in REGISTERS if register.device == name):
        resolution = 0.51 * register.scale if register.scale != 1.0 else 1e-6
        assert_equal(register.tag, values[register.tag], attrgetter(register.path)(modbus.plant), resolution)
    for bit in (bit for bit in BITS if bit.device == name):
        assert values[bit.tag] == bool(modbus.plant.alarms & Alarms(1 << bit.bit)), bit.tag


async def test_each_tag_of_the_pasteuriser_is_the_models_value(opcua: OpcUaBench) -> None:
    async with opcua.open() as device:
        values = await device.read_all()

    for node in NODES:
        assert_equal(node.tag, values[node.tag], attrgetter(node.path)(opcua.plant), 1e-6)


@pytest.mark.parametrize(
    ("name", "tag", "value", "path"),
    [
        (FILLER_PLC, "level-set-point", 45.5, "tank.set_point_pct"),
        (FILLER_PLC, "mixer-set-point", 120, "mixer.speed_set_point_rpm"),
        (FILLER_PLC, "recipe", "Zürich Spritz", "recipe"),
        (FILLER_PLC, "run", False, "run"),
        (ENERGY_METER, "air-set-point", 7.25, "compressor.set_point_bar"),
        (ENERGY_METER, "compressor-enabled", False, "compressor.enabled"),
    ],
)
async def test_what_is_written_to_a_register_moves_the_plant_and_stays(
    modbus: ModbusBench, name: str, tag: str, value: Value, path: str
) -> None:
    async with modbus.open(name) as device:
        assert await device.value(tag) != value

        await device.write(tag, value)
        assert attrgetter(path)(modbus.plant) == value
        modbus.step(0.1)

        assert await device.value(tag) == value


async def test_what_is_written_to_a_variable_moves_the_plant_and_stays(opcua: OpcUaBench) -> None:
    written: dict[str, tuple[Value, str]] = {
        "set-point": (68.5, "pasteuriser.set_point_c"),
        "trim": (-12, "pasteuriser.trim"),
        "recipe": ("Cola", "recipe"),
        "enabled": (False, "pasteuriser.enabled"),
    }
    async with opcua.open() as device:
        for tag, (value, path) in written.items():
            assert await device.value(tag) != value

            await device.write(tag, value)
            assert attrgetter(path)(opcua.plant) == value
            await opcua.step(0.1)

            assert await device.value(tag) == value


async def test_a_set_point_beyond_its_limit_is_read_back_as_the_limit(modbus: ModbusBench) -> None:
    async with modbus.open() as device:
        await device.write("level-set-point", 99.0)
        modbus.step(0.1)

        assert await device.value("level-set-point") == 85.0


async def test_a_recipe_that_the_plant_does_not_know_is_not_kept(opcua: OpcUaBench) -> None:
    async with opcua.open() as device:
        await device.write("recipe", "Lava")
        await opcua.step(0.1)

        assert await device.value("recipe") == "Lemonade"


async def test_a_broken_level_sensor_makes_its_tag_bad_and_no_other(modbus: ModbusBench) -> None:
    async with modbus.open() as device:
        await device.write("fault-level-broken", True)
        modbus.step(0.1)
        broken = await device.read("tank-level")
        await device.write("fault-level-broken", False)
        modbus.step(0.1)
        mended = await device.read("tank-level")

    assert broken.values["tank-level"] is None
    assert set(broken.quality) == {"tank-level"}
    assert mended.values["tank-level"] == pytest.approx(modbus.plant.tank.sensor.value)


async def test_a_stuck_level_sensor_repeats_its_value(modbus: ModbusBench) -> None:
    async with modbus.open() as device:
        await device.write("fault-level-stuck", True)
        modbus.step(0.1)
        first = await device.value("tank-level")
        modbus.step(5.0)

        assert await device.value("tank-level") == first


async def test_the_plc_is_silent_for_as_long_as_asked_and_the_meter_beside_it_is_not(modbus: ModbusBench) -> None:
    async with modbus.open(timeout="500ms") as plc, modbus.open(ENERGY_METER) as meter:
        await plc.write("fault-silent-seconds", 5)
        modbus.step(0.1)

        with pytest.raises(DeviceError):
            await plc.value("tank-level")
        assert await meter.value("active-power") is not None
        modbus.step(4.5)
        with pytest.raises(DeviceError):
            await plc.value("tank-level")
        modbus.step(0.6)

    async with modbus.open() as plc:
        assert await plc.value("tank-level") is not None
        modbus.step(0.1)
        assert await plc.value("fault-silent-seconds") == 0


async def test_connections_are_dropped_once(modbus: ModbusBench) -> None:
    async with modbus.open() as device:
        await device.write("fault-drop", True)
        modbus.step(0.1)

        with pytest.raises(DeviceError):
            await device.value("tank-level")

    async with modbus.open() as device:
        modbus.step(0.1)
        assert await device.value("fault-drop") is False


async def test_a_failed_temperature_sensor_makes_its_tag_bad_by_nan_or_by_status(opcua: OpcUaBench) -> None:
    async with opcua.open() as device:
        await device.write("fault-temperature-broken", True)
        await opcua.step(0.1)
        broken = await device.read("temperature")
        await device.write("fault-temperature-broken", False)
        await device.write("fault-bad-status", True)
        await opcua.step(0.1)
        failed = await device.read("temperature")
        await device.write("fault-bad-status", False)
        await opcua.step(0.1)
        mended = await device.read("temperature")

    assert broken.values["temperature"] is None
    assert set(broken.quality) == {"temperature"}
    assert broken.values["diverting"] is True
    assert failed.values["temperature"] is None
    assert failed.quality["temperature"].code == BAD_SENSOR_FAILURE
    assert mended.values["temperature"] == pytest.approx(opcua.plant.pasteuriser.sensor.value)
    assert not mended.quality


@asynccontextmanager
async def simulation(*options: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "examples.plant.simulate", *options, cwd=ROOT, stdout=PIPE, stderr=PIPE, env=os.environ
    )
    try:
        async with asyncio.timeout(60):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_the_process_says_when_it_is_ready_runs_and_ends_cleanly_with_sigterm() -> None:
    async with simulation("--modbus-port", "0", "--opcua-port", "0", "--fault", "level-broken") as process:
        assert process.stdout
        assert process.stderr
        ready = (await process.stdout.readline()).decode()
        assert ready.startswith("plant ready: Modbus TCP on 127.0.0.1:")
        port = int(ready.partition("127.0.0.1:")[2].partition(",")[0])

        async with opened(FILLER_PLC, port=port) as device:
            angle = await device.value("star-wheel-angle")
            while await device.value("star-wheel-angle") == angle:  # the whole test has a deadline
                continue
            assert (await device.read("tank-level")).quality.keys() == {"tank-level"}
        process.send_signal(signal.SIGTERM)

        assert await process.wait() == 0
        assert await process.stderr.read() == b""


async def test_a_taken_port_is_named_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with simulation("--modbus-port", str(port), "--opcua-port", "0") as process:
            out, err = await process.communicate()

    assert process.returncode == 1
    assert out == b""
    assert err.decode().startswith("plant cannot listen: ")
    assert str(port) in err.decode()
    assert len(err.decode().splitlines()) == 1
