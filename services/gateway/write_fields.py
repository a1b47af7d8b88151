"""The fields of a device file that say when a tag may be written, and what of them does not fit together. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Protocol

from pydantic import BaseModel, ConfigDict, Field

from contracts.v1.device import ValueType
from contracts.v1.message import Level, Scalar
from plugins.api.document import Path
from plugins.api.driver import Value
from plugins.api.duration import Seconds
from services.gateway.value import TooLarge, WrongType, typed

DEFAULT_SETTLE_S = 0.5
Settle = Annotated[Seconds, Field(ge=0, le=60)]


class Condition(BaseModel):
    """Another tag of the device has this value."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    tag: Level
    equals: Scalar


class FailSafe(BaseModel):
    """What is written when who wrote last is gone, or has written nothing for `after` seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    value: Scalar
    after: Annotated[Seconds, Field(ge=0.1, le=86400)]


class WritableTag(Protocol):
    """What is looked at of a tag."""

    @property
    def type(self) -> ValueType:
        """Of its values."""

    @property
    def writable(self) -> bool:
        """Whether it may be written at all."""

    @property
    def range(self) -> tuple[float, float] | None:
        """Least and greatest value that may be written; None: any."""

    @property
    def precondition(self) -> Condition | None:
        """What must hold for a write; None: nothing."""

    @property
    def fail_safe(self) -> FailSafe | None:
        """What is written once nobody writes any more; None: nothing."""


def write_contradictions(tag: WritableTag, *, only_if_writable: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Fields that say how a tag is written and do not fit the others, as field, message and mend.

    only_if_writable: the fields given that mean nothing for a tag that is not writable.
    """
    if not tag.writable:
        for field in only_if_writable:
            yield field, "means nothing for a tag that is not writable", "add writable: true, or remove it"
        return
    if tag.type is ValueType.ARRAY:
        yield "writable", "means nothing for an array", "remove it: arrays cannot be written"
    elif tag.fail_safe:
        value = tag.fail_safe.value
        if fault := _misfit(tag.type, value):
            yield "fail_safe", *fault
        elif tag.range and isinstance(value, int | float) and not tag.range[0] <= value <= tag.range[1]:
            yield "fail_safe", f"{value} is outside the tag's range {list(tag.range)}", "write a value within it"


def condition_faults(
    remote: Condition | None, places: Mapping[str, Path], tags: Mapping[str, WritableTag]
) -> Iterator[tuple[Path, str, str]]:
    """Place, message and mend of every condition on a tag that is not there, or that can never have the value.

    remote: the device's. places: where the tags stand in the file, by name.
    """
    given: list[tuple[Path, Condition | None]] = [(("remote",), remote)]
    given += [((*places[name], "precondition"), tag.precondition) for name, tag in tags.items()]
    for path, condition in given:
        if condition is None:
            continue
        tag = tags.get(condition.tag)
        if tag is None:
            yield (*path, "tag"), f"this device has no tag {condition.tag!r}", "name one of its tags"
        elif fault := _misfit(tag.type, condition.equals):
            yield (*path, "equals"), f"{condition.tag}: {fault[0]}", fault[1]


def _misfit(kind: ValueType, value: Value) -> tuple[str, str] | None:
    """Message and mend, if the value cannot stand for a tag of this type."""
    try:
        typed(kind, value)
    except (WrongType, TooLarge) as error:
        message, _, mend = str(error).partition("; ")
        return message, mend or "write a value that fits"
    return None
