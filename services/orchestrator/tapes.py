"""The events of the latest runs, so that each can be gone through again. Pure."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import msgspec

from services.orchestrator.replay import Recorded

MOST = 1000
MOST_BYTES = 32 << 20
LONGEST = 4 << 20
"""Bytes of one run's events; a longer run is not kept."""

Key = tuple[str, str]
"""Workspace and run."""


class Tapes:
    """The runs that ended longest ago go first, beyond `most` of them or `most_bytes`."""

    def __init__(self, *, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._bytes = 0
        self._open: dict[Key, list[bytes]] = {}
        self._closed: OrderedDict[Key, list[bytes]] = OrderedDict()

    def record(self, key: Key, events: Sequence[Recorded], *, over: bool) -> None:
        """This has happened to the run next. over: nothing more will."""
        tape = self._open.setdefault(key, [])
        tape.append(msgspec.json.encode(events))
        if not over:
            return
        del self._open[key]
        size = _size(tape)
        if size > LONGEST:
            return
        self._closed[key] = tape
        self._bytes += size
        while len(self._closed) > self._most or self._bytes > self._most_bytes:
            self._bytes -= _size(self._closed.popitem(last=False)[1])

    def events(self, key: Key) -> list[Recorded] | None:
        """All that happened to a run that is over; None if it is not kept."""
        tape = self._closed.get(key)
        if tape is None:
            return None
        steps: list[list[tuple[str, dict[str, Any]]]] = [msgspec.json.decode(part) for part in tape]
        return [(type_, data) for step in steps for type_, data in step]


def _size(tape: list[bytes]) -> int:
    return sum(map(len, tape))
