"""The frames of one stream: numbered without gaps, each sample's times distinct per tag. Pure."""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from contracts.v1.frame import BAD
from contracts.v1.frame_codec import (
    FrameStruct,
    PreviousStruct,
    QualityStruct,
    SampleStruct,
    WireValue,
    wire_integer,
)
from plugins.api.driver import Reading

SILENCE_S = 10.0
"""A stream with nothing to say sends an empty frame after so long, so that the loss of its last frames is seen."""


class Position(Protocol):
    """Where a stream stands: its epoch, what the epoch before ended with, and the numbers that come next."""

    @property
    def epoch(self) -> int:
        """Grows with every opening of the stream."""
        ...

    @property
    def previous(self) -> tuple[int, int] | None:
        """The epoch before and its last sequence number, 0 if it had none; None in a stream's first epoch."""
        ...

    def next_seq(self) -> int:
        """1, 2, 3, ..."""
        ...


class FrameStream:
    """Makes the frames of one group.

    tags: of the group. integers: those whose value may be beyond 2^53 - 1. rev: revision of the device file.
    announced: what of the stream is still to come out of the journal, see contracts.v1.frame.Frame.backlog.
    """

    def __init__(
        self,
        *,
        position: Position,
        rev: str,
        tags: Iterable[str],
        integers: Iterable[str],
        announced: Callable[[], list[tuple[int, int, int]] | None],
    ) -> None:
        self._announced = announced
        self._position = position
        self.rev = rev
        self._tags = tuple(tags)
        self._integers = tuple(integers)
        self._times = DistinctTimes(len(self._tags))

    def frame(self, reading: Reading) -> FrameStruct:
        """The reading as the stream's next frame."""
        return self._next([self._sample(reading)])

    def empty(self) -> FrameStruct:
        """The next frame of a stream with nothing to say."""
        return self._next([])

    def bad(self, t: int, cause: str, *, code: int | None = None) -> Reading:
        """A reading in which no tag has a value. t: microseconds."""
        quality = QualityStruct(BAD, cause, code)
        return Reading(t, dict.fromkeys(self._tags), dict.fromkeys(self._tags, quality))

    def last(self, reading: Reading | None) -> FrameStruct:
        """The stream's last frame, with this reading."""
        return self._next([self._sample(reading)] if reading else [], closed=True)

    def _next(self, samples: list[SampleStruct], *, closed: bool | None = None) -> FrameStruct:
        seq = self._position.next_seq()
        previous = PreviousStruct(*self._position.previous) if seq == 1 and self._position.previous else None
        return FrameStruct(self._position.epoch, seq, self.rev, samples, previous, closed, self._announced())

    def _sample(self, reading: Reading) -> SampleStruct:
        dt = self._times.distinct(reading)
        values, big = self._wire(reading.values)
        return SampleStruct(reading.t, values, dict(reading.quality) or None, dict(dt) or None, big or None)

    def _wire(self, values: dict[str, WireValue]) -> tuple[dict[str, WireValue], list[str]]:
        """The values as they travel, and the tags whose integer travels as a string."""
        strings = {
            tag: text
            for tag in self._integers
            if isinstance(value := values.get(tag), int) and isinstance(text := wire_integer(value), str)
        }
        return ({**values, **strings}, list(strings)) if strings else (values, [])


class DistinctTimes:
    """Keeps a source that gives one time to two values from overwriting the first in a history.

    The second then counts as 1 microsecond later, the third as 2. A repeated value at a repeated time is the same
    point and keeps its time. tags: how many the group has.
    """

    def __init__(self, tags: int) -> None:
        self._count = tags
        self._whole: Reading | None = None  # the last reading, if every tag took its time from it alone
        self._last: dict[str, tuple[int, int, WireValue]] = {}  # source time, time given, value

    def distinct(self, reading: Reading) -> Mapping[str, int]:
        """The offsets (dt) of the reading's tags from its t, so that no tag has two values at one time."""
        whole = self._whole
        plain = len(reading.values) == self._count and not reading.dt
        if plain and (whole.t < reading.t if whole else not self._last):
            self._whole = reading  # the common case costs nothing per tag
            return reading.dt
        if whole is not None:
            self._last = {tag: (whole.t, whole.t, value) for tag, value in whole.values.items()}
            self._whole = None
        offsets = {tag: self._given(tag, value, reading) - reading.t for tag, value in reading.values.items()}
        dt = {tag: offset for tag, offset in offsets.items() if offset}
        if plain and not dt:
            self._whole = reading
            self._last = {}
        return dt

    def _given(self, tag: str, value: WireValue, reading: Reading) -> int:
        source = reading.t + reading.dt.get(tag, 0)
        given = source
        last = self._last.get(tag)
        if last and last[0] <= source <= last[1]:
            given = last[1] if value == last[2] else last[1] + 1
        self._last[tag] = (source, given, value)
        return given
