"""Which messages of a stream have been taken already: a frame may come live, again, and out of a journal. Pure."""

from services.runtime.ranges import Ranges

MOST_EPOCHS = 8
MOST_RANGES = 1000


class Seen:
    """The frames of one stream that have been taken, by epoch and number."""

    def __init__(self) -> None:
        self._epochs: dict[int, Ranges] = {}

    def take(self, epoch: int, seq: int) -> bool:
        """Whether this one is new; it is not from now on."""
        ranges = self._epochs.setdefault(epoch, Ranges())
        if ranges.covers(seq, seq):
            return False
        ranges.add(seq, seq)
        ranges.keep_last(MOST_RANGES)
        if len(self._epochs) > MOST_EPOCHS:
            del self._epochs[min(self._epochs)]
        return True
