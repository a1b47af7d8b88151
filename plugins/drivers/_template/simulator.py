"""The instrument itself, as a real server on loopback: what the driver is tried on."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager


class Instrument:
    """Answers each line with a line. values: each quantity's text, which a test may change at any time.

    answering: clear() it, and questions are taken and not answered. asked: set by every question.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = dict(values)
        self.answering = asyncio.Event()
        self.answering.set()
        self.asked = asyncio.Event()
        self.writes = 0
        self.port = 0
        self._connections: set[asyncio.StreamWriter] = set()

    def drop(self) -> None:
        """Breaks off every connection."""
        for writer in self._connections:
            writer.transport.abort()

    def answer(self, line: str) -> str:
        """What the instrument says to READ quantity and WRITE quantity value."""
        verb, _, rest = line.strip().partition(" ")
        quantity, _, value = rest.partition(" ")
        if verb not in {"READ", "WRITE"} or quantity not in self.values:
            return "ERROR"
        if verb == "READ":
            return self.values[quantity]
        self.values[quantity] = value
        return "OK"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one client until it goes."""
        self._connections.add(writer)
        try:
            while line := await reader.readline():
                self.asked.set()
                self.writes += line.startswith(b"WRITE")
                await self.answering.wait()
                writer.write(f"{self.answer(line.decode())}\n".encode())
        except ConnectionError:
            return
        finally:
            self._connections.discard(writer)
            writer.close()


@asynccontextmanager
async def running(instrument: Instrument) -> AsyncIterator[Instrument]:
    """The instrument serves on a free port, `instrument.port`."""
    server = await asyncio.start_server(instrument.serve, "127.0.0.1", 0)
    instrument.port = server.sockets[0].getsockname()[1]
    try:
        yield instrument
    finally:
        server.close()
        instrument.answering.set()
        instrument.drop()
        await server.wait_closed()
