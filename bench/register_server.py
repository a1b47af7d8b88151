"""A Modbus TCP server made for measuring writes: registers that hold what was last written to them.

Only functions 3 and 16 are served (Modbus Application Protocol V1.1b3, 6.3 and 6.12); anything else is answered with
exception 1, an address beyond the registers with exception 2.
"""

import argparse
import asyncio
import signal
import struct
from typing import cast

import uvloop

REGISTERS = 10_000
_PREFIX = struct.Struct(">HHH")
_PLACE = struct.Struct(">HH")


class Server(asyncio.Protocol):
    """One connection. registers: of all connections, two bytes each."""

    def __init__(self, registers: bytearray) -> None:
        self._registers = registers
        self._pending = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        """Answers each whole request in what has come so far."""
        self._pending += data
        answers = []
        while len(self._pending) >= _PREFIX.size:
            transaction, _, length = _PREFIX.unpack_from(self._pending)
            end = _PREFIX.size + length
            if len(self._pending) < end:
                break
            unit, request = self._pending[_PREFIX.size : _PREFIX.size + 1], self._pending[_PREFIX.size + 1 : end]
            self._pending = self._pending[end:]
            answer = unit + self._answer(request)
            answers.append(_PREFIX.pack(transaction, 0, len(answer)) + answer)
        self._transport.write(b"".join(answers))

    def _answer(self, request: bytes) -> bytes:
        function = request[0]
        if function not in (3, 16):
            return bytes((function | 0x80, 1))
        address, count = _PLACE.unpack_from(request, 1)
        first, end = 2 * address, 2 * (address + count)
        if end > len(self._registers):
            return bytes((function | 0x80, 2))
        if function == 16:
            self._registers[first:end] = request[6 : 6 + end - first]
            return request[:5]
        return bytes((3, end - first)) + self._registers[first:end]


async def serve(port: int) -> None:
    """Serves until SIGTERM."""
    loop = asyncio.get_running_loop()
    registers = bytearray(2 * REGISTERS)
    server = await loop.create_server(lambda: Server(registers), "127.0.0.1", port)
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    server.close()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
