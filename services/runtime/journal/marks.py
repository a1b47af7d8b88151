"""What the required recorders say they have stored. Pure."""

from collections.abc import Iterable, Iterator

from contracts.v1.resend import UNKNOWN
from contracts.v1.stored import Stored
from services.runtime.journal.record import Key
from services.runtime.ranges import Ranges


class Marks:
    """Per required recorder and key the sequence numbers that it has, or knows to be lost."""

    def __init__(self, recorders: Iterable[str]) -> None:
        self._marks: dict[str, dict[Key, Ranges]] = {recorder: {} for recorder in recorders}

    def __contains__(self, recorder: str) -> bool:
        return recorder in self._marks

    def add(self, recorder: str, stream: int, message: Stored) -> None:
        """Takes note of what the recorder has of the stream; what it said before stays true.

        What it has given up as `unknown` another owner did not know: a gateway that has the device now, or our own
        with an empty folder. If it is held here, the recorder still lacks it.
        """
        for epoch in message.epochs:
            ranges = self._marks[recorder].setdefault((stream, epoch.epoch), Ranges())
            for first, last in epoch.have:
                ranges.add(first, last)
            for first, last, reason in epoch.lost:
                if reason != UNKNOWN:
                    ranges.add(first, last)

    def forget(self, recorder: str) -> None:
        """The recorder has a new database: it has nothing."""
        self._marks[recorder].clear()

    def covers(self, key: Key, runs: Ranges) -> bool:
        """Whether every required recorder has all of these."""
        return not self.missing(key, runs)

    def missing(self, key: Key, runs: Ranges) -> Ranges:
        """Those of the runs that at least one required recorder does not have."""
        return Ranges(self._gaps(key, runs))

    def lacking(self, key: Key, runs: Ranges) -> int:
        """How many of the runs' numbers are lacking, summed over the required recorders."""
        return sum(last - first + 1 for first, last in self._gaps(key, runs))

    def _gaps(self, key: Key, runs: Ranges) -> Iterator[tuple[int, int]]:
        nothing = Ranges()
        for marks in self._marks.values():
            for first, last in runs:
                yield from marks.get(key, nothing).gaps(first, last)
