"""Which messages of a stream a trigger is done with: a frame may come live, again, and out of a journal. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from contracts.v1.frame_codec import HeaderStruct
from services.runtime.gaps import Announced, Marks
from services.runtime.ranges import Ranges

MOST_EPOCHS = 8
MOST_RANGES = 1000


@dataclass(slots=True)
class _Epoch:
    """done: for good, and so on disk. came: in this session, done or not. floor: the first that is the trigger's own;
    None: not known. last: with which number it ended, as far as is known."""

    done: Ranges = field(default_factory=Ranges)
    came: Ranges = field(default_factory=Ranges)
    floor: int | None = None
    last: int = 0

    @property
    def holes(self) -> tuple[tuple[int, int], ...]:
        """What should have come before the newest that came, or before the end, and has not."""
        top = max(self.came.last, self.last)
        if self.floor is None or not top:
            return ()
        missing = Ranges(self.done.gaps(self.floor, top))
        for first, last in self.came:
            missing.remove(first, last)
        return tuple(missing)


class Seen:
    """The frames of one stream, by epoch and number."""

    def __init__(self) -> None:
        self.announced: Announced = ()
        self._epochs: dict[int, _Epoch] = {}

    def has(self, epoch: int, seq: int) -> bool:
        """Whether this one is done with."""
        return epoch in self._epochs and self._epochs[epoch].done.covers(seq, seq)

    def came(self, header: HeaderStruct, *, own: bool, announced: Announced | None) -> None:
        """A frame has come. own: it was made since the trigger was set up. announced: what it said is still to come;
        None if it cannot say, since it is an old one."""
        if announced is not None:
            self.announced = announced
        known = any(one.floor is not None for epoch, one in self._epochs.items() if epoch < header.epoch)
        one = self._of(header.epoch)
        one.came.add(header.seq, header.seq)
        one.came.keep_last(MOST_RANGES)
        if own:
            # The first that comes of a stream is the first that is wanted; of later epochs all are.
            one.floor = 1 if known else min(header.seq, one.floor or header.seq)
        if header.prev is not None and known:
            before = self._of(header.prev.epoch)
            before.floor = before.floor or 1
            before.last = max(before.last, header.prev.last_seq)
        self._let_go()

    def done(self, epoch: int, seq: int) -> None:
        """This one is done with."""
        self.done_with(epoch, seq, seq)

    def done_with(self, epoch: int, first: int, last: int) -> None:
        """These are: they were run, or will never come."""
        one = self._of(epoch)
        one.done.add(first, last)
        one.done.keep_last(MOST_RANGES)
        if len(one.done) == MOST_RANGES and one.floor is not None:
            one.floor = max(one.floor, next(iter(one.done))[0])  # what was let go of is not missing
        self._let_go()

    @property
    def marks(self) -> Mapping[int, Marks]:
        """Each epoch, with what of it should have come and has not."""
        return self._epochs

    def state(self) -> dict[str, Any]:
        """As JSON."""
        return {
            str(epoch): {"done": list(one.done), "floor": one.floor, "last": one.last}
            for epoch, one in self._epochs.items()
        }

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> "Seen":
        """Out of what state() gave."""
        seen = cls()
        for epoch, one in state.items():
            done = Ranges((first, last) for first, last in one["done"])
            seen._epochs[int(epoch)] = _Epoch(done=done, floor=one["floor"], last=one["last"])
        return seen

    def _of(self, epoch: int) -> _Epoch:
        return self._epochs.setdefault(epoch, _Epoch())

    def _let_go(self) -> None:
        while len(self._epochs) > MOST_EPOCHS:
            del self._epochs[min(self._epochs)]
