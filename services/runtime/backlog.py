"""What a stream's owner still has to send out of its journal: which ranges, in which order. Pure."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from services.runtime.ranges import Ranges

StreamName = tuple[str, str, str]
"""kind, owner and name of a stream."""

MOST_ANNOUNCED = 64
"""Ranges that one message names; a recorder that lacks others asks for them."""


class Piece(NamedTuple):
    """A closed range of one epoch of a stream, to be sent next."""

    name: StreamName
    epoch: int
    first: int
    last: int


@dataclass(slots=True)
class _Due:
    """What of one epoch is to be sent.

    owed: until every required recorder has it. sent: what of that the broker has taken. asked: to be sent once, because
    somebody asked for it.
    """

    owed: Ranges = field(default_factory=Ranges)
    sent: Ranges = field(default_factory=Ranges)
    asked: Ranges = field(default_factory=Ranges)

    def first(self, *, only_asked: bool) -> tuple[int, int] | None:
        """The lowest range that is to be sent now."""
        asked = next(iter(self.asked), None)
        owed = None if only_asked else self._unsent()
        return min((one for one in (asked, owed) if one), default=None)

    def pending(self) -> Ranges:
        """All that is owed or asked for; not to be changed."""
        if not self.asked:
            return self.owed
        both = Ranges(self.owed)
        both.update(self.asked)
        return both

    def _unsent(self) -> tuple[int, int] | None:
        return next((gap for first, last in self.owed for gap in self.sent.gaps(first, last)), None)


class Backlog:
    """Ranges per stream and epoch. Streams take turns; within one, the lowest epoch and number goes first."""

    def __init__(self) -> None:
        self._streams: dict[StreamName, dict[int, _Due]] = {}
        self._turns: dict[StreamName, None] = {}  # streams that may have something to send, who is next first

    def __bool__(self) -> bool:
        """Whether anything is to be sent or waits for its confirmation."""
        return bool(self._streams)

    @property
    def waiting(self) -> bool:
        """Whether something was sent that a required recorder does not have yet."""
        return any(due.sent for epochs in self._streams.values() for due in epochs.values())

    def owe(self, name: StreamName, epoch: int, first: int, last: int) -> None:
        """These are to be sent until every required recorder has them."""
        self._due(name, epoch).owed.add(first, last)

    def ask(self, name: StreamName, epoch: int, first: int, last: int) -> None:
        """These are to be sent once."""
        self._due(name, epoch).asked.add(first, last)

    def next(self, most: int, *, only_asked: bool = False) -> Piece | None:
        """At most `most` numbers of the stream whose turn it is, if any is to be sent."""
        for name in list(self._turns):
            del self._turns[name]
            epochs = self._streams.get(name, {})
            for epoch in sorted(epochs):
                found = epochs[epoch].first(only_asked=only_asked)
                if found:
                    self._turns[name] = None  # behind the others
                    return Piece(name, epoch, found[0], min(found[1], found[0] + most - 1))
            if only_asked and epochs:
                self._turns[name] = None
        return None

    def sent(self, name: StreamName, epoch: int, seq: int) -> None:
        """The broker has taken it."""
        due = self._due(name, epoch)
        due.asked.remove(seq, seq)
        if due.owed.covers(seq, seq):
            due.sent.add(seq, seq)
        self._tidy(name, epoch)

    def forget(self, name: StreamName, epoch: int, first: int, last: int) -> None:
        """These cannot be sent: the journal does not hold them any more."""
        due = self._due(name, epoch)
        for ranges in (due.owed, due.sent, due.asked):
            ranges.remove(first, last)
        self._tidy(name, epoch)

    def owed(self, name: StreamName) -> Iterator[tuple[int, Ranges]]:
        """What of the stream is owed, by epoch; not to be changed."""
        return ((epoch, due.owed) for epoch, due in self._streams.get(name, {}).items())

    def confirm(self, name: StreamName, missing: Callable[[int, Ranges], Ranges]) -> None:
        """Keeps of what is owed only what a required recorder still misses.

        missing: gives of the ranges of an epoch those that are missed.
        """
        for epoch, due in list(self._streams.get(name, {}).items()):
            due.owed = missing(epoch, due.owed)
            due.sent = Ranges(part for first, last in due.owed for part in due.sent.within(first, last))
            self._tidy(name, epoch)

    def again(self) -> None:
        """What was sent and not confirmed is to be sent again."""
        for name, epochs in self._streams.items():
            for due in epochs.values():
                if due.sent:
                    due.sent = Ranges()
                    self._turns[name] = None

    def pending(self, name: StreamName) -> int:
        """How many numbers of the stream are owed or asked for."""
        return sum(due.pending().count() for due in self._streams.get(name, {}).values())

    @property
    def total(self) -> int:
        """How many numbers of all streams are owed or asked for."""
        return sum(map(self.pending, self._streams))

    def announced(self, name: StreamName) -> list[tuple[int, int, int]] | None:
        """[epoch, from, to] of what is still to come, ascending, at most MOST_ANNOUNCED of them; None for nothing."""
        epochs = self._streams.get(name)
        if not epochs:
            return None
        told = ((epoch, first, last) for epoch in sorted(epochs) for first, last in epochs[epoch].pending())
        return list(islice(told, MOST_ANNOUNCED))

    def _due(self, name: StreamName, epoch: int) -> _Due:
        self._turns.setdefault(name)
        return self._streams.setdefault(name, {}).setdefault(epoch, _Due())

    def _tidy(self, name: StreamName, epoch: int) -> None:
        epochs = self._streams[name]
        if not epochs[epoch].owed and not epochs[epoch].asked:
            del epochs[epoch]
        if not epochs:
            del self._streams[name]
            self._turns.pop(name, None)
