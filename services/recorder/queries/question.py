"""What was asked of the history, taken apart: which tags, from where on, which buckets. Pure."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple

from contracts.tag_pattern import matches
from contracts.v1.frame import GOOD
from contracts.v1.history import Aggregate, QueryHistory
from services.recorder.summary import Point, Summary

LONGEST_S = 3.0
"""How long a search may take: whoever asks waits for 5 seconds."""


class Series(NamedTuple):
    """A tag of a device. They are told in the order of these names."""

    device: str
    tag: str


class Place(NamedTuple):
    """Where an answer goes on: with the points of this series from t on (µs)."""

    series: Series
    t: int

    @classmethod
    def of(cls, text: str | None) -> "Place | None":
        """As `after` has it."""
        if text is None:
            return None
        device, tag, t = text.split("/")
        return cls(Series(device, tag), int(t))

    def __str__(self) -> str:
        return f"{self.series.device}/{self.series.tag}/{self.t}"


class TooLong(Exception):
    """Nothing was found within LONGEST_S."""

    def __init__(self) -> None:
        super().__init__(f"not found within {LONGEST_S:g} s; ask for a shorter stretch of time, or shorter buckets")


class NoSuchTag(Exception):
    """A pattern matches no tag that was ever recorded."""


class Patience:
    """How much longer an answer may take. now_s: monotonic."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._end_s = now_s() + LONGEST_S

    @property
    def left_s(self) -> float:
        """Seconds; 0 once it has ended."""
        return max(0.0, self._end_s - self._now_s())

    @property
    def ended(self) -> bool:
        """Whether it is time to answer."""
        return self.left_s == 0

    def check(self) -> None:
        """Raises TooLong once it has ended."""
        if self.ended:
            raise TooLong


@dataclass(frozen=True, slots=True)
class Buckets:
    """Stretches of t0 <= t < t1, each of step µs from t0 on; the last ends at t1.

    aggregates: what will be told of them: an archive need not find out more. good_only: values that are not good count
    as none.
    """

    t0: int
    t1: int
    step: int
    aggregates: frozenset[Aggregate]
    good_only: bool = False

    @classmethod
    def of(cls, asked: QueryHistory) -> "Buckets":
        """Those that were asked for."""
        step = asked.every or -(-(asked.until - asked.since) // (asked.buckets or 1))
        return cls(asked.since, asked.until, step, frozenset(asked.aggregates or ()), asked.good_only)

    @property
    def holds(self) -> bool:
        """Whether it matters how long each value held."""
        return Aggregate.TWA in self.aggregates

    def start(self, t: int) -> int:
        """Where the bucket begins that t is in."""
        return t - (t - self.t0) % self.step

    def end(self, start: int) -> int:
        """Where the bucket ends that begins at `start`."""
        return min(start + self.step, self.t1)

    def since(self, t: int) -> "Buckets":
        """Those that begin at t or later."""
        first = max(t, self.t0)
        return replace(self, t0=first + (self.t0 - first) % self.step)

    def only(self, start: int) -> "Buckets":
        """The one that begins there."""
        return replace(self, t0=start, t1=self.end(start))

    def windows(self, most: int) -> Iterator["Buckets"]:
        """All of them in the order of time, so many at once."""
        for t0 in range(self.t0, self.t1, most * self.step):
            yield replace(self, t0=t0, t1=min(t0 + most * self.step, self.t1))

    def judged(self, points: Iterable[Point]) -> Iterator[Point]:
        """The points as they count here."""
        return ((t, None if self.good_only and q < GOOD else value, q) for t, value, q in points)

    def gathered(self, pieces: Iterable[Sequence[Point]]) -> Iterator[tuple[int, Summary]]:
        """The start and the summary of each bucket with points. pieces: all points, in the order of time."""
        start, summary = self.t0, Summary()
        for piece in pieces:
            for here, points in groupby(self.judged(piece), key=lambda point: self.start(point[0])):
                if here != start and summary.n:
                    yield start, summary
                    summary = Summary()
                start, summary = here, summary.then(Summary.of(list(points)))
        if summary.n:
            yield start, summary


def chosen(patterns: Sequence[str], known: Sequence[Series]) -> list[Series]:
    """The series that any pattern means, in their order. Raises NoSuchTag that names a pattern without one."""
    wanted: set[Series] = set()
    for pattern in patterns:
        found = [one for one in known if matches(pattern, *one)]
        if not found:
            raise NoSuchTag(f"nothing is recorded of {pattern!r}: write DEVICE, TAG or DEVICE/TAG, with * and ?")
        wanted.update(found)
    return sorted(wanted)
