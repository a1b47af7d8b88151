"""A wire between a client and a server that a test can cut, or let go dead without either end being told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import TypeVar


class Wire:
    """Forwards from a port of its own to the server's."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._alive = asyncio.Event()
        self._alive.set()
        self.port = 0
        self.connections = 0

    def cut(self) -> None:
        """Every connection breaks; new ones are possible."""
        for writer in self._writers:
            writer.transport.abort()

    def deaden(self) -> None:
        """Nothing passes any more, on old and new connections, and nobody is told."""
        self._alive.clear()

    def mend(self) -> None:
        """Ends deaden(); what was held back passes now."""
        self._alive.set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A client has come."""
        self.connections += 1
        self._writers.add(writer)
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target())
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(there_writer)
        self._tasks |= {
            asyncio.create_task(self._requests(reader, there_writer)),
            asyncio.create_task(self._answers(there_reader, writer)),
        }

    async def close(self) -> None:
        """Ends every connection."""
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _target(self) -> int:
        return self._server_port

    async def _requests(self, reader: asyncio.StreamReader, there: asyncio.StreamWriter) -> None:
        await self._forward(reader, there)

    async def _answers(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._forward(there, writer)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                await self._alive.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


W = TypeVar("W", bound=Wire)


@asynccontextmanager
async def stretched(wire: W) -> AsyncIterator[W]:
    """The wire takes clients, on its port."""
    server = await asyncio.start_server(wire.accept, "127.0.0.1", 0)
    wire.port = server.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        server.close()
        await wire.close()
        await server.wait_closed()


def wire_to(port: int) -> AbstractAsyncContextManager[Wire]:
    """A wire to a server of the loopback."""
    return stretched(Wire(port))
