"""Sets of sequence numbers as closed ranges. Pure."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class Ranges:
    """Positive integers kept as ascending closed ranges [first, last] that do not touch."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in ranges:
            self.add(first, last)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._firsts, self._lasts, strict=True)

    def __len__(self) -> int:
        """How many ranges; see count() for how many numbers."""
        return len(self._firsts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and self._firsts == other._firsts and self._lasts == other._lasts

    __hash__ = None  # type: ignore[assignment] # it changes

    def __repr__(self) -> str:
        return f"Ranges({list(self)})"

    @property
    def last(self) -> int:
        """The highest number, 0 if there is none."""
        return self._lasts[-1] if self._lasts else 0

    def count(self) -> int:
        """How many numbers are in it."""
        return sum(self._lasts) - sum(self._firsts) + len(self._firsts)

    def add(self, first: int, last: int) -> None:
        """Adds every number from first to last; nothing if last < first."""
        if last < first:
            return
        if self._lasts and first == self._lasts[-1] + 1:
            self._lasts[-1] = last
            return
        # The ranges that overlap or touch the new one become one with it.
        start = bisect_left(self._lasts, first - 1)
        stop = bisect_right(self._firsts, last + 1)
        if start < stop:
            first = min(first, self._firsts[start])
            last = max(last, self._lasts[stop - 1])
        self._firsts[start:stop] = [first]
        self._lasts[start:stop] = [last]

    def update(self, other: "Ranges") -> None:
        """Adds every number of the other."""
        for first, last in other:
            self.add(first, last)

    def remove(self, first: int, last: int) -> None:
        """Removes every number from first to last."""
        start, stop = bisect_left(self._lasts, first), bisect_right(self._firsts, last)
        if last < first or start >= stop:
            return
        begin, end = self._firsts[start], self._lasts[stop - 1]
        left = [(a, b) for a, b in ((begin, first - 1), (last + 1, end)) if a <= b]
        self._firsts[start:stop] = [a for a, _ in left]
        self._lasts[start:stop] = [b for _, b in left]

    def within(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """What of first..last is in it, as ranges."""
        for index in range(bisect_left(self._lasts, first), bisect_right(self._firsts, last)):
            yield max(first, self._firsts[index]), min(last, self._lasts[index])

    def gaps(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """What of first..last is not in it, as ranges."""
        for begin, end in self.within(first, last):
            if first < begin:
                yield first, begin - 1
            first = end + 1
        if first <= last:
            yield first, last

    def common(self, other: "Ranges") -> "Ranges":
        """The numbers that are in both."""
        return Ranges(part for first, last in self for part in other.within(first, last))

    def minus(self, other: "Ranges") -> "Ranges":
        """The numbers that the other has not."""
        return Ranges(part for first, last in self for part in other.gaps(first, last))

    def covers(self, first: int, last: int) -> bool:
        """Whether every number from first to last is in it."""
        index = bisect_left(self._lasts, last)
        return last < first or (index < len(self._firsts) and self._firsts[index] <= first)

    def keep_last(self, most: int) -> None:
        """Forgets the lowest ranges so that at most `most` are left."""
        del self._firsts[:-most], self._lasts[:-most]
