"""When a simulator sent a value, told to whoever receives it: a ring of times in a file that both map.

Layout: 65,536 little-endian unsigned 64-bit words; word (counter mod 65,536) is the time of the machine's monotonic
clock, in nanoseconds, at which the value with this counter was first sent. Simulator and subscriber run on one machine,
where CLOCK_MONOTONIC is common to all processes.
"""

import mmap
import struct
import time
from pathlib import Path

RING = 1 << 16
_WORD = struct.Struct("<Q")


class Stamps:
    """The ring, created where the file is not there yet."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(RING * _WORD.size))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), RING * _WORD.size)

    def sent(self, counter: int) -> None:
        """Notes that the value with this counter goes out now."""
        _WORD.pack_into(self._map, counter % RING * _WORD.size, time.monotonic_ns())

    def age_s(self, counter: int) -> float:
        """Seconds since the value with this counter was sent."""
        stamp: int = _WORD.unpack_from(self._map, counter % RING * _WORD.size)[0]
        return (time.monotonic_ns() - stamp) / 1e9
