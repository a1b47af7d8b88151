"""From an OPC UA data value to a tag's value and quality, and back. Pure."""

import json
import math
import sys
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Any
from uuid import UUID

from asyncua import ua

from contracts.codec import MAX_BYTES
from contracts.v1.device import ValueType
from contracts.v1.frame import BAD, UNCERTAIN
from contracts.v1.frame_codec import QualityStruct
from plugins.api.driver import Value

from .variant import time_text
from .wire import LATEST_US, Item

_FIRST_TIME: Any = datetime(1601, 1, 1, tzinfo=UTC)
_EPOCH: Any = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_OVERFLOW = 0x480
"""Info type DataValue with the overflow bit: the server's queue lost values (OPC 10000-4, 7.39.1)."""

INTEGERS: Mapping[ValueType, range] = {
    ValueType.INT16: range(-(1 << 15), 1 << 15),
    ValueType.UINT16: range(1 << 16),
    ValueType.INT32: range(-(1 << 31), 1 << 31),
    ValueType.UINT32: range(1 << 32),
    ValueType.INT64: range(-(1 << 63), 1 << 63),
    ValueType.UINT64: range(1 << 64),
}
FLOATS = frozenset({ValueType.FLOAT32, ValueType.FLOAT64})
NODE_TYPES: Mapping[ValueType, ua.VariantType] = {
    ValueType.BOOL: ua.VariantType.Boolean,
    ValueType.INT16: ua.VariantType.Int16,
    ValueType.UINT16: ua.VariantType.UInt16,
    ValueType.INT32: ua.VariantType.Int32,
    ValueType.UINT32: ua.VariantType.UInt32,
    ValueType.INT64: ua.VariantType.Int64,
    ValueType.UINT64: ua.VariantType.UInt64,
    ValueType.FLOAT32: ua.VariantType.Float,
    ValueType.FLOAT64: ua.VariantType.Double,
    ValueType.STRING: ua.VariantType.String,
    ValueType.ARRAY: ua.VariantType.Double,
}
"""What is written into a node whose own type is abstract, such as Number: the type that its tag declares."""

_INTEGER_NODES: Mapping[ua.VariantType, range] = {
    ua.VariantType.SByte: range(-(1 << 7), 1 << 7),
    ua.VariantType.Byte: range(1 << 8),
    **{NODE_TYPES[kind]: values for kind, values in INTEGERS.items()},
}
_LARGEST: Mapping[ua.VariantType, float] = {
    ua.VariantType.Float: (2 - 2**-23) * 2.0**127,
    ua.VariantType.Double: sys.float_info.max,
}
_PLAIN: Mapping[ua.VariantType, type] = {ua.VariantType.Boolean: bool, ua.VariantType.String: str}

_EMPTY: Mapping[ua.VariantType, object] = {ua.VariantType.String: "", ua.VariantType.ByteString: b""}

_MOST_BYTES = MAX_BYTES - (64 << 10)
"""Of one value as JSON, so that those of its group have room in the frame beside it."""
_LONGEST_NUMBER, _LONGEST_CHARACTER = 25, 6
"""Bytes that JSON takes for one: -1.7976931348623157e+308 with its comma; a control character, escaped."""

WRONG_TYPE = QualityStruct(BAD, "config")
OUT_OF_RANGE = QualityStruct(BAD, "range")
NO_UTF_8 = QualityStruct(UNCERTAIN, "device")
"""Of a text that the server sends in another encoding, as a PLC has it: some of its characters are not known."""
_CAUSES: Mapping[int, str] = {
    ua.StatusCodes.BadNodeIdUnknown: "config",
    ua.StatusCodes.BadNodeIdInvalid: "config",
    ua.StatusCodes.BadAttributeIdInvalid: "config",
    ua.StatusCodes.BadNotReadable: "config",
    ua.StatusCodes.BadUserAccessDenied: "config",
    ua.StatusCodes.BadConfigurationError: "config",
    ua.StatusCodes.BadTooManyMonitoredItems: "config",
    ua.StatusCodes.BadWaitingForInitialData: "startup",
    ua.StatusCodes.BadNoCommunication: "comm",
    ua.StatusCodes.BadCommunicationError: "comm",
    ua.StatusCodes.BadNotConnected: "comm",
    ua.StatusCodes.BadTimeout: "comm",
    ua.StatusCodes.UncertainNoCommunicationLastUsableValue: "stale",
    ua.StatusCodes.UncertainLastUsableValue: "stale",
    ua.StatusCodes.UncertainInitialValue: "startup",
}
"""Where the blame lies, by the status code without its info bits; elsewhere it is the device's."""


