"""What a recorder answers of the values that it has stored: points, summaries of buckets, and how all tags once stood.

Exactly one recorder of a site answers; its instance stands in the topic.
"""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from contracts.topic import LEVEL_PATTERN
from contracts.v1.command import Command, command
from contracts.v1.message import LAST_SAFE_INTEGER, CommandMessage, Level, Message, Micros, Value, is_absent
from contracts.v1.policy import Role

MOST_POINTS = 10_000
"""Of one answer; it holds fewer if they are long, or take long to find."""
MOST_TAGS = 1000
"""Of one answer to `at`."""
MOST_PATTERNS = 100
MOST_BUCKETS = 1_000_000
"""Of one tag in one question; they come in many answers."""

Instant = Annotated[int, Field(ge=0, le=LAST_SAFE_INTEGER, description="microseconds since 1970 UTC")]
_PART = r"[a-z0-9_*?-]{1,63}"
TAG_PATTERN = f"^{_PART}(/{_PART})?$"
TagPattern = Annotated[str, Field(pattern=TAG_PATTERN)]
"""DEVICE/TAG, or the name of a device or a tag; * stands for any characters, ? for one."""
TagPatterns = Annotated[list[TagPattern], Field(min_length=1, max_length=MOST_PATTERNS)]
HistoryPlace = Annotated[str, Field(pattern=f"^{LEVEL_PATTERN}/{LEVEL_PATTERN}/[0-9]{{1,16}}$")]
"""Where an answer ended: given back as it came, with the same question, the next one goes on from there."""


class Aggregate(StrEnum):
    """What is told of a bucket, or of what its points amount to.

    Numbers count, and bools as 0 and 1, whether good or uncertain; points without a usable number (bad quality, texts,
    arrays) count in none but `first` and `last`. mean, min, max, sum: of the numbers; null if there is none. count: how
    many numbers. first, last: the value of the first and of the last point, whatever its type; null if it had no usable
    value. twa: time-weighted mean: each number holds until the next point, also into the bucket from before it, and to
    the bucket's end, or to now if that is still to come; what a point without a number holds does not count.
    """

    MEAN = "mean"
    MIN = "min"
    MAX = "max"
    FIRST = "first"
    LAST = "last"
    COUNT = "count"
    SUM = "sum"
    TWA = "twa"


class QueryHistory(CommandMessage):
    """Verb `query` of a history: the points of some tags, or what the points of each bucket amount to.

    tags: every one of them must match a tag that was ever recorded. since, until: since <= t < until. aggregates: what
    is told of each bucket; absent: the points themselves. every: length of a bucket in µs; they begin at `since`, the
    last may be shorter. buckets: how many of equal length instead; neither: one for the whole time. good_only: points
    that are not good (uncertain ones) are left out, and count as without a value in buckets. limit: points or buckets
    of this answer. after: `next` of the answer before.
    """

    tags: TagPatterns
    since: Instant
    until: Instant
    aggregates: Annotated[list[Aggregate], Field(min_length=1)] | None = Field(default=None, exclude_if=is_absent)
    every: Annotated[int, Field(ge=1, le=LAST_SAFE_INTEGER)] | None = Field(default=None, exclude_if=is_absent)
    buckets: Annotated[int, Field(ge=1, le=MOST_BUCKETS)] | None = Field(default=None, exclude_if=is_absent)
    good_only: bool = False
    limit: Annotated[int, Field(ge=1, le=MOST_POINTS)] = 1000
    after: HistoryPlace | None = Field(default=None, exclude_if=is_absent)

    @field_validator("aggregates")
    @classmethod
    def _each_once(cls, given: list[Aggregate] | None) -> list[Aggregate] | None:
        return None if given is None else list(dict.fromkeys(given))

    @model_validator(mode="after")
    def _one_kind_of_bucket(self) -> "QueryHistory":
        if self.until <= self.since:
            raise ValueError("until: must be later than since")
        if self.every is not None and self.buckets is not None:
            raise ValueError("every, buckets: give one of them")
        if self.aggregates is None and (self.every or self.buckets):
            raise ValueError("every and buckets need aggregates, such as mean")
        if self.every is not None and (self.until - self.since) / self.every > MOST_BUCKETS:
            raise ValueError(f"every: gives more than {MOST_BUCKETS} buckets; make them longer, or the time shorter")
        return self


class HistoryColumns(Message):
    """What was found of one tag, in the order of time, a column each.

    t: times of the points, or of the beginnings of the buckets; a bucket without points is not there. columns: `v`
    (values) and `q` (their quality) of points; by the name of the aggregate of buckets. big: places in a column whose
    strings are integers beyond 2^53 - 1.
    """

    device: Level
    tag: Level
    t: list[Micros]
    columns: dict[str, list[Value]]
    big: dict[str, list[int]] | None = Field(default=None, exclude_if=is_absent)


class HistoryFound(Message):
    """Some of what was asked for, by device and tag. next: there may be more; it may come with no points at all."""

    series: list[HistoryColumns]
    next: HistoryPlace | None = Field(default=None, exclude_if=is_absent)


class HistoryAt(CommandMessage):
    """Verb `at` of a history: how tags stood at a time, by their own times: the last point at or before t.

    tags, after: as in QueryHistory. limit: tags of this answer.
    """

    tags: TagPatterns
    t: Instant
    limit: Annotated[int, Field(ge=1, le=MOST_TAGS)] = 200
    after: HistoryPlace | None = Field(default=None, exclude_if=is_absent)


class TagThen(Message):
    """A tag's last point at or before the time. big: the value is an integer beyond 2^53 - 1, as a string."""

    device: Level
    tag: Level
    t: Micros
    value: Value
    q: int
    big: bool | None = Field(default=None, exclude_if=is_absent)


class TagsThen(Message):
    """How some of the tags stood. later: so many more were looked at that had not been recorded by then."""

    tags: list[TagThen]
    later: int = 0
    next: HistoryPlace | None = Field(default=None, exclude_if=is_absent)


QUERY_HISTORY = command(
    "query",
    QueryHistory,
    HistoryFound,
    target="history",
    name="QUERY_HISTORY",
    role=Role.VIEWER,
    within=True,
    about="Gives recorded values or what they amount to; `id` is the recorder's instance.",
)
HISTORY_AT = command(
    "at",
    HistoryAt,
    TagsThen,
    target="history",
    name="HISTORY_AT",
    role=Role.VIEWER,
    within=True,
    about="Gives every tag as it stood at a time; `id` is the recorder's instance.",
)
HISTORY_COMMANDS: tuple[Command[Any, Any], ...] = (QUERY_HISTORY, HISTORY_AT)
"""Where questions about the recorded values are answered."""
