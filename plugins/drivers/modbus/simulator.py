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

from .simulated_server import Client, TcpServer
from .simulated_unit import Access, Bits, Cell, Registers, Unit

TARGET_FAILED_TO_RESPOND = 11
_HEADER = struct.Struct(">HHHB")
_MIN_LENGTH, _MAX_LENGTH = 2, 262
"""Bytes after the length field: unit and function at least, and at most what a count of 255 bytes can announce. The
protocol ends at 254 (MODBUS Messaging on TCP/IP V1.0b, 3.1.3); a write that is too long by a bit is answered, as
devices do, with an exception."""


class ModbusSimulator(TcpServer):
    """Serves its units while entered, over TLS if `tls` is given.

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
        super().__init__(host=host, port=port, tls=tls)
        self.units = units

    def client(self) -> Client:
        """See TcpServer."""
        return _Connection(self)


class _Connection(Client):
    """One client. Answers in the order of the requests."""

    def __init__(self, simulator: ModbusSimulator) -> None:
        super().__init__(simulator)
        self._units = simulator.units
        self._loop = asyncio.get_running_loop()
        self._rest = b""

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
            self._loop.call_later(unit.delay_s, self.send, message)
        else:
            self.send(message)


__all__ = ["Access", "Bits", "Cell", "ModbusSimulator", "Registers", "Unit"]
