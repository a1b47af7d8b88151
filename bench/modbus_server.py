"""A Modbus TCP server made for measuring: float32 values in holding registers, every one another at each poll.

The value in registers 0 and 1 counts the polls: it goes up whenever register 0 is read. The others walk about their
own mean, as measured values do. Each poll's registers are made beforehand (a ring of 512 polls), so that an answer
costs a slice and a header: the server is not to be what is measured. Only function 3 is served (Modbus Application
Protocol V1.1b3, 6.3); anything else is answered with exception 1.
"""

import argparse
import asyncio
import random
import signal
import struct
from pathlib import Path
from typing import cast

import uvloop

from bench.stamps import Stamps

POLLS = 512
_REQUEST = struct.Struct(">HHHBBHH")
_HEADER = struct.Struct(">HHHBBB")
_COUNTER = struct.Struct(">f")
COUNTER_SPAN = 1 << 24
"""A float32 holds integers exactly up to here."""


def polls_of(values: int) -> list[bytes]:
    """The registers of POLLS successive polls: each value a random walk in steps of 0.01, as a transmitter gives."""
    source = random.Random(1)
    levels = [source.uniform(10, 90) for _ in range(values)]
    rows = []
    for _ in range(POLLS):
        levels = [level + source.choice((-0.02, -0.01, 0.01, 0.02)) for level in levels]
        rows.append(struct.pack(f">{values}f", *levels))
    return rows


class Server(asyncio.Protocol):
    """One connection. Requests may come in pieces or several at once (Modbus Messaging on TCP/IP V1.0b, 3.1)."""

    def __init__(self, polls: list[bytes], stamps: Stamps) -> None:
        self._polls = polls
        self._stamps = stamps
        self._units: dict[int, tuple[int, bytes]] = {}  # of each unit: how often it was polled, and its registers
        self._pending = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        """Answers each whole request in what has come so far."""
        self._pending += data
        answers = []
        while len(self._pending) >= _REQUEST.size:
            transaction, _, _, unit, function, address, count = _REQUEST.unpack_from(self._pending)
            self._pending = self._pending[_REQUEST.size :]
            answers.append(self._answer(transaction, unit, function, address, count))
        self._transport.write(b"".join(answers))

    def _answer(self, transaction: int, unit: int, function: int, address: int, count: int) -> bytes:
        if function != 3:
            return struct.pack(">HHHBBB", transaction, 0, 3, unit, function | 0x80, 1)
        counter, registers = self._units.get(unit, (0, b""))
        if address == 0:
            counter = (counter + 1) % COUNTER_SPAN
            registers = _COUNTER.pack(counter) + self._polls[counter % POLLS][_COUNTER.size :]
            self._units[unit] = counter, registers
            if unit == 1:  # the device whose latency is measured
                self._stamps.sent(counter)
        block = registers[2 * address : 2 * (address + count)]
        return _HEADER.pack(transaction, 0, len(block) + 3, unit, 3, len(block)) + block


async def serve(port: int, values: int, stamps: Stamps) -> None:
    """Serves until SIGTERM."""
    loop = asyncio.get_running_loop()
    polls = polls_of(values)
    server = await loop.create_server(lambda: Server(polls, stamps), "127.0.0.1", port)
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    print("ready", flush=True)
    await stop.wait()
    server.close()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--values", type=int, default=500)
    parser.add_argument("--stamps", type=Path, required=True)
    given = parser.parse_args()
    uvloop.run(serve(given.port, given.values, Stamps(given.stamps)))


if __name__ == "__main__":
    main()
