"""The OPC UA driver and a real server with every type that it knows, behind a wire that the tests can stall and cut."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from typing import Any, TypeVar
from urllib.parse import urlsplit

from asyncua import ua

from plugins.api.bench import device_spec
from plugins.api.driver import DeviceSpec, Driver, Value
from plugins.drivers.opcua.driver import DRIVER
from plugins.drivers.opcua.simulator import NAMESPACE, OpcUaSimulator
from tests import tcp_proxy

T = TypeVar("T")

TIMEOUT = "1s"
TYPES: Mapping[str, ua.VariantType] = {
    "bool": ua.VariantType.Boolean,
    "int16": ua.VariantType.Int16,
    "uint16": ua.VariantType.UInt16,
    "int32": ua.VariantType.Int32,
    "uint32": ua.VariantType.UInt32,
    "int64": ua.VariantType.Int64,
    "uint64": ua.VariantType.UInt64,
    "float32": ua.VariantType.Float,
    "float64": ua.VariantType.Double,
    "string": ua.VariantType.String,
    "array": ua.VariantType.Double,
}
FIRST: Mapping[str, Any] = {
    "bool": False,
    "int16": 16,
    "uint16": 17,
    "int32": 32,
    "uint32": 33,
    "int64": 64,
    "uint64": 65,
    "float32": 0.5,
    "float64": 0.1,
    "string": "Apfelsaft",
    "array": [1.0, 2.0],
}
CHANGED: Mapping[str, Value] = {
    "bool": True,
    "int16": -(2**15),
    "uint16": 2**16 - 1,
    "int32": -(2**31),
    "uint32": 2**32 - 1,
    "int64": -(2**63),
    "uint64": 2**64 - 1,
    "float32": 62.5,
    "float64": 1e300,
    "string": "Süßmost",
    "array": [0.1, -1e300, 3.0],
}
LIVE = ("bool", "uint64", "float64", "string", "array")
"""The types of the group that is subscribed to."""

_READ = ua.ObjectIds.ReadRequest_Encoding_DefaultBinary
_WRITE = ua.ObjectIds.WriteRequest_Encoding_DefaultBinary


class ServerThread:
    """A server with a loop of its own, so that the tests of a module, each with its own loop, can share it."""

    def __init__(self, simulator: OpcUaSimulator) -> None:
        self.simulator = simulator
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="opcua server")

    async def do(self, call: Coroutine[Any, Any, T]) -> T:
        """Runs one of the simulator's methods where the simulator lives."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call, self._loop))

    def start(self) -> None:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.simulator.start(), self._loop).result(90)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    async def _end(self) -> None:
        await self.simulator.stop()
        # asyncua leaves tasks behind for sessions that were broken off.
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


@contextmanager
def serving(simulator: OpcUaSimulator) -> Iterator[ServerThread]:
    """The simulator runs in a thread meanwhile."""
    server = ServerThread(simulator)
    server.start()
    try:
        yield server
    finally:
        server.stop()


