"""Frames: all values of one poll of one group, and how good they are."""

from typing import Annotated

from pydantic import Field

from contracts.topic import Topic
from contracts.v1.message import Count, Level, Message, Micros, Ordinal, Value, is_absent

Seq = Ordinal
"""A sequence number, or an epoch."""

GOOD = 192
UNCERTAIN = 64
BAD = 0


class Quality(Message):
    """Why a value is not good.

    q: 192 good, 64 uncertain, 0 bad: the classic OPC DA quality numbers (OPC DA 3.0, 6.8), which plot.
    cause: comm, config, range, stale, device, startup, ...; readers accept words they do not know.
    code: the OPC UA status code or the Modbus exception code, where there is one.
    """

    q: Annotated[int, Field(ge=0, le=255)]
    cause: str
    code: int | None = Field(default=None, exclude_if=is_absent)


class Sample(Message):
    """The values of one group at one time.

    t: source time of the reading.
    v: value by tag; null for a tag without a usable value, which then stands in q.
    q: quality of the tags that are not good, and of no others.
    dt: where a tag's own source time differs from t: its offset from t in microseconds.
    big: tags whose string value in v is an integer beyond 2^53 - 1.
    """

    t: Micros
    v: dict[Level, Value]
    q: dict[Level, Quality] | None = Field(default=None, exclude_if=is_absent)
    dt: dict[Level, int] | None = Field(default=None, exclude_if=is_absent)
    big: list[Level] | None = Field(default=None, exclude_if=is_absent)


class Previous(Message):
    """The epoch before this one and the last sequence number given in it (0: none was)."""

    epoch: Ordinal
    last_seq: Count


class Frame(Message):
    """One message of a stream (device, group).

    epoch: a number that grows with every start of the stream; not to be compared with a clock.
    seq: counts from 1 without gaps within the epoch.
    rev: revision of the device file that the values were read under.
    prev: in the first frame of an epoch, what the epoch before it ended with.
    closed: true in the last frame of a stream that was removed or stopped cleanly.
    backlog: ranges of this stream [epoch, from, to] that come later as BACKFILL, as things stood when the frame was
        made: whoever misses some of them need not ask. It counts in a live frame only, and is then the whole.
    samples: in time order; empty in a frame that only says that the stream lives.
    """

    epoch: Ordinal
    seq: Ordinal
    rev: str
    samples: list[Sample]
    prev: Previous | None = Field(default=None, exclude_if=is_absent)
    closed: bool | None = Field(default=None, exclude_if=is_absent)
    backlog: list[tuple[Seq, Seq, Seq]] | None = Field(default=None, exclude_if=is_absent)


FRAME = Topic(
    name="FRAME",
    pattern="frame/{device}/{group}",
    payload=Frame,
    writers=("gateway",),
    about="All values of one poll of one group.",
)
