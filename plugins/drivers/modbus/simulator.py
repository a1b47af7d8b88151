"""A Modbus TCP server for tests, demonstrations and measurements: real sockets, registers to set, faults to switch on.

    unit = Unit()
    unit.set_value("holding:10", ValueType.FLOAT32, 50.0, order="CDAB")
    async with ModbusSimulator(units={1: unit}) as simulator:
        ...                                   # connect to simulator.port
        unit.holding[12] = 4711               # any time; the next request sees it
        unit.silent = True                    # faults of a unit: see Unit
        simulator.drop()                      # and of the connection

Functions 1-6, 15, 16 and 22 of the Modbus Application Protocol V1.1b3. It is a server of our own because the one of
pymodbus serves at most 5,000 requests/s, which would be the limit of what is measured with it, and because it cannot
be silent, late or wrong on demand.
"""

import asyncio
import ssl
import struct
from collections.abc import Mapping
from types import TracebackType
from typing import Self, cast

from .simulated_unit import Access, Bits, Cell, Registers, Unit

TARGET_FAILED_TO_RESPOND = 11
_HEADER = struct.Struct(">HHHB")
_MIN_LENGTH, _MAX_LENGTH = 2, 262
"""Bytes after the length field: unit and function at least, and at most what a count of 255 bytes can announce. The
protocol ends at 254 (MODBUS Messaging on TCP/IP V1.0b, 3.1.3); a write that is too long by a bit is answered, as
devices do, with an exception."""


class ModbusSimulator:
    """Serves its units while entered. port: where, chosen by the system if it is given as 0. tls: for TLS clients only.

    A unit that it does not have is answered with exception 11, as a gateway does.
    """

    def __init__(
        self,
        *,
        units: Mapping[int, Unit],
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._tls = tls
        self.units = units
        self.host = host
        self.port = port
        self.accepted = 0
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listens. Raises OSError if the port is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), self.host, self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Listens no more and breaks off every connection. start() then takes the same port again."""
        if self._server is None:
            return
        self._server.close()
        self.drop()
        await self._server.wait_closed()
        self._server = None

    def drop(self) -> None:
        """Breaks off every connection; new ones are taken."""
        for connection in list(self._connections):
            connection.abort()

    @property
    def connected(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    def opened(self, connection: "_Connection") -> None:
        """A client has connected."""
        self.accepted += 1
        self._connections.add(connection)

    def closed(self, connection: "_Connection") -> None:
        """A client has gone."""
        self._connections.discard(connection)


class _Connection(asyncio.Protocol):
    """One client. Answers in the order of the requests."""

    def __init__(self, simulator: ModbusSimulator) -> None:
        self._simulator = simulator
        self._units = simulator.units
        self._loop = asyncio.get_running_loop()
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Both asyncio and uvloop have set TCP_NODELAY."""
        # No isinstance: uvloop's transports are asyncio.Transport by behaviour only.
        self._transport = cast("asyncio.Transport", transport)
        self._simulator.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone, or was dropped."""
        self._transport = None
        self._simulator.closed(self)

    def abort(self) -> None:
        """Breaks off at once, what is unsent with it."""
        if self._transport:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Answers every whole request in what has come so far; a client that speaks something else is dropped."""
        data = self._rest + data
        start = 0
        while len(data) - start >= _HEADER.size + 1:
            transaction, protocol, length, unit = _HEADER.unpack_from(data, start)
            if protocol or not _MIN_LENGTH <= length <= _MAX_LENGTH:
                self.abort()
                return
            end = start + 6 + length
            if end > len(data):
                break
            self._serve(transaction, unit, data[start + 7 : end])
            start = end
        self._rest = data[start:]

    def _serve(self, transaction: int, number: int, request: bytes) -> None:
        unit = self._units.get(number)
        answer = unit.answer(request) if unit else bytes([request[0] | 0x80, TARGET_FAILED_TO_RESPOND])
        if answer is None:
            return
        message = _HEADER.pack(transaction, 0, len(answer) + 1, number) + answer
        if unit and unit.delay_s:
            self._loop.call_later(unit.delay_s, self._send, message)
        else:
            self._send(message)

    def _send(self, message: bytes) -> None:
        if self._transport:
            self._transport.write(message)


__all__ = ["Access", "Bits", "Cell", "ModbusSimulator", "Registers", "Unit"]
