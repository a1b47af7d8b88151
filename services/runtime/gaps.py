"""What is missing in streams that nobody has announced to come, and when to ask its owner for it. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from services.runtime.ranges import Ranges

Range = tuple[int, int]
"""A closed range of sequence numbers."""

Announced = Sequence[tuple[int, int, int]]
"""[epoch, from, to] of what is still to come of a stream, as its last live message has said."""

MOST_RANGES = 100
MOST_NUMBERS = 10_000
"""What one request asks for at most."""
GRACE_S = 1.0
"""A gap is asked for when it is so old: what is on its way then comes by itself."""
SILENT_GRACE_S = 12.0
"""The same for a stream that has said nothing since the start: each says something every 10 s."""
LAPSE_S = 60.0
"""What a stream has announced counts no more when it has said nothing for so long: its owner may have dropped it."""
FIRST_WAIT_S = 2.0
LONGEST_WAIT_S = 60.0
PATIENCE = 5
"""So often an owner may say that it does not know of an epoch before that is believed."""


class StreamKey(NamedTuple):
    """A stream as the STORED topic names it: for frames the owner is the device and the name is the group."""

    kind: str
    owner: str
    name: str


class Marks(Protocol):
    """What is had of one epoch of a stream."""

    @property
    def holes(self) -> tuple[Range, ...]:
        """What should have come and has not, as ascending ranges."""
        ...


class Wanted(NamedTuple):
    """A request to be made."""

    stream: StreamKey
    epoch: int
    ranges: list[Range]


@dataclass(slots=True)
class _Case:
    """A stream with gaps. due_s: when to ask next. asked: how many were missing then. denied: see PATIENCE."""

    due_s: float
    wait_s: float = FIRST_WAIT_S
    asked: int = 0
    denied: int = 0
    under_way: bool = False


class Gaps:
    """Per stream the holes in its marks, less what has been announced. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._holes: dict[StreamKey, dict[int, tuple[Range, ...]]] = {}
        self._announced: dict[StreamKey, Announced] = {}
        self._told_at: dict[StreamKey, float | None] = {}  # of announcements; None: since the last due()
        self._cases: dict[StreamKey, _Case] = {}

    def announced(self, stream: StreamKey) -> Announced:
        """What the stream's last live message has said to come."""
        return self._announced.get(stream, ())

    def note(
        self,
        marks: Mapping[StreamKey, Mapping[int, Marks]],
        announced: Mapping[StreamKey, Announced] | None = None,
    ) -> None:
        """These marks have changed, and live messages have said this to come."""
        for stream, epochs in marks.items():
            self._update(stream, epochs)
        for stream, told in (announced or {}).items():
            self._announced[stream] = told
            if told:
                self._told_at[stream] = None
            else:
                self._told_at.pop(stream, None)

    def _update(self, stream: StreamKey, epochs: Mapping[int, Marks]) -> None:
        here = self._holes.setdefault(stream, {})
        for epoch, marks in epochs.items():
            if marks.holes:
                here[epoch] = marks.holes
            else:
                here.pop(epoch, None)
        if not here:
            del self._holes[stream]

    @property
    def count(self) -> int:
        """How many numbers are missing, the announced ones among them. From any thread."""
        here = [holes for epochs in tuple(self._holes.values()) for holes in tuple(epochs.values())]
        return sum(last - first + 1 for holes in here for first, last in holes)

    def misses(self, stream: StreamKey) -> bool:
        """Whether something of the stream is missing, announced or not."""
        return stream in self._holes

    def due(self, now_s: float, *, most: int) -> list[Wanted]:
        """The requests to be made now, at most one per stream and `most` in all; each is to be settled.

        First those of owners that have not been asked in vain: many that are gone for good must not hold them up.
        """
        self._let_lapse(now_s)
        found: list[tuple[_Case, Wanted]] = []
        for stream in [*self._cases]:
            if stream not in self._holes and not self._cases[stream].under_way:
                del self._cases[stream]
        for stream in self._holes:
            missing = next(self._missing(stream), None)
            case = self._cases.get(stream)
            if missing is None:
                if case and not case.under_way:
                    del self._cases[stream]
            elif case is None:
                grace_s = GRACE_S if stream in self._announced else SILENT_GRACE_S
                self._cases[stream] = _Case(due_s=now_s + grace_s)
            elif case.due_s <= now_s and not case.under_way:
                found.append((case, Wanted(stream, missing[0], list(_first(missing[1])))))
        found.sort(key=lambda one: (one[0].wait_s, one[0].due_s))
        for case, _ in found[:most]:
            case.under_way = True
        return [wanted for _, wanted in found[:most]]

    def _let_lapse(self, now_s: float) -> None:
        for stream, told_at in [*self._told_at.items()]:
            if told_at is None:
                self._told_at[stream] = now_s
            elif now_s - told_at >= LAPSE_S:
                self._announced[stream] = ()
                del self._told_at[stream]

    def settle(self, wanted: Wanted, now_s: float, *, denied: bool = False) -> bool:
        """The request has been answered, or not in time. denied: the owner knows nothing of the epoch.

        Waits before the next request, longer each time unless there is progress. True once a denial is to be believed.
        """
        case = self._cases.get(wanted.stream)
        if case is None:
            return False
        missing = sum(last - first + 1 for _, ranges in self._missing(wanted.stream) for first, last in ranges)
        case.wait_s = FIRST_WAIT_S if missing < case.asked else min(2 * case.wait_s, LONGEST_WAIT_S)
        case.asked, case.under_way = missing, False
        case.due_s = now_s + case.wait_s
        case.denied = case.denied + 1 if denied else 0
        return case.denied >= PATIENCE

    def _missing(self, stream: StreamKey) -> Iterator[tuple[int, list[Range]]]:
        """Epoch and ranges of what is missing and not announced."""
        for epoch, holes in sorted(self._holes.get(stream, {}).items()):
            ranges = list(unannounced(self.announced(stream), epoch, holes))
            if ranges:
                yield epoch, ranges


def unannounced(announced: Announced, epoch: int, ranges: Iterable[Range]) -> Iterator[Range]:
    """What of the ranges has not been announced."""
    told = Ranges((first, last) for one, first, last in announced if one == epoch)
    for first, last in ranges:
        yield from told.gaps(first, last)


def _first(ranges: Iterable[Range]) -> Iterator[Range]:
    left = MOST_NUMBERS
    for at, (first, last) in enumerate(ranges):
        if at == MOST_RANGES or not left:
            return
        yield first, min(last, first + left - 1)
        left -= min(left, last - first + 1)