def quality_of(code: int) -> QualityStruct | None:
    """The quality that a status code says, None for good (OPC 10000-4, 7.39: severity in the two highest bits)."""
    severity = code >> 30
    if severity == 0:
        return QualityStruct(UNCERTAIN, "overflow", code) if code & _OVERFLOW == _OVERFLOW else None
    cause = _CAUSES.get(code & 0xFFFF_0000, "device")
    return QualityStruct(UNCERTAIN if severity == 1 else BAD, cause, code)


def read_value(raw: object, code: int, kind: ValueType) -> tuple[Value, QualityStruct | None]:
    """The value of the declared type and its quality (None: good). The value is None whenever the quality is bad.

    raw: as wire.Item has it. code: the status code it came with.
    """
    quality = quality_of(code) if code else None
    if quality is not None and quality.q == BAD:
        return None, quality
    value, fault = _typed(raw, kind)
    if quality is None:
        return value, fault
    if raw is None and code >> 30:  # no value yet, or none any more: the status says why
        return None, QualityStruct(BAD, quality.cause, code)
    return value, quality if value is not None else fault


def _typed(raw: object, kind: ValueType) -> tuple[Value, QualityStruct | None]:
    """Strict: a float tag takes floats only, an integer tag integers in the range of its type."""
    if isinstance(raw, bytes):
        # Servers send an array of Byte as a ByteString too (OPC 10000-6, 5.1.2).
        raw = list(raw) if kind is ValueType.ARRAY else b64encode(raw).decode()
    if kind in FLOATS:
        fits = type(raw) is float
    elif kind is ValueType.ARRAY:
        fits = isinstance(raw, list) and all(type(item) in {int, float} for item in raw)
    elif kind in INTEGERS:
        fits = type(raw) is int
    else:
        fits = type(raw) is (bool if kind is ValueType.BOOL else str)
    if not fits:
        return None, WRONG_TYPE
    value: Any = readable(raw) if isinstance(raw, str) else raw
    if not _in_range(value, kind):
        return None, OUT_OF_RANGE
    return value, NO_UTF_8 if isinstance(raw, str) and value != raw else None


def readable(text: str) -> str:
    """The text with a replacement character for each byte that is no UTF-8, which neither JSON nor a topic can carry.

    text: as decoded with such bytes as lone surrogates (surrogateescape).
    """
    return text if text.isascii() else text.encode(errors="surrogateescape").decode(errors="replace")


def _in_range(value: object, kind: ValueType) -> bool:
    if isinstance(value, list):
        return all(map(math.isfinite, value)) and not _too_long(value, _LONGEST_NUMBER)
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, str):
        return not _too_long(value, _LONGEST_CHARACTER)
    return kind not in INTEGERS or value in INTEGERS[kind]


def _too_long(value: list[float] | str, longest: int) -> bool:
    """Whether no frame can hold it, which would keep those of the others back too. longest: bytes of an item."""
    if len(value) * longest <= _MOST_BYTES:
        return False
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()) > _MOST_BYTES


def item_of(handle: int, data: ua.DataValue) -> Item:
    """What asyncua has decoded, as wire.py would have: for the messages that wire.py leaves to it."""
    code = data.StatusCode.value if data.StatusCode is not None else 0
    raw = data.Value.Value if data.Value is not None else None
    if raw is None and data.Value is not None:
        # To OPC UA no string and an empty one are the same, and so are arrays (OPC 10000-6, 5.2.2.4 and 5.2.5).
        raw = [] if data.Value.is_array else _EMPTY.get(data.Value.VariantType)
    return handle, _plain(raw), code, source_time(data)


