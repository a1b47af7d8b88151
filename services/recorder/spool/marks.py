"""Which frames of a stream the recorder has: ranges per epoch, from which gaps and duplicates follow. Pure."""

import json
from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from contracts.v1.frame_codec import HeaderStruct
from contracts.v1.stored import Stored, StoredEpoch
from services.runtime.gaps import Range
from services.runtime.ranges import Ranges

MOST_TOLD = 10_000
"""Ranges in one STORED: it is to fit into a message of 1 MiB."""

Lost = tuple[int, int, str]
"""A closed range of sequence numbers that will not come, and the reason."""


class Missing(NamedTuple):
    """Frames that were found not to have come."""

    epoch: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class EpochMarks:
    """What is had of one epoch.

    have: ascending ranges that do not touch. last: the sequence number that the epoch ended with (0: it held no
    frame), None while it may go on. lost: what its owner has said to be gone, ascending, none of it had.
    """

    epoch: int
    have: tuple[Range, ...] = ()
    last: int | None = None
    lost: tuple[Lost, ...] = ()

    @property
    def top(self) -> int:
        """The highest sequence number known to have been given; 0 for none."""
        return max(self.have[-1][1] if self.have else 0, self.last or 0)

    @property
    def complete(self) -> bool:
        """The epoch is at its end, and every frame of it is had or known to be lost."""
        return self.last is not None and not self.holes

    @property
    def holes(self) -> tuple[Range, ...]:
        """What should have come and has not, as ascending ranges."""
        if self.top == 0 or self.have == ((1, self.top),):
            return ()
        return tuple(Ranges((*self.have, *((first, last) for first, last, _ in self.lost))).gaps(1, self.top))

    def has(self, seq: int) -> bool:
        """Whether the frame is had."""
        at = bisect_right(self.have, (seq, _INFINITE)) - 1
        return at >= 0 and seq <= self.have[at][1]

    def with_frame(self, seq: int) -> "EpochMarks":
        """The marks once this frame is had too."""
        if self.have and self.have[-1][1] == seq - 1 and not self.lost:
            return replace(self, have=(*self.have[:-1], (self.have[-1][0], seq)))
        return replace(self, have=_merged(self.have, seq), lost=tuple(_without(self.lost, seq)))

    def with_lost(self, lost: Iterable[Lost]) -> "EpochMarks":
        """The marks once the owner has said that these are gone; what is had, or was said before, stays as it is."""
        added = list(self.lost)
        for first, last, reason in lost:
            known = Ranges((*self.have, *((begin, end) for begin, end, _ in added)))
            added += [(begin, end, reason) for begin, end in known.gaps(first, last)]
        return replace(self, lost=tuple(_joined(sorted(added))))

    def ended_with(self, last: int) -> "EpochMarks":
        """The marks once the stream has said with which frame the epoch ended."""
        return replace(self, last=last)


_INFINITE = 1 << 64


def marks_in_file(epoch: int, last: int | None, have: str, lost: str) -> EpochMarks:
    """The marks as their row says them: ranges as JSON."""
    ranges = tuple((first, end) for first, end in json.loads(have))
    return EpochMarks(epoch, ranges, last, tuple((first, end, reason) for first, end, reason in json.loads(lost)))


StreamMarks = Mapping[int, EpochMarks]
"""The marks of a stream by epoch."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """What the coming of a frame means.

    duplicate: it is had already. changed: the marks that are different now. missing: frames newly known to be missing.
    """

    duplicate: bool
    changed: tuple[EpochMarks, ...]
    missing: tuple[Missing, ...]


def arrive(marks: StreamMarks, header: HeaderStruct) -> Arrival:
    """What changes in a stream's marks when a frame with this header comes."""
    before = marks.get(header.epoch) or EpochMarks(header.epoch)
    if before.has(header.seq):
        return Arrival(duplicate=True, changed=(), missing=())
    missing = list(_between(header.epoch, before.top, header.seq - 1))
    after = before.with_frame(header.seq)
    if header.closed:
        after = after.ended_with(header.seq)
    changed = [after]
    if header.prev is not None and header.prev.epoch < header.epoch:
        ended = marks.get(header.prev.epoch) or EpochMarks(header.prev.epoch)
        if ended.last is None or ended.last < header.prev.last_seq:
            missing += _between(ended.epoch, ended.top, header.prev.last_seq)
            changed.append(ended.ended_with(max(header.prev.last_seq, ended.top)))
    return Arrival(duplicate=False, changed=tuple(changed), missing=tuple(missing))


