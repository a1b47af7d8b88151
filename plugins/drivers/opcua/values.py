"""From an OPC UA data value to a tag's value and quality, and back. Pure."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from asyncua import ua

from contracts.v1.device import ValueType
from contracts.v1.frame import BAD, UNCERTAIN
from contracts.v1.frame_codec import QualityStruct
from plugins.api.driver import Value

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

WRONG_TYPE = QualityStruct(BAD, "config")
OUT_OF_RANGE = QualityStruct(BAD, "range")
NOT_FOUND = frozenset(
    {ua.StatusCodes.BadNodeIdUnknown, ua.StatusCodes.BadNodeIdInvalid, ua.StatusCodes.BadAttributeIdInvalid}
)


def quality_of(code: int) -> QualityStruct | None:
    """The quality that a status code says, None for good (OPC 10000-4, 7.39: severity in the two highest bits)."""
    severity = code >> 30
    if severity == 0:
        return QualityStruct(UNCERTAIN, "overflow", code) if code & _OVERFLOW == _OVERFLOW else None
    if severity == 1:
        return QualityStruct(UNCERTAIN, "device", code)
    return QualityStruct(BAD, "config" if code in NOT_FOUND else "device", code)


def read_value(data: ua.DataValue, kind: ValueType) -> tuple[Value, QualityStruct | None]:
    """The value of the declared type and its quality (None: good). The value is None whenever the quality is bad."""
    code = data.StatusCode.value if data.StatusCode is not None else 0
    quality = quality_of(code) if code else None
    if quality is not None and quality.q == BAD:
        return None, quality
    raw = data.Value.Value if data.Value is not None else None
    value, fault = _typed(raw, kind)
    return value, fault or quality


def _typed(raw: object, kind: ValueType) -> tuple[Value, QualityStruct | None]:
    """Strict: a float tag takes floats only, an integer tag integers in the range of its type."""
    if kind in FLOATS:
        value, fits = raw, type(raw) is float
    elif kind is ValueType.ARRAY:
        value, fits = raw, isinstance(raw, list) and all(type(item) in {int, float} for item in raw)
    elif kind in INTEGERS:
        # An enumeration arrives as IntEnum where asyncua knows it; bool is an int to Python, but not to us.
        fits = isinstance(raw, int) and not isinstance(raw, bool)
        value = int(raw) if fits and isinstance(raw, int) else None
    else:
        value, fits = raw, type(raw) is (bool if kind is ValueType.BOOL else str)
    if not fits:
        return None, WRONG_TYPE
    return (value, None) if _in_range(value, kind) else (None, OUT_OF_RANGE)  # type: ignore[return-value]


def _in_range(value: object, kind: ValueType) -> bool:
    if isinstance(value, list):
        return all(map(math.isfinite, value))
    if isinstance(value, float):
        return math.isfinite(value)
    return kind not in INTEGERS or value in INTEGERS[kind]


def source_time(data: ua.DataValue) -> int | None:
    """The source's time in microseconds since 1970 UTC; the server's where the source gives none; None without both."""
    time = data.SourceTimestamp or data.ServerTimestamp
    if time is None:
        return None
    micros: int = (time - _EPOCH) // _MICROSECOND
    return micros if micros > 0 else None


def variant(value: Value, kind: ua.VariantType) -> ua.Variant:
    """The value in the node's own data type. Raises ValueError where that type cannot hold it."""
    if isinstance(value, int) and not isinstance(value, bool) and kind in {ua.VariantType.Float, ua.VariantType.Double}:
        value = float(value)
    kept = {
        ua.VariantType.Boolean: bool,
        ua.VariantType.Float: float,
        ua.VariantType.Double: float,
        ua.VariantType.String: str,
    }
    items = value if isinstance(value, list) else [value]
    wanted = kept.get(kind, int)
    if any(type(item) is not wanted for item in items):
        raise ValueError(f"{value!r} does not fit the node's type {kind.name}")
    return ua.Variant(value, kind)
