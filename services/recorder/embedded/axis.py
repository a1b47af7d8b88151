"""The times that a column's values belong to: tags of one group share them, and what is made of them. Pure."""

from collections.abc import Sequence
from functools import cached_property
from itertools import groupby, islice
from operator import lt, sub

from services.recorder.embedded.chunk import pack_times

MINUTE_US = 60_000_000
"""The stretch that one row of the roll-up stands for, and a checkpoint of what was heard."""


class Axis:
    """Times in µs in the order of arrival. What is worked out is kept, for the next tag that shares them."""

    def __init__(self, times: Sequence[int]) -> None:
        self.times = times
        self._packed: dict[tuple[int, int], bytes] = {}

    @cached_property
    def ascending(self) -> bool:
        """Whether each time is later than the one before it."""
        return all(map(lt, self.times, islice(self.times, 1, None)))

    @cached_property
    def deltas(self) -> list[int]:
        """How long it is from each time to the next, in µs; one fewer than there are times."""
        return list(map(sub, islice(self.times, 1, None), self.times))

    @cached_property
    def minutes(self) -> list[tuple[int, int, int]]:
        """(start of the minute in µs, place of its first time, place after its last one); for ascending times."""
        found: list[tuple[int, int, int]] = []
        place = 0
        for minute, group in groupby(time // MINUTE_US for time in self.times):
            n = sum(1 for _ in group)
            found.append((minute * MINUTE_US, place, place + n))
            place += n
        return found

    def packed(self, start: int, end: int) -> bytes:
        """The times of a chunk that holds the values from place `start` to before `end`."""
        if (start, end) not in self._packed:
            self._packed[start, end] = pack_times(self.times[start:end])
        return self._packed[start, end]
