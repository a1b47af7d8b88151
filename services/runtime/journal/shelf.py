"""The segments of a journal, oldest first, and the rules by which they are begun and removed."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from services.runtime.journal.ledger import STORED, Ledger
from services.runtime.journal.marks import Marks
from services.runtime.journal.record import Key
from services.runtime.journal.segment import SUFFIX, Segment
from services.runtime.ranges import Ranges

_SEGMENTS_PER_CAP = 8
_ALARM = 0.8
_NUMBER = re.compile(r"[0-9]{12,18}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much the journal may hold: bytes on disk, and age of a record in microseconds; and how big a segment is."""

    cap_bytes: int
    max_age_us: int
    segment_bytes: int


@dataclass(frozen=True, slots=True)
class Usage:
    """How full the journal is. lost: records lost since the journal was made, by reason."""

    bytes: int
    cap_bytes: int
    records: int
    lost: Mapping[str, int]

    @property
    def alarm(self) -> bool:
        """Whether the journal is filled to 80 % of its cap or more."""
        return self.bytes >= _ALARM * self.cap_bytes


class Shelf:
    """Appends to the newest segment; removes those that nobody needs, and the oldest ones when a limit says so.

    bytes: on disk, segments and indexes. Times are microseconds of the journal's own clock, see Ledger.clock_us.
    """

    def __init__(self, folder: Path, *, limits: Limits, ledger: Ledger, marks: Marks) -> None:
        self.bytes = 0
        self._folder = folder
        self._limits = limits
        # A segment is what a limit removes at a time: a small part of the whole.
        self._segment_bytes = min(limits.segment_bytes, max(limits.cap_bytes // _SEGMENTS_PER_CAP, 1))
        self._span_us = max(limits.max_age_us // _SEGMENTS_PER_CAP, 1)
        self._ledger = ledger
        self._marks = marks
        self._closed: dict[int, Segment] = {}
        self._active: Segment | None = None
        self._next_number = 1
        self._unsynced: list[int] = []

    def __iter__(self) -> Iterator[Segment]:
        """The segments as they are now, oldest first; changes meanwhile do not disturb it."""
        segments = list(self._closed.values())
        return iter(segments if self._active is None else [*segments, self._active])

    @property
    def usage(self) -> Usage:
        """How full the journal is and what it has lost."""
        records = sum(segment.records for segment in self)
        return Usage(self.bytes, self._limits.cap_bytes, records, dict(self._ledger.lost))

    def recover(self, *, now_us: int) -> None:
        """Takes up the segments that an earlier process left. Raises OSError."""
        doomed = self._ledger.doomed
        stems = (path.stem for path in self._folder.glob(f"*{SUFFIX}"))
        numbers = sorted(int(stem) for stem in stems if _NUMBER.fullmatch(stem))  # what a person has put there is his
        self._next_number = max([*numbers, *doomed, 0]) + 1
        for number in numbers:
            if number in doomed:
                continue
            segment = Segment.recover(self._folder, number, newest=number == numbers[-1], now_us=now_us)
            if segment.newest_us > now_us:
                # Of a time that the ledger had no word of when the process was killed, or stamped by a wall clock, as
                # this was once done: the age is not known, and counts from now.
                segment.oldest_us = segment.newest_us = now_us
            self.bytes += segment.disk_bytes
            self._put_away(segment)

    def append(self, key: Key, seq: int, payload: bytes, *, now_us: int) -> None:
        """Writes the record, then keeps the cap. Raises OSError if the disk refuses the record."""
        segment = self._active
        if segment is None or segment.size >= self._segment_bytes:
            segment = self._begin(now_us)
        self.bytes += segment.append(key, seq, payload, now_us=now_us)
        if self.bytes > self._limits.cap_bytes:
            self._keep_cap()

    def keep_age(self, *, now_us: int) -> None:
        """Removes what is too old, and closes a segment that has been open for long, so that it can be removed."""
        if self._active and now_us - self._active.oldest_us > self._span_us:
            self.seal()
        for segment in list(self._closed.values()):
            if now_us - segment.newest_us <= self._limits.max_age_us:
                return
            self._remove(segment, "cap_age")

    def release(self, stream: int) -> None:
        """The marks of this stream have grown: removes the segments that nobody needs any more."""
        for segment in list(self._closed.values()):
            mine = segment.wanted.get(stream)
            if not mine:
                continue
            left = {key for key in mine if not self._marks.covers(key, segment.runs[key])}
            if left:
                segment.wanted[stream] = left
                continue
            del segment.wanted[stream]
            if not segment.wanted:
                self._remove(segment, STORED)

    def want_all(self) -> None:
        """Marks were forgotten: every segment is wanted until the marks say otherwise."""
        for segment in self._closed.values():
            segment.wanted = _by_stream(segment.runs)

    def seal(self) -> None:
        """Closes the segment that is appended to; the next append() begins another."""
        segment, self._active = self._active, None
        if segment is not None:
            segment.seal()
            self._ledger.version += 1  # so that no index is of a time of which the ledger has no word, see recover()
            self._unsynced.append(segment.detach())
            self._put_away(segment)

    def unsynced(self) -> list[int]:
        """File descriptors of all that was written since the last call, for the caller to sync and close.

        Raises OSError where there is none to be had: the next call gives them all.
        """
        if self._active and self._active.grown:
            self._unsynced.append(self._active.duplicate())
            self._active.grown = False
        taken, self._unsynced = self._unsynced, []
        return taken

    def _begin(self, now_us: int) -> Segment:
        """The segment to append to: a new one, or for a while the one there is if the disk gives no file."""
        try:
            begun = Segment.create(self._folder, self._next_number, now_us=now_us)
        except OSError:
            if self._active is not None and self._active.size < 2 * self._segment_bytes:
                return self._active
            self.seal()  # so that it goes once it is stored, and gives the disk back what that may lack
            raise
        self.seal()
        self._active = begun
        self._next_number += 1
        return begun

    def _put_away(self, segment: Segment) -> None:
        self._closed[segment.number] = segment
        segment.wanted = _by_stream(key for key, runs in segment.runs.items() if not self._marks.covers(key, runs))
        if not segment.wanted:
            self._remove(segment, STORED)

    def _keep_cap(self) -> None:
        for segment in list(self._closed.values()):
            if self.bytes <= self._limits.cap_bytes:
                return
            self._remove(segment, "cap_bytes")

    def _remove(self, segment: Segment, reason: str) -> None:
        """Books each record as stored or, where a required recorder lacks it, as lost; the file goes with the flush."""
        for key, runs in segment.runs.items():
            missing = self._marks.missing(key, runs)
            for first, last in runs:
                for begin, end in missing.within(first, last):
                    self._ledger.book(key, begin, end, reason)
                for begin, end in missing.gaps(first, last):
                    self._ledger.book(key, begin, end, STORED)
        del self._closed[segment.number]
        self.bytes -= segment.disk_bytes
        self._ledger.doom(segment.number)


def reconcile(shelf: Shelf, ledger: Ledger) -> None:
    """Brings the ledger, written now and then, up to the records, written always.

    Finds the last number of each stream, and books as `damaged` every record that was numbered and is neither on the
    shelf nor in the books.
    """
    held: dict[Key, Ranges] = {}
    for segment in shelf:
        for key, runs in segment.runs.items():
            for first, last in ledger.explained(key):
                runs.remove(first, last)  # found damaged by an earlier process; the index does not know it
            held.setdefault(key, Ranges()).update(runs)
    for entry in ledger.streams.values():
        runs = held.setdefault((entry.number, entry.epoch), Ranges())
        entry.last = max(entry.last, runs.last)
    numbered = {(entry.number, entry.epoch): entry.last for entry in ledger.streams.values()}
    for key, runs in held.items():
        for first, last in runs.gaps(1, numbered.get(key, runs.last)):
            if not ledger.forgot(key):
                ledger.book(key, first, last, "damaged")


def _by_stream(keys: Iterable[Key]) -> dict[int, set[Key]]:
    found: dict[int, set[Key]] = {}
    for key in keys:
        found.setdefault(key[0], set()).add(key)
    return found