def argument_value(given: ua.Variant) -> Value:
    """What a method gave, as a tag of its own type would show it; None where none would."""
    raw = _plain(given.Value)
    if isinstance(raw, bytes):
        return b64encode(raw).decode()
    if isinstance(raw, float):
        return raw if math.isfinite(raw) else None
    if isinstance(raw, list):
        numbers = all(type(item) in {int, float} and math.isfinite(item) for item in raw)
        return raw if numbers else None
    if isinstance(raw, str):
        return readable(raw)
    return raw  # type: ignore[return-value]


def _plain(raw: object) -> object:
    if isinstance(raw, list):
        return [item for nested in raw for item in _flat(_plain(nested))]
    for known, make in _MADE_PLAIN:
        if isinstance(raw, known):
            return make(raw)
    return raw if isinstance(raw, bool | int | float | str | bytes) else None


_MADE_PLAIN: tuple[tuple[type, Callable[[Any], object]], ...] = (
    (IntEnum, int),
    (ua.StatusCode, lambda status: int(status.value)),
    (ua.LocalizedText, lambda text: text.Text or ""),
    (ua.QualifiedName, lambda name: name.Name or ""),
    (datetime, lambda time: time_text((time - _FIRST_TIME) // _MICROSECOND * 10)),
    (UUID, str),
)


def _flat(item: object) -> list[object]:
    return item if isinstance(item, list) else [item]


def source_time(data: ua.DataValue) -> int | None:
    """The source's time in microseconds since 1970 UTC; the server's where the source gives none; None without both.

    None too of what is no time: before 1970 or after LATEST_US.
    """
    time = data.SourceTimestamp or data.ServerTimestamp
    if time is None:
        return None
    micros: int = (time - _EPOCH) // _MICROSECOND
    return micros if 0 < micros <= LATEST_US else None


def variant(value: Value, kind: ua.VariantType) -> ua.Variant:
    """The value, or each item of a list, in the node's own data type.

    An integer may go into a node of floats; text into one of times (ISO 8601), GUIDs, texts and bytes (base64); nothing
    else changes its type. Raises TypeError where the node's type is another, ValueError where it is the right one but
    cannot hold the value.
    """
    if isinstance(value, list):
        if kind is ua.VariantType.ByteString:
            return ua.Variant(bytes(_fitted(item, ua.VariantType.Byte) for item in value), kind)  # type: ignore[misc]
        return ua.Variant([_fitted(item, kind) for item in value], kind, is_array=True)
    return ua.Variant(_fitted(value, kind), kind)


def _fitted(item: object, kind: ua.VariantType) -> object:
    # Exact types: a subclass of int is sought in a range by counting, which for 64 bits never ends.
    if kind in _LARGEST and (type(item) is int or type(item) is float):
        if not abs(item) <= _LARGEST[kind]:
            raise ValueError(f"{item!r} is beyond the node's type {kind.name}")
        return float(item)
    if kind in _INTEGER_NODES and type(item) is int:
        if item not in _INTEGER_NODES[kind]:
            raise ValueError(f"{item!r} is beyond the node's type {kind.name}")
        return item
    if kind in _FROM_TEXT and type(item) is str:
        return _from_text(item, kind)
    if type(item) is not _PLAIN.get(kind):
        raise TypeError(f"{item!r} is not of the node's type {kind.name}")
    return item


def _time_of(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


_FROM_TEXT: Mapping[ua.VariantType, tuple[Callable[[str], object], str]] = {
    ua.VariantType.DateTime: (_time_of, "a time such as 2026-11-21T06:30:00Z"),
    ua.VariantType.Guid: (UUID, "a GUID"),
    ua.VariantType.ByteString: (lambda text: b64decode(text, validate=True), "base64"),
    ua.VariantType.LocalizedText: (ua.LocalizedText, "text"),
}
"""Built-in types that are text to a tag, and what such text looks like."""


def _from_text(text: str, kind: ua.VariantType) -> object:
    make, like = _FROM_TEXT[kind]
    try:
        return make(text)
    except (ValueError, Base64Error, OverflowError):
        raise ValueError(f"{text!r} is not {like}, which the node's type {kind.name} needs") from None
