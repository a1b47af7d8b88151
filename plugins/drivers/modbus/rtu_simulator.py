"""Modbus units on a line of RTU frames, over TCP or on a pseudo-terminal, for tests and demonstrations.

    async with RtuSimulator(units={1: Unit()}) as simulator:      # transport: rtu-tcp, simulator.port
    async with SerialSimulator(units={1: Unit()}, path=path) as simulator:   # transport: serial, this path

Each unit answers its requests in their order, and knows nothing of the others, as on one pair of wires; one that is not
there is silent. Faults: those of a unit (see Unit), `noise`: bytes that come before each answer, and `flipped`: which
byte of each is garbled.
"""

import asyncio
import os
import tty
from collections.abc import Callable, Mapping
from pathlib import Path

from pymodbus.framer.rtu import FramerRTU

from plugins.api.served import Served

from .simulated_server import Client, TcpServer
from .simulated_unit import Unit

_SIZE_BY_FUNCTION = {1: 8, 2: 8, 3: 8, 4: 8, 5: 8, 6: 8, 22: 10}
_COUNTED = frozenset({15, 16})
_PLACE_OF_COUNT = 6


def with_checksum(data: bytes) -> bytes:
    """A whole frame of unit, function and data (MODBUS over Serial Line V1.02, 2.5.1.2)."""
    return data + FramerRTU.compute_CRC(data).to_bytes(2, "big")


class _Bus:
    """The units' side of one line: bytes in, answers out."""

    def __init__(self, line: "_Line", send: Callable[[bytes], None]) -> None:
        self._line = line
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._rest = b""
        self._free_at: dict[int, float] = {}

    def received(self, data: bytes) -> None:
        """Answers every whole request; bytes that are none are thrown away, as a unit does after a silence."""
        self._rest += data
        while (size := _size(self._rest)) and size <= len(self._rest):
            request, self._rest = self._rest[:size], self._rest[size:]
            if with_checksum(request[:-2]) != request:
                self._rest = b""
                return
            self._serve(request[0], request[1:-2])

    def _serve(self, number: int, request: bytes) -> None:
        self._line.requests += 1
        unit = self._line.units.get(number)
        answer = unit.answer(request) if unit else None
        if unit is None or answer is None:
            return
        message = bytearray(self._line.noise + with_checksum(bytes([number]) + answer))
        if self._line.flipped is not None:
            message[self._line.flipped] ^= 1
        # A slow unit takes one request at a time.
        now = self._loop.time()
        answers_at = self._free_at[number] = max(self._free_at.get(number, now), now) + unit.delay_s
        if answers_at > now:
            self._loop.call_at(answers_at, self._send, bytes(message))
        else:
            self._send(bytes(message))


class _Line:
    """Units on one line, and what becomes of all their answers. requests: how many so far."""

    def __init__(self, *, units: Mapping[int, Unit]) -> None:
        self.units = units
        self.noise = b""
        self.flipped: int | None = None
        self.requests = 0


class RtuSimulator(_Line, TcpServer):
    """RTU frames over TCP, on a port that the system chooses."""

    def __init__(self, *, units: Mapping[int, Unit]) -> None:
        _Line.__init__(self, units=units)
        TcpServer.__init__(self)

    def client(self) -> Client:
        """See TcpServer."""
        return _RtuConnection(self)


class _RtuConnection(Client):
    def __init__(self, simulator: RtuSimulator) -> None:
        super().__init__(simulator)
        self._bus = _Bus(simulator, self.send)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._bus.received(data)


class SerialSimulator(_Line, Served):
    """A serial line: one end of a pseudo-terminal. path: a link to the other end, to be opened as a port."""

    def __init__(self, *, units: Mapping[int, Unit], path: Path) -> None:
        super().__init__(units=units)
        self.path = path
        self._ends: tuple[int, int] | None = None

    async def start(self) -> None:
        """Makes the line."""
        ours, theirs = self._ends = os.openpty()
        tty.setraw(theirs)
        os.set_blocking(ours, False)
        self.path.symlink_to(os.ttyname(theirs))
        bus = _Bus(self, self._send)
        asyncio.get_running_loop().add_reader(ours, lambda: bus.received(os.read(ours, 4096)))

    async def stop(self) -> None:
        """Takes the line away, as when a converter is unplugged; start() plugs it in again."""
        if self._ends is not None:
            ours, theirs = self._ends
            self._ends = None
            asyncio.get_running_loop().remove_reader(ours)
            self.path.unlink()
            os.close(theirs)
            os.close(ours)

    def _send(self, message: bytes) -> None:
        if self._ends is not None:
            os.write(self._ends[0], message)


def _size(data: bytes) -> int:
    """How long the request is that these bytes begin with; 0 if more are needed to tell."""
    if len(data) < 2:
        return 0
    function = data[1]
    if function in _COUNTED:
        return _PLACE_OF_COUNT + 3 + data[_PLACE_OF_COUNT] if len(data) > _PLACE_OF_COUNT else 0
    return _SIZE_BY_FUNCTION.get(function, 8)
