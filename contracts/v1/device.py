"""What a device is (its tags and streams) and how it is."""

import hashlib
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from contracts.topic import Topic
from contracts.v1.function import FunctionInfo
from contracts.v1.message import Count, Level, Message, Millis, Number, Ordinal, is_absent


class ValueType(StrEnum):
    """The type of a tag's value, after scaling."""

    BOOL = "bool"
    INT16 = "int16"
    UINT16 = "uint16"
    INT32 = "int32"
    UINT32 = "uint32"
    INT64 = "int64"
    UINT64 = "uint64"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    STRING = "string"
    ARRAY = "array"


INTEGER_RANGE: Mapping[ValueType, tuple[int, int]] = {
    ValueType.INT16: (-(2**15), 2**15 - 1),
    ValueType.UINT16: (0, 2**16 - 1),
    ValueType.INT32: (-(2**31), 2**31 - 1),
    ValueType.UINT32: (0, 2**32 - 1),
    ValueType.INT64: (-(2**63), 2**63 - 1),
    ValueType.UINT64: (0, 2**64 - 1),
}
"""The lowest and the highest value of each integer type."""


class TagInfo(Message):
    """One tag of a device.

    title: the name in the plant's documents, where it differs from the tag's name.
    group: the poll group, which is also the stream that the tag's values travel in.
    range: lowest and highest value; a write outside it is refused.
    """

    type: ValueType
    group: Level
    title: str | None = Field(default=None, exclude_if=is_absent)
    unit: str | None = Field(default=None, exclude_if=is_absent)
    range: tuple[Number, Number] | None = Field(default=None, exclude_if=is_absent)
    deadband: Annotated[float, Field(ge=0)] | None = Field(default=None, exclude_if=is_absent)
    writable: bool = False


class GroupInfo(Message):
    """One poll group: its asked interval in seconds and the epoch of its stream."""

    interval_s: Annotated[float, Field(gt=0)]
    epoch: Ordinal
    mode: str = "poll"


class DeviceInfo(Message):
    """A device as its gateway reads it. With tag_count and tag_hash a subscriber proves its picture whole.

    rev: revision of the device file: the same content gives the same revision.
    tag_hash: see tag_hash(). functions: what a `call` can run, with their ports.
    """

    device: Level
    driver: Level
    gateway: Level
    rev: str
    tags: dict[Level, TagInfo]
    groups: dict[Level, GroupInfo]
    tag_count: Count
    tag_hash: str
    title: str | None = Field(default=None, exclude_if=is_absent)
    functions: dict[Level, FunctionInfo] | None = Field(default=None, exclude_if=is_absent)


def tag_hash(names: Iterable[str]) -> str:
    """The first 16 hex digits of SHA-256 over the sorted tag names, joined by line feeds."""
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:16]


class DeviceStatus(StrEnum):
    """How a device is."""

    STARTING = "starting"
    ONLINE = "online"
    DEGRADED = "degraded"
    OFFLINE = "offline"
    DISABLED = "disabled"


class Circuit(StrEnum):
    """State of the breaker between the gateway and the device."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


GATEWAY_LOST = "gateway_lost"
"""The cause of a device, and of its tags, that the orchestrator marks since their gateway has died."""


class DeviceState(Message):
    """How a device is, since when, and why.

    sid: session of the gateway that says so. asked_hz, achieved_hz: polls per second over all groups.
    backlog: frames in the journal that the broker has not taken.
    """

    state: DeviceStatus
    since: Millis
    gateway: Level
    sid: str
    circuit: Circuit
    error: str | None = Field(default=None, exclude_if=is_absent)
    cause: str | None = Field(default=None, exclude_if=is_absent)
    asked_hz: float = 0.0
    achieved_hz: float = 0.0
    backlog: int | None = Field(default=None, exclude_if=is_absent)


DEVICE = Topic(
    name="DEVICE",
    pattern="device/{device}/info",
    payload=DeviceInfo,
    retain=True,
    writers=("gateway",),
    about="A device's tags with type, unit and range, its groups and streams.",
)
DEVICE_STATE = Topic(
    name="DEVICE_STATE",
    pattern="device/{device}/state",
    payload=DeviceState,
    retain=True,
    writers=("gateway", "orchestrator"),
    about="Whether a device answers, since when, and why not.",
)
