"""The events of the latest runs, so that each can be gone through again. Pure."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import msgspec

from services.orchestrator.run.replay import Recorded

MOST = 1000
MOST_BYTES = 32 << 20
LONGEST = 4 << 20
"""Bytes of one run's events; a longer run is not kept."""

Key = tuple[str, str]
"""Workspace and run."""


@dataclass(slots=True)
class _Tape:
    """parts: None once it is longer than is kept. size: of them, in bytes."""

    parts: list[bytes] | None = field(default_factory=list)
    size: int = 0


class Tapes:
    """The runs that ended longest ago go first, beyond `most` of them, or `most_bytes` with those under way."""

    def __init__(self, *, most: int = MOST, most_bytes: int = MOST_BYTES, longest: int = LONGEST) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._longest = longest
        self._bytes = 0
        self._open: dict[Key, _Tape] = {}
        self._closed: OrderedDict[Key, _Tape] = OrderedDict()

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        return self._bytes

    def record(self, key: Key, events: bytes, *, over: bool) -> None:
        """This has happened to the run next: a JSON array of type and data of each event. over: nothing more will."""
        tape = self._open.get(key) or self._open.setdefault(key, _Tape())
        if tape.parts is not None:
            tape.parts.append(events)
            tape.size += len(events)
            self._bytes += len(events)
            if tape.size > self._longest:
                self._give_up(tape)
        if over:
            del self._open[key]
            if tape.parts is not None:
                self._closed[key] = tape
        while self._closed and (len(self._closed) > self._most or self._bytes > self._most_bytes):
            self._give_up(self._closed.popitem(last=False)[1])
        if self._bytes > self._most_bytes:
            self._give_up(tape)

    def forget(self, key: Key) -> None:
        """Nothing more will happen to the run, of which not all is known."""
        tape = self._open.pop(key, None)
        if tape is not None:
            self._give_up(tape)

    def _give_up(self, tape: _Tape) -> None:
        self._bytes -= tape.size
        tape.parts, tape.size = None, 0

    def events(self, key: Key) -> list[Recorded] | None:
        """All that happened to a run that is over; None if it is not kept."""
        tape = self._closed.get(key)
        if tape is None or tape.parts is None:
            return None
        steps: list[list[tuple[str, dict[str, Any]]]] = [msgspec.json.decode(part) for part in tape.parts]
        return [(type_, data) for step in steps for type_, data in step]