class Wire(tcp_proxy.Wire):
    """Between clients and the server: counts what is asked, and can hold the answers back or break off.

    server_url: where the next connection leads. reads, writes: requests of each kind that have reached the server.
    last_write: the last one that wrote, without its first 8 bytes.
    """

    def __init__(self, server_url: str) -> None:
        super().__init__(0)
        self.server_url = server_url
        self.asked = asyncio.Event()
        self.answering = asyncio.Event()
        self.answering.set()
        self.reads = 0
        self.writes = 0
        self.last_write = b""

    @property
    def url(self) -> str:
        return f"opc.tcp://127.0.0.1:{self.port}{urlsplit(self.server_url).path}"

    def stall(self) -> None:
        """The server gets every request; its answers stay on the way until answering is set."""
        self.asked.clear()
        self.answering.clear()

    def drop(self) -> None:
        """Every connection breaks."""
        self.cut()
        self.answering.set()

    def _target(self) -> int:
        return urlsplit(self.server_url).port or 0

    async def _requests(self, reader: asyncio.StreamReader, there: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                # OPC 10000-6, 7.1.2.2 and 6.7.2: type, chunk mark, size; channel, token, sequence, request; node id.
                head = await reader.readexactly(8)
                body = await reader.readexactly(int.from_bytes(head[4:], "little") - 8)
                there.write(head + body)
                if head[:3] == b"MSG":
                    self._count(body)
        there.close()

    def _count(self, body: bytes) -> None:
        request = int.from_bytes(body[18:20], "little")
        self.reads += request == _READ
        self.writes += request == _WRITE
        self.last_write = body if request == _WRITE else self.last_write
        if request in {_READ, _WRITE}:
            self.asked.set()

    async def _answers(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await there.read(1 << 16):
                await self.answering.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


def wire_to(server_url: str) -> AbstractAsyncContextManager[Wire]:
    """A wire to the server; its `url` is the one to connect to."""
    return tcp_proxy.stretched(Wire(server_url))


class OpcUaBench:
    """See plugins.api.bench.Bench."""

    driver: Driver = DRIVER
    written: Mapping[str, Value] = {
        **{f"polled-{kind}": value for kind, value in CHANGED.items()},
        **{f"live-{kind}": CHANGED[kind] for kind in LIVE},
    }
    deadline_s = 15.0

    def __init__(self, server: ServerThread, wire: Wire, *, absent_port: int) -> None:
        self.server = server
        self.wire = wire
        self.device = bench_spec(wire.url)
        self.absent = bench_spec(f"opc.tcp://127.0.0.1:{absent_port}/dinrail")

    async def stall(self) -> None:
        self.wire.stall()

    async def asked(self) -> None:
        await self.wire.asked.wait()

    async def resume(self) -> None:
        self.wire.answering.set()

    async def drop(self) -> None:
        self.wire.drop()

    async def change(self, tag: str, value: Value) -> None:
        held: Any = value
        await self.server.do(self.server.simulator.set(tag, held))

    def writes_taken(self) -> int:
        return self.wire.writes


def node(name: str, kind: str, **fields: object) -> dict[str, Any]:
    """A tag of the simulator's variable of that name."""
    return {"node": f"nsu={NAMESPACE};s={name}", "type": kind, **fields}


def spec_of(url: str, groups: Mapping[str, Mapping[str, Any]], **connection: object) -> DeviceSpec:
    return device_spec(DRIVER, connection={"url": url, "timeout": TIMEOUT, **connection}, groups=groups)


def device_of(wire: Wire, tags: Mapping[str, Any], *, timeout: str = "2s", **group: object) -> DeviceSpec:
    """A device with these tags in its one group."""
    return spec_of(wire.url, {"all": {"interval": "50ms", **group, "tags": tags}}, timeout=timeout)


def bench_spec(url: str) -> DeviceSpec:
    """Every type in a group that is polled, some in one that is subscribed to, all writable."""
    polled = {f"polled-{kind}": node(f"polled-{kind}", kind, writable=True) for kind in TYPES}
    live = {f"live-{kind}": node(f"live-{kind}", kind, writable=True) for kind in LIVE}
    groups = {
        "polled": {"interval": "1s", "mode": "poll", "tags": polled},
        "live": {"interval": "50ms", "tags": live},
    }
    return spec_of(url, groups)


def bench_simulator() -> OpcUaSimulator:
    """A server, not started yet, with the variables of bench_spec."""
    names = {**{f"polled-{kind}": kind for kind in TYPES}, **{f"live-{kind}": kind for kind in LIVE}}
    return OpcUaSimulator(
        nodes={name: FIRST[kind] for name, kind in names.items()},
        types={name: TYPES[kind] for name, kind in names.items()},
    )


@asynccontextmanager
async def opcua_bench(server: ServerThread) -> AsyncIterator[OpcUaBench]:
    """A bench on a server that runs, with every variable at its first value; `absent` is a port nobody listens on."""
    simulator = server.simulator
    for name, kind in {**{f"polled-{kind}": kind for kind in TYPES}, **{f"live-{kind}": kind for kind in LIVE}}.items():
        await server.do(simulator.set(name, FIRST[kind]))
    with socket.socket() as taken:
        # Bound and never listening: nobody else can get the port, and whoever connects to it is refused.
        taken.bind(("127.0.0.1", 0))
        async with wire_to(simulator.url) as wire:
            yield OpcUaBench(server, wire, absent_port=taken.getsockname()[1])
