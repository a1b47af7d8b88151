"""What a journal holds, what has left it and why, and what a required recorder has not: its reading half."""

from collections.abc import Collection, Iterator
from typing import NamedTuple

from services.runtime.journal.ledger import STORED, Ledger, StreamName
from services.runtime.journal.marks import Marks
from services.runtime.journal.record import Key, Tracks
from services.runtime.journal.segment import Segment
from services.runtime.journal.shelf import Shelf
from services.runtime.ranges import Ranges


class EpochAccount(NamedTuple):
    """What has become of an epoch. given: its highest number. lost: what left unstored, with the reason."""

    name: StreamName
    epoch: int
    given: int
    held: Ranges
    lost: list[tuple[int, int, str]]


class Holdings:
    """Looks at shelf, ledger and marks; changes nothing but to book what it finds damaged."""

    def __init__(self, *, shelf: Shelf, ledger: Ledger, marks: Marks) -> None:
        self._shelf = shelf
        self._ledger = ledger
        self._marks = marks
        self._live: set[Key] = set()
        self._opened: tuple[Segment, Tracks] | None = None  # the segment that was read last: a backfill reads on in it

    def read(
        self, kind: str, owner: str, stream: str, epoch: int, first: int, last: int
    ) -> Iterator[tuple[int, bytes]]:
        """The records first..last of the epoch that the journal holds, in order; gone() says why others are not.

        Raises OSError where a segment cannot be opened now: nothing is booked then.
        """
        entry = self._ledger.streams.get((kind, owner, stream))
        if entry is None:
            return
        key = (entry.number, epoch)
        for segment in self._shelf:
            if not any(segment.runs.get(key, Ranges()).within(first, last)):
                continue
            for seq, payload in segment.read(key, first, last, tracks=self._tracks(segment)):
                if payload is None:
                    self._ledger.book(key, seq, seq, "damaged")
                    segment.runs[key].remove(seq, seq)
                else:
                    yield seq, payload

    def _tracks(self, segment: Segment) -> Tracks:
        if self._opened is None or self._opened[0] is not segment:
            self._opened = segment, segment.located()
        return self._opened[1]

    def held(self, kind: str, owner: str, stream: str, epoch: int) -> Ranges:
        """What the journal holds of the stream's epoch."""
        entry = self._ledger.streams.get((kind, owner, stream))
        held = Ranges()
        for segment in self._shelf:
            if entry and (runs := segment.runs.get((entry.number, epoch))):
                held.update(runs)
        return held

    def epochs(self, kind: str, owner: str, stream: str) -> list[int]:
        """The epochs of the stream of which the journal holds something, ascending."""
        entry = self._ledger.streams.get((kind, owner, stream))
        keys = {key for segment in self._shelf for key, runs in segment.runs.items() if runs}
        return sorted(epoch for number, epoch in keys if entry and number == entry.number)

    def unstored(self, *, ended: bool) -> Iterator[tuple[StreamName, int, Ranges]]:
        """What the journal holds and a required recorder has not, by stream and epoch.

        ended: only of epochs that nothing more is appended to.
        """
        names = {entry.number: name for name, entry in self._ledger.streams.items()}
        held: dict[Key, Ranges] = {}
        for segment in self._shelf:
            for key, runs in segment.runs.items():
                if not (ended and key in self._live):
                    held.setdefault(key, Ranges()).update(runs)
        for key, runs in sorted(held.items(), key=lambda item: item[0]):
            missing = self._marks.missing(key, runs)
            if missing and key[0] in names:
                yield names[key[0]], key[1], missing

    def missing(self, kind: str, owner: str, stream: str, epoch: int, ranges: Ranges) -> Ranges:
        """Those of the ranges that a required recorder has not said to have."""
        entry = self._ledger.streams.get((kind, owner, stream))
        return self._marks.missing((entry.number, epoch), ranges) if entry else ranges

    def lacking(self, kind: str, owner: str, stream: str, epoch: int, ranges: Ranges) -> int:
        """How many of the ranges' numbers the required recorders have not said to have, summed over the recorders."""
        entry = self._ledger.streams.get((kind, owner, stream))
        return self._marks.lacking((entry.number, epoch), ranges) if entry else 0

    def given(self, kind: str, owner: str, stream: str, epoch: int) -> int:
        """The highest number that the journal knows to have been given in the epoch; 0 if it knows nothing of it."""
        entry = self._ledger.streams.get((kind, owner, stream))
        if entry is None:
            return 0
        key = (entry.number, epoch)
        held = max((segment.runs[key].last for segment in self._shelf if key in segment.runs), default=0)
        return max(held, self._ledger.explained(key).last, entry.last if epoch == entry.epoch else 0)

    def goes_on(self, kind: str, owner: str, stream: str, epoch: int) -> bool:
        """Whether the epoch may still be given numbers."""
        entry = self._ledger.streams.get((kind, owner, stream))
        return entry is not None and (entry.number, epoch) in self._live

    def account(self, names: Collection[StreamName]) -> Iterator[EpochAccount]:
        """Every epoch of these streams that was given numbers, as far as the journal knows of it."""
        entries = {self._ledger.streams[name].number: name for name in names}
        held: dict[Key, Ranges] = {}
        for segment in self._shelf:
            for key, runs in segment.runs.items():
                if key[0] in entries:
                    held.setdefault(key, Ranges()).update(runs)
        now = {(entry.number, entry.epoch) for name in names if (entry := self._ledger.streams[name]).last}
        for key in sorted({*held, *now, *(key for key in self._ledger.gone if key[0] in entries)}):
            name, epoch = entries[key[0]], key[1]
            given = self.given(*name, epoch)
            lost = [one for one in self.gone(*name, epoch, 1, given) if one[2] != STORED]
            yield EpochAccount(name, epoch, given, held.get(key, Ranges()), lost)

    @property
    def streams(self) -> list[StreamName]:
        """Kind, owner and name of every stream that there is or was."""
        return list(self._ledger.streams)

    def gone(self, kind: str, owner: str, stream: str, epoch: int, first: int, last: int) -> list[tuple[int, int, str]]:
        """What of first..last has left the journal and why: `stored`, or the reason of its loss; ascending."""
        entry = self._ledger.streams.get((kind, owner, stream))
        reasons = self._ledger.gone.get((entry.number, epoch), {}) if entry else {}
        return sorted(
            (begin, end, reason) for reason, ranges in reasons.items() for begin, end in ranges.within(first, last)
        )
