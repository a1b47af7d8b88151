"""What a recorder tells of completeness as events: gaps, losses, duplicates, a full spool. Pure.

Each type is told at once and then at most every PERIOD_S with all that came meanwhile, so that a storm of gaps makes no
storm of events: they come back to the recorder like all others.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from services.recorder.spool.marks import Lost, Missing
from services.runtime.gaps import StreamKey

PERIOD_S = 10.0
MOST_NAMED = 10
"""Ranges that one event names; the counts are of all."""

GAP_FOUND, GAP_MENDED, LOSS_BOOKED, DUPLICATES = "gap.found", "gap.mended", "loss.booked", "duplicates.found"
SPOOL_FULL, SPOOL_ROOM = "spool.full", "spool.room"


class Incident(NamedTuple):
    """An event to be told."""

    type: str
    data: Mapping[str, Any]


@dataclass(slots=True)
class _Tally:
    """What came of a type since it was told last."""

    messages: int = 0
    streams: set[StreamKey] = field(default_factory=set)
    ranges: list[dict[str, Any]] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, stream: StreamKey, messages: int, **more: int | str) -> None:
        """Counts so many messages of the stream, and names it with `more` if there is room."""
        self.messages += messages
        self.streams.add(stream)
        if len(self.ranges) < MOST_NAMED:
            self.ranges.append({"kind": stream.kind, "owner": stream.owner, "stream": stream.name, **more})

    def told(self) -> dict[str, Any]:
        """As the event's data."""
        data: dict[str, Any] = {"streams": len(self.streams), "named": self.ranges}
        if self.messages:
            data["messages"] = self.messages
        if self.reasons:
            data["reasons"] = dict(self.reasons)
        return data


class Incidents:
    """Takes note, and says what is due. own: the recorder's instance, of whose own events duplicates are not told: each
    would make another. Times are monotonic seconds.
    """

    def __init__(self, *, own: str) -> None:
        self._own = own
        self._tallies: dict[str, _Tally] = {}
        self._told_at: dict[str, float] = {}
        self._open: set[StreamKey] = set()
        self._full = self._said_full = False
        self._full_at = float("-inf")
        self._times_full = 0

    def known(self, streams: Iterable[StreamKey]) -> None:
        """In these something has been missing since an earlier life."""
        self._open.update(streams)

    def found(self, stream: StreamKey, missing: Missing) -> None:
        """Nobody has announced that these come later."""
        count = missing.last - missing.first + 1
        self._tally(GAP_FOUND).add(stream, count, epoch=missing.epoch, first=missing.first, last=missing.last)
        self._open.add(stream)

    def lost(self, stream: StreamKey, epoch: int, lost: Iterable[Lost]) -> None:
        """Booked as such."""
        tally = self._tally(LOSS_BOOKED)
        for first, last, reason in lost:
            tally.add(stream, last - first + 1, epoch=epoch, first=first, last=last, reason=reason)
            tally.reasons[reason] += last - first + 1

    def repeated(self, stream: StreamKey, count: int) -> None:
        """So many came that are had."""
        if stream.owner != self._own:
            self._tally(DUPLICATES).add(stream, count, count=count)

    def spool(self, *, full: bool, now_s: float) -> None:
        """The spool takes nothing more, or takes again."""
        if full and not self._full:
            self._times_full += 1
        if full or self._full:
            self._full_at = now_s
        self._full = full

    def due(self, now_s: float, *, missing: Callable[[StreamKey], bool]) -> list[Incident]:
        """What is to be told now. missing: whether something of the stream is."""
        for stream in [stream for stream in self._open if not missing(stream)]:
            self._open.remove(stream)
            self._tally(GAP_MENDED).add(stream, 0)
        told = [
            Incident(type_, self._tallies.pop(type_).told())
            for type_ in (GAP_FOUND, DUPLICATES, LOSS_BOOKED, GAP_MENDED)
            if type_ in self._tallies and self._passes(type_, now_s)
        ]
        if self._times_full and self._passes(SPOOL_FULL, now_s):
            told.append(Incident(SPOOL_FULL, {"times": self._times_full}))
            self._times_full, self._said_full = 0, True
        if self._said_full and not self._full and not self._times_full and now_s >= self._full_at + PERIOD_S:
            told.append(Incident(SPOOL_ROOM, {}))
            self._said_full = False
        return told

    def _tally(self, type_: str) -> _Tally:
        return self._tallies.setdefault(type_, _Tally())

    def _passes(self, type_: str, now_s: float) -> bool:
        if now_s < self._told_at.get(type_, float("-inf")) + PERIOD_S:
            return False
        self._told_at[type_] = now_s
        return True
