"""Whether a write may be done, and whether it was. Pure: values come in, a decision goes out.

A write is accepted (its tag, type and range), then its demands are held against values read just before it, and what
was read back just after it against what was written.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from contracts.v1.command import ErrorCode, Write
from contracts.v1.message import Scalar
from plugins.api.driver import Reading, Value
from services.gateway.device_file import DeviceFile, Tag
from services.gateway.value import TooLarge, WrongType, same, typed
from services.gateway.write_fields import Condition

Why = Literal["remote", "precondition", "expect"]
_REMEMBERED = frozenset({"stale", "startup"})


class Refused(Exception):
    """The write is not to be done. detail: values that help to mend it."""

    def __init__(self, code: ErrorCode, message: str, **detail: Value) -> None:
        super().__init__(message)
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Demand:
    """A tag must have this value just before the write. why: the device file's remote or precondition, or the
    command's expect."""

    tag: Tag
    value: Value
    why: Why


@dataclass(frozen=True, slots=True)
class Order:
    """A write that may be done if its demands are met. value: in the tag's own type."""

    tag: Tag
    value: Value
    demands: tuple[Demand, ...]


def accept(device: DeviceFile, tag_name: str, write: Write) -> Order:
    """The write as an order. Raises Refused: not_found, not_writable, invalid, out_of_range."""
    tag = find_tag(device, tag_name)
    if not device.writes:
        raise Refused(
            ErrorCode.NOT_WRITABLE, f"{device.name}: writes are off; its device file does not say writes: enabled"
        )
    if not tag.writable:
        raise Refused(
            ErrorCode.NOT_WRITABLE, f"{tag.name} is not writable; its device file does not say writable: true"
        )
    value = _typed(tag, write.value)
    if tag.range and isinstance(value, int | float) and not tag.range[0] <= value <= tag.range[1]:
        low, high = tag.range
        unit = f" {tag.unit}" if tag.unit else ""
        message = f"{value!r} is outside the range of {tag.name}: {low!r} to {high!r}{unit}"
        raise Refused(ErrorCode.OUT_OF_RANGE, message, low=low, high=high)
    of_file = _demands(device, ((device.remote, "remote"), (tag.precondition, "precondition")))
    return Order(tag, value, (*of_file, *_of_command(device, write)))


def fail_safe_order(device: DeviceFile, tag_name: str, value: Scalar) -> Order:
    """The order to write a fail-safe value: a device in local control is left alone, any other condition is not asked
    for. Raises Refused."""
    order = accept(device, tag_name, Write(value=value))
    return Order(order.tag, order.value, tuple(demand for demand in order.demands if demand.why == "remote"))


def check(order: Order, values: Mapping[str, Value]) -> None:
    """Holds the demands against values read just now, by tag. Raises Refused: precondition_failed."""
    for demand in order.demands:
        _check(demand, values, f"{order.tag.name} was not written")


def check_remote(device: DeviceFile, values: Mapping[str, Value]) -> None:
    """Whether the device is in remote control, by values read just now. Raises Refused: precondition_failed."""
    for demand in _demands(device, ((device.remote, "remote"),)):
        _check(demand, values, "nothing was done")


def verified(order: Order, reading: Reading) -> bool:
    """Whether the device holds what was written, within the tag's tolerance and the rounding of its type.

    reading: of the tag's group, after the write. A value of before it proves nothing.
    """
    name = order.tag.name
    found = reading.values.get(name)
    return not remembered(reading, name) and same(order.tag.type, order.value, found, tolerance=order.tag.tolerance)


def remembered(reading: Reading, tag: str) -> bool:
    """Whether the value is only the last one, or the first, that the device knows of: what is now it cannot tell."""
    quality = reading.quality.get(tag)
    return quality is not None and quality.cause in _REMEMBERED


def find_tag(device: DeviceFile, name: str) -> Tag:
    """The tag. Raises Refused: not_found, with the nearest name."""
    tag = device.tags.get(name)
    if tag is None:
        near = get_close_matches(name, device.tags, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise Refused(ErrorCode.NOT_FOUND, f"{device.name} has no tag {name!r}{hint}")
    return tag


def _demands(device: DeviceFile, conditions: Iterable[tuple[Condition | None, Why]]) -> list[Demand]:
    """What the device file demands; it has been checked that its tags are there and its values fit them."""
    return [
        Demand(device.tags[condition.tag], typed(device.tags[condition.tag].type, condition.equals), why)
        for condition, why in conditions
        if condition is not None
    ]


def _of_command(device: DeviceFile, write: Write) -> list[Demand]:
    demands = []
    for name, value in (write.expect or {}).items():
        tag = find_tag(device, name)
        demands.append(Demand(tag, _typed(tag, value), "expect"))
    return demands


def _typed(tag: Tag, value: Value) -> Value:
    try:
        return typed(tag.type, value)
    except WrongType as error:
        raise Refused(ErrorCode.INVALID, f"{tag.name}: {error}", type=str(tag.type)) from None
    except TooLarge as error:
        raise Refused(ErrorCode.OUT_OF_RANGE, f"{tag.name}: {error}", type=str(tag.type)) from None


def _check(demand: Demand, values: Mapping[str, Value], consequence: str) -> None:
    tag, found = demand.tag, values.get(demand.tag.name)
    if not same(tag.type, demand.value, found, tolerance=tag.tolerance):
        reason = "the device is in local control" if demand.why == "remote" else f"{demand.why} is not met"
        message = f"{consequence}: {reason}: {tag.name} is {found!r}, not {demand.value!r}"
        raise Refused(ErrorCode.PRECONDITION_FAILED, message, tag=tag.name, found=found)