def recalled(marks: StreamMarks, told: Stored) -> dict[int, EpochMarks]:
    """What is known again of ended epochs from what this database has told before, if that is more than it has now.

    So it is once an older copy was brought back: what it had booked as lost is lost, and what it had is a hole now, for
    which its owner is asked. Of an epoch that goes on the next message tells the same.
    """
    newest = max([*marks, *(one.epoch for one in told.epochs)], default=0)
    found: dict[int, EpochMarks] = {}
    for one in told.epochs:
        before = marks.get(one.epoch) or EpochMarks(one.epoch)
        said = Ranges((*one.have, *((first, last) for first, last, _ in one.lost)))
        lacking = said.minus(Ranges((*before.have, *((first, last) for first, last, _ in before.lost))))
        if not lacking or (one.epoch == newest and not one.closed):
            continue
        lost = ((a, b, reason) for first, last, reason in one.lost for a, b in lacking.within(first, last))
        found[one.epoch] = before.with_lost(lost).ended_with(max(said.last, before.top))
    return {epoch: after for epoch, after in found.items() if after != marks.get(epoch)}


def stored(marks: StreamMarks, *, store: str, news: Collection[int] = (), keep: int = 16, turn: int = 0) -> Stored:
    """The message that tells a stream's owner what of it is had.

    Named are the newest epochs, so many as `keep`, all that are incomplete, and those of which there is news: an owner
    that does not know of others has them in its journal, offers them, and is then told. More than MOST_TOLD ranges are
    told in turns, from 0 on: an owner keeps in mind what it was told, so that an epoch full of losses, or one that
    never closes its holes, does not keep the journal from being trimmed of what came later.
    """
    named = {*sorted(marks)[-keep:], *news}
    some = [marks[epoch] for epoch in sorted(marks) if epoch in named or not marks[epoch].complete]
    pages = -(-sum(map(_ranges, some)) // MOST_TOLD)
    place = -(turn % pages) * MOST_TOLD if pages else 0
    told = []
    for one in some:
        told.append(_told(one, place))
        place += _ranges(one)
    return Stored(store=store, epochs=told)


def _ranges(marks: EpochMarks) -> int:
    return len(marks.have) + len(marks.lost)


def _told(marks: EpochMarks, place: int) -> StoredEpoch:
    """Of what is had and lost together the ranges at the places 0 to MOST_TOLD. place: of the first of them all."""
    have, lost = list(marks.have), list(marks.lost)
    if place < 0 or place + _ranges(marks) > MOST_TOLD:
        ends = sorted([last for _, last in have] + [last for _, last, _ in lost])
        inside = set(ends[max(-place, 0) : max(MOST_TOLD - place, 0)])
        have, lost = [one for one in have if one[1] in inside], [one for one in lost if one[1] in inside]
    return StoredEpoch(epoch=marks.epoch, have=have, lost=lost, closed=True if marks.last is not None else None)


def _between(epoch: int, top: int, last: int) -> Iterable[Missing]:
    if last > top:
        yield Missing(epoch, top + 1, last)


def _without(lost: Iterable[Lost], seq: int) -> Iterable[Lost]:
    for first, last, reason in lost:
        parts = (first, min(last, seq - 1)), (max(first, seq + 1), last)
        yield from ((begin, end, reason) for begin, end in parts if begin <= end)


def _joined(lost: Iterable[Lost]) -> Iterable[Lost]:
    """Neighbours of one reason as one: a long loss is said request by request."""
    at: Lost | None = None
    for first, last, reason in lost:
        if at is not None and at[1] == first - 1 and at[2] == reason:
            at = (at[0], last, reason)
            continue
        if at is not None:
            yield at
        at = (first, last, reason)
    if at is not None:
        yield at


def _merged(have: tuple[Range, ...], seq: int) -> tuple[Range, ...]:
    at = bisect_right(have, (seq, _INFINITE))
    first = last = seq
    below, above = have[:at], have[at:]
    if below and below[-1][1] == seq - 1:
        first = below[-1][0]
        below = below[:-1]
    if above and above[0][0] == seq + 1:
        last = above[0][1]
        above = above[1:]
    return (*below, (first, last), *above)
