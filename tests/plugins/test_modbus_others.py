"""The Modbus driver against a server of libmodbus, which shares no code with us."""

import asyncio
import os
import sys
import tty
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from typer.testing import CliRunner

from contracts.v1.frame_codec import QualityStruct
from plugins.api.bench import WallClock, device_spec
from plugins.api.driver import Device
from plugins.api.soundness import expect_device_error
from plugins.drivers.modbus.driver import ModbusDriver
from services.cli.main import app
from tests.others import libmodbus_server
from tests.others.libmodbus import library_path

SERVER = Path(libmodbus_server.__file__)
TAGS = {
    "coil": {"address": "coil:9", "type": "bool", "writable": True},
    "discrete": {"address": "discrete:4", "type": "bool"},
    "input": {"address": "input:7", "type": "uint16"},
    "word": {"address": "holding:5", "type": "uint16", "writable": True},
    "real": {"address": "holding:20", "type": "float32", "order": "CDAB", "writable": True},
    "bit": {"address": "holding:40", "bit": 3, "type": "bool", "writable": True},
    "last": {"address": "holding:199", "type": "uint16"},
    "beyond": {"address": "holding:201", "type": "uint16"},
}


pytestmark = pytest.mark.others


@asynccontextmanager
async def server(*arguments: str) -> AsyncIterator[list[str]]:
    """Runs it; gives what it printed before it was ready."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SERVER), library_path(), *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        said = []
        async with asyncio.timeout(30):
            while (line := (await process.stdout.readline()).decode().strip()) != "ready":
                assert line, "the server has ended"
                said.append(line)
        yield said
    finally:
        process.kill()
        await process.wait()


@contextmanager
def cable() -> Iterator[tuple[str, str]]:
    """Two serial ports that are connected, made of two pseudo-terminals."""
    loop = asyncio.get_running_loop()
    (near, near_port), (far, far_port) = os.openpty(), os.openpty()
    for port in (near_port, far_port):
        tty.setraw(port)
    loop.add_reader(near, lambda: os.write(far, os.read(near, 4096)))
    loop.add_reader(far, lambda: os.write(near, os.read(far, 4096)))
    yield os.ttyname(near_port), os.ttyname(far_port)
    for end in (near, far):
        loop.remove_reader(end)
    for end in (near, far, near_port, far_port):
        os.close(end)


@pytest_asyncio.fixture(params=["tcp", "serial"])
async def connection(request: pytest.FixtureRequest) -> AsyncIterator[dict[str, Any]]:
    unit = {"unit_id": libmodbus_server.UNIT, "timeout": "2s"}
    if request.param == "tcp":
        async with server("tcp") as (port,):
            yield {"host": "127.0.0.1", "port": int(port), **unit}
        return
    with cable() as (ours, theirs):
        async with server("rtu", theirs):
            serial = {"port": ours, "baudrate": 115200, "parity": "none"}
            yield {"transport": "serial", "serial": serial, **unit}


@asynccontextmanager
async def opened(connection: dict[str, Any]) -> AsyncIterator[Device]:
    spec = device_spec(ModbusDriver(), connection=connection, groups={"all": {"tags": TAGS}})
    async with ModbusDriver().open(spec, clock=WallClock()) as device:
        yield device


async def test_every_table_is_read_and_what_lies_beyond_spoils_no_neighbour(connection: dict[str, Any]) -> None:
    async with opened(connection) as device:
        for _ in range(3):
            reading = await device.read("all")

    good = {tag: value for tag, value in reading.values.items() if tag not in reading.quality}
    assert good == {
        "coil": True,
        "discrete": False,
        "input": 1007,
        "word": 5,
        "real": pytest.approx(1.928e-39, rel=0.001),
        "bit": True,
        "last": 199,
    }
    assert reading.quality == {"beyond": QualityStruct(0, "device", 2)}


@pytest.mark.parametrize("functions", [{}, {"write_coil": 15, "write_register": 16, "write_bit": "read-modify-write"}])
async def test_what_is_written_is_read_back(connection: dict[str, Any], functions: dict[str, Any]) -> None:
    written = {"coil": False, "word": 54321, "real": -2.5, "bit": False}
    async with opened({**connection, **functions}) as device:
        for tag, value in written.items():
            await device.write(tag, value)
        reading = await device.read("all")

    assert {tag: reading.values[tag] for tag in written} == written


async def test_a_write_beyond_the_last_register_is_refused_with_the_code(connection: dict[str, Any]) -> None:
    tags = {"far": {"address": "holding:300", "type": "uint16", "writable": True}}
    spec = device_spec(ModbusDriver(), connection=connection, groups={"all": {"tags": tags}})
    async with ModbusDriver().open(spec, clock=WallClock()) as device:
        error = await expect_device_error(device.write("far", 1))

    assert (error.cause, error.code) == ("device", 2)


async def test_a_scan_finds_its_last_register() -> None:
    async with server("tcp") as (port,):
        arguments = ["modbus", "scan", f"127.0.0.1:{port}", "--registers=holding:195-250", "--rate=1000"]
        result = await asyncio.to_thread(CliRunner().invoke, app, arguments)

    assert "holding:200-250" in result.stdout
    assert "unit 1: 5 of 56 can be read" in result.stdout
