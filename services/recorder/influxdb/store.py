"""The history in an InfluxDB: frames as batches of lines, and the search for the lines that it refuses."""

import asyncio
import sqlite3
from collections.abc import Sequence
from typing import Protocol

from services.recorder.influxdb.line import LineWriter
from services.recorder.influxdb.server import Refused
from services.recorder.spool.deadletters import DeadLetter
from services.recorder.spool.frames import DeviceFrame
from services.recorder.spool.store import StoreUnavailable, Written

_TRIES = 20
"""So many single lines refused and none taken: not the lines are at fault but what we were told of the server."""


class LineServer(Protocol):
    """Takes lines."""

    def post(self, lines: Sequence[str]) -> Refused | None:
        """None if all were taken. Raises StoreUnavailable."""
        ...

    def close(self) -> None:
        """Lets go of the connection."""
        ...


class InfluxStore:
    """Writes a batch in requests of at most `lines` lines.

    To write a point again changes nothing, since its tags and its time are the same: at least once is enough here.
    """

    name = "influxdb"
    in_order = False

    def __init__(self, *, server: LineServer, site: str, lines: int, batch_bytes: int, flush_s: float) -> None:
        self.batch_bytes = batch_bytes
        self.flush_s = flush_s
        self._server = server
        self._writer = LineWriter(site=site)
        self._lines = lines

    async def write(self, frames: Sequence[DeviceFrame]) -> Written:
        """Writes every point; what the server refuses for good comes back as dead letters. Raises StoreUnavailable."""
        return await asyncio.to_thread(self._write, frames)

    async def close(self) -> None:
        """Closes the connection."""
        self._server.close()

    def _write(self, frames: Sequence[DeviceFrame]) -> Written:
        lines = [line for one in frames for line in self._writer.lines(one.device, one.frame.samples)]
        dead: list[DeadLetter] = []
        for start in range(0, len(lines), self._lines):
            dead += deliver(self._server, lines[start : start + self._lines])
        return Written(len(lines) - len(dead), dead, _nothing)


def deliver(server: LineServer, lines: Sequence[str]) -> list[DeadLetter]:
    """Writes the lines and returns those that the server refuses for good: a refused request is halved until the
    refused lines stand alone, or the server says that it dropped every one.

    Raises StoreUnavailable, also if it takes none and blames none in particular: then the bucket or the address is
    wrong rather than every line, and nothing is given up.
    """
    dead: list[DeadLetter] = []
    waiting = [lines]
    taken = False
    alone = 0
    while waiting:
        part = waiting.pop()
        refused = server.post(part)
        if refused is None:
            taken = True
        elif refused.dropped == len(part):
            taken = True
            dead += _letters(part, refused)
        elif len(part) == 1:
            alone += 1
            dead += _letters(part, refused)
        else:
            middle = len(part) // 2
            waiting += [part[middle:], part[:middle]]
        if not taken and (alone == _TRIES or (alone and not waiting)):
            raise StoreUnavailable(dead[-1].detail, reason="refused")
    return dead


def _letters(lines: Sequence[str], refused: Refused) -> list[DeadLetter]:
    return [DeadLetter("refused", refused.reason, "", line.encode()) for line in lines]


def _nothing(database: sqlite3.Connection) -> None:
    """The server has the points already: nothing is left to be done with the batch."""
