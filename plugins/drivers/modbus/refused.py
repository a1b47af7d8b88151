"""What a device has refused to read, and how the blame is found. Pure; times are the caller's monotonic seconds.

A request is refused whole if it touches one illegal address, runs across a border that the device does not read
across, or is longer than the device can do. A refused stretch says: do not ask for anything that contains all of it.
Narrowing finds the shortest such stretches. Around a single tag it is sure: the tag cannot be read. Between tags it is
a guess, which keeps them apart: plan() makes no request for several tags that contains one.
"""

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from .address import Table

Barred = Callable[[int, Table, int, int], bool]
"""Whether a read of this unit's table, from this address to before that one, is known to be refused."""


class Stretched(Protocol):
    """Anything from an address to before another."""

    @property
    def start(self) -> int:
        """The first address."""
        ...

    @property
    def end(self) -> int:
        """The address after the last one."""
        ...


S = TypeVar("S", bound=Stretched)


def NOTHING_REFUSED(unit: int, table: Table, start: int, end: int) -> bool:  # noqa: N802 - the constant of its kind
    """Of a device that has refused nothing."""
    return False


@dataclass(frozen=True, slots=True)
class Stretch:
    """Addresses of which a request may not contain all. code: the exception that was the answer.

    sure: a request for exactly these addresses, which are those of one tag, was refused.
    """

    table: Table
    start: int
    end: int
    code: int
    sure: bool = False


class _Row:
    """Stretches of which none contains another: in order of their starts, and so of their ends too."""

    def __init__(self) -> None:
        self._stretches: list[Stretch] = []

    def inside(self, start: int, end: int) -> Stretch | None:
        """One that a read from start to before end contains."""
        place = bisect_left(self._stretches, start, key=_start)
        first = self._stretches[place] if place < len(self._stretches) else None
        return first if first is not None and first.end <= end else None

    def containing(self, start: int, end: int) -> list[Stretch]:
        """Those that contain all of this."""
        before = self._stretches[: bisect_right(self._stretches, start, key=_start)]
        return [stretch for stretch in before if stretch.end >= end]

    def add(self, stretch: Stretch) -> None:
        """Puts it in its place."""
        insort(self._stretches, stretch, key=_start)

    def remove(self, stretch: Stretch) -> None:
        """Takes it out. Raises ValueError if it is not there."""
        self._stretches.remove(stretch)


class Refusals:
    """The refused stretches of one unit. revision: goes up with each change."""

    def __init__(self) -> None:
        self.revision = 0
        self._known: dict[Stretch, None] = {}  # the longest known first
        self._rows: defaultdict[tuple[Table, bool], _Row] = defaultdict(_Row)  # by table and whether they are sure

    def note(self, stretch: Stretch) -> None:
        """The device refused what contains this; nothing if that is known of something shorter in it."""
        if self.inside(stretch.table, stretch.start, stretch.end, sure=stretch.sure) is not None:
            return
        for sure in {False, stretch.sure}:
            for needless in self._rows[stretch.table, sure].containing(stretch.start, stretch.end):
                self._remove(needless)
        self._known[stretch] = None
        self._rows[stretch.table, stretch.sure].add(stretch)
        self.revision += 1

    def inside(self, table: Table, start: int, end: int, *, sure: bool = False) -> Stretch | None:
        """A refused stretch that a read from start to before end contains. sure: of those only."""
        found = self._rows[table, True].inside(start, end)
        return found if found is not None or sure else self._rows[table, False].inside(start, end)

    def oldest(self, table: Table, start: int, end: int) -> Stretch | None:
        """The longest-known refused stretch that a read from start to before end contains."""
        within = (one for one in self._known if one.table is table and start <= one.start and one.end <= end)
        return next(within, None)

    def forget(self, stretch: Stretch) -> None:
        """Puts one to the test: the next request may contain it."""
        self._remove(stretch)
        self.revision += 1

    def clear(self) -> None:
        """One was found to be readable: the device has changed, so the others are in doubt as well."""
        self._known.clear()
        self._rows.clear()
        self.revision += 1

    def _remove(self, stretch: Stretch) -> None:
        del self._known[stretch]
        self._rows[stretch.table, stretch.sure].remove(stretch)


def _start(stretch: Stretch) -> int:
    return stretch.start


def narrowed(
    table: Table, spans: Sequence[S], code: int, *, most: int
) -> Generator[Sequence[S], int | None, list[Stretch]]:
    """Finds what to blame for the refusal of a request that covered these spans, in order of start.

    Yields the spans that are to be asked for together, and is sent the code of their refusal, or None if they were
    answered (or failed otherwise, which blames nothing). Asks at most `most` times; what is not narrowed down by then
    is blamed as a whole. Returns the stretches to note.
    """
    found: list[Stretch] = []
    suspects = deque([(spans, code)])
    while suspects:
        spans, code = suspects.popleft()
        if len(spans) == 1 or most < 2:
            found.append(Stretch(table, spans[0].start, _end(spans), code, sure=len(spans) == 1))
            continue
        most -= 2
        halves = spans[: len(spans) // 2], spans[len(spans) // 2 :]
        refused = []
        for half in halves:
            answer = yield half
            if answer is not None:
                refused.append((half, answer))
        if not refused:
            found.append(_between(table, *halves, code))
        suspects.extend(refused)
    return found


def _between(table: Table, left: Sequence[Stretched], right: Sequence[Stretched], code: int) -> Stretch:
    """Both sides are readable, together they are not: the gap between them is to blame, the border, or the length."""
    start, end = _end(left), right[0].start
    if start < end:
        return Stretch(table, start, end, code)
    return Stretch(table, end - 1, start + 1, code)


def _end(spans: Sequence[Stretched]) -> int:
    return max(span.end for span in spans)
