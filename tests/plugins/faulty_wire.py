"""Modbus units whose registers hold their own addresses, on a wire that spoils answers."""

import asyncio
import struct
from collections.abc import Callable
from typing import Literal, Self, cast

from plugins.drivers.modbus.rtu_simulator import with_checksum

Framing = Literal["mbap", "rtu"]
FAULTS = (
    "late",
    "twice",
    "behind next",
    "wrong number",
    "wrong unit",
    "short",
    "split",
    "lost",
    "dropped",
    "garbled",
    "other first",
)
_NEXT_S = 1e-5
"""What tells two timers apart, which at the same time would go off in any order."""
_READ = struct.Struct(">BHH")


def register(unit: int, address: int) -> int:
    """What the register holds: no two units, and no two addresses below 1000, have the same."""
    return 1000 * unit + address


class FaultyWire:
    """Serves reads of holding registers. fault: what happens to each answer of a unit, one of FAULTS, "refused late" or
    "none".

    late_s: asked for each late answer. asked: set by every request; clear it to wait for the next.
    """

    def __init__(self, framing: Framing) -> None:
        self.framing = framing
        self.fault: Callable[[int], str] = lambda unit: "none"
        self.late_s: Callable[[], float] = lambda: 0.15
        self.asked = asyncio.Event()
        self.port = 0
        self.clients: set[_Client] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(lambda: _Client(self), "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for client in list(self.clients):
            client.transport.abort()
        await self._server.wait_closed()


class _Client(asyncio.Protocol):
    def __init__(self, wire: FaultyWire) -> None:
        self._wire = wire
        self._loop = asyncio.get_running_loop()
        self._rest = b""
        self._behind = b""
        self._unit = 0
        self._free_at: dict[int, float] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._wire.clients.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._wire.clients.discard(self)

    def data_received(self, data: bytes) -> None:
        self._rest += data
        size = 12 if self._wire.framing == "mbap" else 8
        while len(self._rest) >= size:
            request, self._rest = self._rest[:size], self._rest[size:]
            self._answer(request)

    def _answer(self, request: bytes) -> None:
        number = request[:2] if self._wire.framing == "mbap" else b""
        unit = self._unit = request[6] if number else request[0]
        _, start, count = _READ.unpack(request[7:12] if number else request[1:6])
        data = struct.pack(f">{count}H", *(register(unit, address) for address in range(start, start + count)))
        pdu = bytes([3, len(data)]) + data
        self._wire.asked.set()
        before, self._behind = self._behind, b""
        getattr(self, "_" + self._wire.fault(unit).replace(" ", "_"))(number, unit, pdu)
        if before:
            self._send(before)

    def _none(self, number: bytes, unit: int, pdu: bytes) -> None:
        self._send(_frame(number, unit, pdu))

    def _lost(self, number: bytes, unit: int, pdu: bytes) -> None:
        pass

    def _late(self, number: bytes, unit: int, pdu: bytes) -> None:
        self._later(self._wire.late_s(), _frame(number, unit, pdu))

    def _refused_late(self, number: bytes, unit: int, pdu: bytes) -> None:
        self._later(self._wire.late_s(), _frame(number, unit, bytes([pdu[0] | 0x80, 6])))

    def _twice(self, number: bytes, unit: int, pdu: bytes) -> None:
        self._send(2 * _frame(number, unit, pdu))

    def _behind_next(self, number: bytes, unit: int, pdu: bytes) -> None:
        self._behind = _frame(number, unit, pdu)

    def _wrong_number(self, number: bytes, unit: int, pdu: bytes) -> None:
        other = struct.pack(">H", struct.unpack(">H", number)[0] ^ 0x101) if number else b""
        self._send(_frame(other, unit, pdu))

    def _wrong_unit(self, number: bytes, unit: int, pdu: bytes) -> None:
        other = unit ^ 3
        values = (value + register(other, 0) - register(unit, 0) for (value,) in struct.iter_unpack(">H", pdu[2:]))
        self._send(_frame(number, other, pdu[:2] + b"".join(struct.pack(">H", value) for value in values)))

    def _short(self, number: bytes, unit: int, pdu: bytes) -> None:
        self._send(_frame(number, unit, pdu[:-2]) if number else _frame(number, unit, pdu)[:-3])

    def _split(self, number: bytes, unit: int, pdu: bytes) -> None:
        whole = _frame(number, unit, pdu)
        for place in range(len(whole)):
            self._later(0.0005, whole[place : place + 1])

    def _dropped(self, number: bytes, unit: int, pdu: bytes) -> None:
        whole = _frame(number, unit, pdu)
        self._send(whole[: len(whole) // 2])
        self.transport.close()

    def _garbled(self, number: bytes, unit: int, pdu: bytes) -> None:
        whole = _frame(number, unit, pdu)
        self._send(whole if number else whole[:-4] + bytes([whole[-4] ^ 1]) + whole[-3:])

    def _other_first(self, number: bytes, unit: int, pdu: bytes) -> None:
        self._send(_frame(number, unit, bytes([3, 2]) + pdu[2:4]))
        self._later(self._wire.late_s() / 4, _frame(number, unit, pdu))

    def _later(self, delay_s: float, data: bytes) -> None:
        """In the order of the requests to the unit that is being asked: it takes one after the other."""
        at = self._free_at[self._unit] = max(self._free_at.get(self._unit, 0.0), self._loop.time()) + delay_s
        self._loop.call_at(at, self._write, data)

    def _send(self, data: bytes) -> None:
        if self._free_at.get(self._unit, 0.0) > self._loop.time():
            self._later(_NEXT_S, data)
        else:
            self._write(data)

    def _write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)


def _frame(number: bytes, unit: int, pdu: bytes) -> bytes:
    if number:
        return number + struct.pack(">HHB", 0, len(pdu) + 1, unit) + pdu
    return with_checksum(bytes([unit]) + pdu)
