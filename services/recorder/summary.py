"""What a stretch of one tag's points amounts to, so that stretches can be put together without their points. Pure.

Summaries of neighbouring stretches join in any grouping to the summary of the whole: the empty one and then() make
a monoid. So raw points, minutes of the roll-up and whole buckets are combined alike.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import inf
from operator import mul, sub
from typing import NamedTuple

from services.recorder.embedded.chunk import Value

Point = tuple[int, Value, int]
"""(time in µs, value or None, quality)."""

Number = int | float

_PLAIN = ({float}, {int})
"""Types of values that can be added up without a look at each."""


class Summary(NamedTuple):
    """Points of one tag in the order of time, each at a time of its own.

    n: how many. usable: those with a number, to which min, max and sum belong; a bool is 0 or 1, and a text, an array
    or no value is none. first, last: whole points; None if there are none. area: each number times the µs that it held,
    until the next point; covered_us: how many µs that are. Integers are exact; a sum with a float in it is rounded as
    floats are, and infinite beyond them.
    """

    n: int = 0
    usable: int = 0
    min: Number | None = None
    max: Number | None = None
    sum: Number = 0
    first: Point | None = None
    last: Point | None = None
    area: Number = 0
    covered_us: int = 0

    @classmethod
    def of(cls, points: Sequence[Point]) -> "Summary":
        """Of the points, which are in the order of time."""
        if not points:
            return cls()
        times, values, _ = zip(*points, strict=True)
        if set(map(type, values)) in _PLAIN:
            return cls(
                n=len(points),
                usable=len(points),
                min=min(values),
                max=max(values),
                sum=sum(values),
                first=points[0],
                last=points[-1],
                area=sum(map(mul, values, map(sub, times[1:], times))),
                covered_us=times[-1] - times[0],
            )
        return cls._of_mixed(points)

    @classmethod
    def _of_mixed(cls, points: Sequence[Point]) -> "Summary":
        numbers = [number for _, value, _ in points if (number := number_of(value)) is not None]
        held = [
            (number, later[0] - point[0])
            for point, later in pairwise(points)
            if (number := number_of(point[1])) is not None
        ]
        return cls(
            n=len(points),
            usable=len(numbers),
            min=min(numbers, default=None),
            max=max(numbers, default=None),
            sum=total(numbers),
            first=points[0],
            last=points[-1],
            area=total([number * us for number, us in held]),
            covered_us=sum(us for _, us in held),
        )

    def then(self, later: "Summary") -> "Summary":
        """Of both stretches; every point of the later one is after all of ours."""
        if self.last is None:
            return later
        if later.first is None:
            return self
        held, us = number_of(self.last[1]), later.first[0] - self.last[0]
        return Summary(
            n=self.n + later.n,
            usable=self.usable + later.usable,
            min=_one(min, self.min, later.min),
            max=_one(max, self.max, later.max),
            sum=total((self.sum, later.sum)),
            first=self.first,
            last=later.last,
            area=total((self.area, 0 if held is None else held * us, later.area)),
            covered_us=self.covered_us + later.covered_us + (0 if held is None else us),
        )


def number_of(value: Value) -> Number | None:
    """The number that a value counts as; None for a text, an array and no value."""
    if isinstance(value, bool):
        return int(value)
    return value if isinstance(value, int | float) else None


def _one(choose: Callable[[Number, Number], Number], one: Number | None, other: Number | None) -> Number | None:
    if one is None or other is None:
        return other if one is None else one
    return choose(one, other)


def total(numbers: Sequence[Number]) -> Number:
    """Their sum: exact for integers; infinite where an integer is beyond the floats that it is added to."""
    if set(map(type, numbers)) in _PLAIN:
        return sum(numbers)
    found: Number = 0
    for number in numbers:
        try:
            found += number
        except OverflowError:
            found = _unbounded(found) + _unbounded(number)
    return found


def _unbounded(number: Number) -> float:
    try:
        return float(number)
    except OverflowError:
        return inf if number > 0 else -inf
