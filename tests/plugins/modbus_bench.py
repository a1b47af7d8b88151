"""The Modbus driver and a simulated device with every type that it knows, in every table, on every transport."""

import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from contracts.v1.device import ValueType
from plugins.api.bench import device_spec
from plugins.api.driver import DeviceSpec, Driver, TagSpec, Value
from plugins.drivers.modbus.driver import DRIVER
from plugins.drivers.modbus.rtu_simulator import RtuSimulator, SerialSimulator
from plugins.drivers.modbus.simulator import Cell, ModbusSimulator, Unit

TIMEOUT_MS = 400
Drop = Callable[[], Awaitable[None]]
TAGS: Mapping[str, Mapping[str, Any]] = {
    "ready": {"address": "coil:5", "type": "bool", "writable": True},
    "door-open": {"address": "discrete:7", "type": "bool"},
    "alarm": {"address": "holding:0", "bit": 15, "type": "bool", "writable": True},
    "warning": {"address": "holding:0", "bit": 3, "type": "bool"},
    "count-16": {"address": "holding:1", "type": "int16", "writable": True},
    "count-u16": {"address": "holding:2", "type": "uint16", "order": "BADC", "writable": True},
    "count-32": {"address": "holding:3", "type": "int32", "order": "CDAB", "writable": True},
    "count-u32": {"address": "holding:5", "type": "uint32", "order": "BADC", "writable": True},
    "count-64": {"address": "holding:7", "type": "int64", "order": "GHEFCDAB", "writable": True},
    "count-u64": {"address": "holding:11", "type": "uint64", "order": "DCBA", "writable": True},
    "level": {"address": "holding:15", "type": "float32", "writable": True},
    "energy": {"address": "holding:17", "type": "float64", "order": "HGFEDCBA", "writable": True},
    "recipe": {"address": "holding:21", "type": "string", "length": 8, "writable": True},
    "temperature": {
        "address": "holding:29",
        "type": "float32",
        "raw": "int16",
        "scale": 0.1,
        "offset": -40.0,
        "writable": True,
    },
    "torque": {"address": "input:3", "type": "float32", "order": "CDAB"},
}
WRITTEN: Mapping[str, Value] = {
    "ready": True,
    "alarm": True,
    "count-16": -1234,
    "count-u16": 54321,
    "count-32": -(2**31),
    "count-u32": 2**32 - 2,
    "count-64": -(2**63),
    "count-u64": 2**64 - 2,
    "level": 62.5,
    "energy": 1e300,
    "recipe": "Süßmost",
    "temperature": 21.5,
}


class ModbusBench:
    """See plugins.api.bench.Bench."""

    driver: Driver = DRIVER
    written = WRITTEN
    deadline_s = 15.0

    def __init__(self, unit: Unit, *, drop: Drop, connection: Mapping[str, Any], absent: Mapping[str, Any]) -> None:
        self.unit = unit
        self.device = spec(connection)
        self.absent = spec(absent)
        self._drop = drop

    async def stall(self) -> None:
        self.unit.asked.clear()
        self.unit.silent = True

    async def asked(self) -> None:
        await self.unit.asked.wait()

    async def resume(self) -> None:
        self.unit.silent = False

    async def drop(self) -> None:
        await self._drop()

    async def change(self, tag: str, value: Value) -> None:
        cell_of(self.unit, tags(self.device)[tag]).set(value)

    def writes_taken(self) -> int:
        return self.unit.writes


def spec(connection: Mapping[str, Any]) -> DeviceSpec:
    """The device file's content."""
    fields = {"unit_id": 1, "timeout": f"{TIMEOUT_MS}ms", **connection}
    return device_spec(DRIVER, connection=fields, groups={"all": {"interval": "1s", "tags": TAGS}})


def tags(device: DeviceSpec) -> dict[str, TagSpec]:
    return {tag.name: tag for group in device.groups for tag in group.tags}


def cell_of(unit: Unit, tag: TagSpec) -> Cell:
    return Cell(unit, tag.type, tag.source)


@contextmanager
def absent_port() -> Iterator[int]:
    """A port that nothing listens on."""
    with socket.socket() as taken:
        # Bound and never listening: nobody else can get the port, and whoever connects to it is refused.
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def bench_unit() -> Unit:
    unit = Unit()
    unit.set_value("holding:21", ValueType.STRING, "Apfelsaft", length=8)
    return unit


@asynccontextmanager
async def modbus_bench(
    *, tls: ssl.SSLContext | None = None, more: Mapping[str, Any] | None = None
) -> AsyncIterator[ModbusBench]:
    """A running bench, over TCP or TLS. more: further fields of the connection."""
    unit = bench_unit()
    with absent_port() as nowhere:
        async with ModbusSimulator(units={1: unit}, tls=tls) as simulator:

            async def drop() -> None:
                simulator.drop()

            connection = {"host": "127.0.0.1", **(more or {})}
            yield ModbusBench(
                unit,
                drop=drop,
                connection={**connection, "port": simulator.port},
                absent={**connection, "port": nowhere},
            )


@asynccontextmanager
async def rtu_bench() -> AsyncIterator[ModbusBench]:
    """A running bench of RTU frames over TCP."""
    unit = bench_unit()
    with absent_port() as nowhere:
        async with RtuSimulator(units={1: unit}) as simulator:

            async def drop() -> None:
                simulator.drop()

            connection = {"transport": "rtu-tcp", "host": "127.0.0.1"}
            yield ModbusBench(
                unit,
                drop=drop,
                connection={**connection, "port": simulator.port},
                absent={**connection, "port": nowhere},
            )


def serial_connection(path: Path) -> dict[str, Any]:
    return {"transport": "serial", "serial": {"port": str(path), "baudrate": 115200, "parity": "none"}}


@asynccontextmanager
async def serial_bench(folder: Path) -> AsyncIterator[ModbusBench]:
    """A running bench on a pseudo-terminal."""
    unit = bench_unit()
    async with SerialSimulator(units={1: unit}, path=folder / "tty") as simulator:

        async def replug() -> None:
            await simulator.stop()
            await simulator.start()

        connection = serial_connection(simulator.path)
        yield ModbusBench(unit, drop=replug, connection=connection, absent=serial_connection(folder / "none"))
