"""The history in an InfluxDB: frames as batches of lines, and the search for the lines that it refuses."""

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Protocol

from contracts.v1.frame import FRAME
from contracts.v1.frame_codec import encode_frame
from services.recorder.influxdb.line import LineWriter, Told
from services.recorder.influxdb.server import Refused
from services.recorder.spool.deadletters import DeadLetter
from services.recorder.spool.frames import DeviceFrame, single
from services.recorder.spool.store import StoreUnavailable, Written

_TRIES = 20
"""So many single lines refused and none taken: not the lines are at fault but what we were told of the server."""


class LineServer(Protocol):
    """Takes lines, from several threads at a time."""

    def post(self, blocks: Sequence[bytes]) -> Refused | None:
        """None if all were taken. blocks: of lines, without the last line's end. Raises StoreUnavailable."""
        ...

    def close(self) -> None:
        """Lets go of the connection."""
        ...


class InfluxStore:
    """Writes a batch in requests of at most `lines` lines, but a frame in one.

    To write a point again changes nothing, since its tags and its time are the same: at least once is enough here.
    every_quality: each point has its quality; else, of each tag, at least the first one of a batch, those that are not
    good and the first good one after them: VictoriaMetrics takes each field for a value of its own.
    """

    name = "influxdb"
    in_order = False

    def __init__(
        self,
        *,
        server: LineServer,
        site: str,
        lines: int,
        batch_bytes: int,
        flush_s: float,
        every_quality: bool = True,
    ) -> None:
        self.batch_bytes = batch_bytes
        self.flush_s = flush_s
        self._server = server
        self._site = site
        self._writer = LineWriter(site=site)
        self._lines = lines
        self._every_quality = every_quality

    async def write(self, frames: Iterator[DeviceFrame]) -> Written:
        """Writes every point; what the server refuses for good comes back as dead letters. Raises StoreUnavailable."""
        return await asyncio.to_thread(self._write, frames)

    async def close(self) -> None:
        """Closes the connection."""
        self._server.close()

    def _write(self, decoded: Iterator[DeviceFrame]) -> Written:
        frames, dead = list(decoded), list[DeadLetter]()
        told: Told | None = None if self._every_quality else {}
        for some in _requests(frames, self._lines):
            blocks = [self._writer.block(one.device, one.frame.samples, told) for one in some]
            if self._server.post([block for block in blocks if block]) is not None:
                dead += self._searched(some)
        return Written(sum(one.values for one in frames) - len(dead), dead, _nothing)

    def _searched(self, frames: Sequence[DeviceFrame]) -> list[DeadLetter]:
        """Writes what of these the server takes, and gives what it refuses."""
        lines = [line.encode() for one in frames for line in self._writer.lines(one.device, one.frame.samples)]
        return [self._letter(frames, at, reason) for at, reason in deliver(self._server, lines)]

    def _letter(self, frames: Sequence[DeviceFrame], at: int, reason: str) -> DeadLetter:
        """The value of line `at` as a frame of its own, so that it can be tried again as frames come."""
        for one in frames:
            if at < one.values:
                topic = FRAME.build(site=self._site, device=one.device, group=one.group)
                return DeadLetter("refused", reason, topic, encode_frame(single(one.frame, at), topic=topic))
            at -= one.values
        raise IndexError(at)


def deliver(server: LineServer, lines: Sequence[bytes]) -> list[tuple[int, str]]:
    """Writes the lines and returns the places of those that the server refuses for good, with the reasons: a refused
    request is halved until the refused lines stand alone, or the server says that it dropped every one.

    Raises StoreUnavailable, also if it takes none and blames none in particular: then the bucket or the address is
    wrong rather than every line, and nothing is given up.
    """
    dead: list[tuple[int, str]] = []
    waiting = [(0, len(lines))] if lines else []
    taken = False
    alone = 0
    while waiting:
        first, end = waiting.pop()
        refused = server.post(lines[first:end])
        if refused is None:
            taken = True
        elif refused.dropped == end - first:
            taken = True
            dead += ((at, refused.reason) for at in range(first, end))
        elif end - first == 1:
            alone += 1
            dead.append((first, refused.reason))
        else:
            middle = (first + end) // 2
            waiting += [(middle, end), (first, middle)]
        if not taken and (alone == _TRIES or (alone and not waiting)):
            raise StoreUnavailable(dead[-1][1], reason="refused")
    return dead


def _requests(frames: Sequence[DeviceFrame], most: int) -> Iterator[list[DeviceFrame]]:
    """The frames in parts of at most so many values; a frame that has more is a part by itself. Empty ones are none."""
    part: list[DeviceFrame] = []
    held = 0
    for one in frames:
        if part and held + one.values > most:
            yield part
            part, held = [], 0
        if one.values:
            part.append(one)
            held += one.values
    if part:
        yield part


def _nothing(database: sqlite3.Connection) -> None:
    """The server has the points already: nothing is left to be done with the batch."""
