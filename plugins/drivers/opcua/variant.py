"""A value out of the bytes of a message: a Variant (OPC 10000-6, 5.2.2.16). Pure."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from struct import Struct
from uuid import UUID

FORMATS = {1: "?", 2: "b", 3: "B", 4: "h", 5: "H", 6: "i", 7: "I", 8: "q", 9: "Q", 10: "f", 11: "d", 19: "I"}
"""Built-in types of fixed size (OPC 10000-6, 5.1.2): Boolean, SByte ... UInt64, Float, Double; StatusCode, a number."""
_NODE_ID_BYTES = {0: 2, 1: 4, 2: 7, 4: 19}
"""Size of a node id by its first byte, where it is fixed (OPC 10000-6, 5.2.2.9)."""
_FIRST_TIME = datetime(1601, 1, 1, tzinfo=UTC)
_LAST_TICKS = int((datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - _FIRST_TIME) / timedelta(microseconds=1)) * 10
_ARRAY, _DIMENSIONS = 0x80, 0x40

_COUNT = Struct("<i")


class OtherError(Exception):
    """Something that only the general decoder knows."""


def variant(data: bytes, at: int) -> tuple[object, int]:
    """The value that begins here, and where what follows it does. Raises OtherError, ValueError, struct.error."""
    kind = data[at] & 0x3F
    if not data[at] & _ARRAY:
        return _scalar(data, at + 1, kind)
    dimensions = data[at] & _DIMENSIONS
    values, at = _array(data, at + 1, kind)
    if dimensions:  # a matrix is given as the list of its rows' items, one after another
        at += 4 + 4 * max(_COUNT.unpack_from(data, at)[0], 0)
    return values, at


def _array(data: bytes, at: int, kind: int) -> tuple[object, int]:
    (count,) = _COUNT.unpack_from(data, at)
    at += 4
    if count < 0:
        return [], at  # a null array and one of length 0 are the same to whoever reads (OPC 10000-6, 5.2.5)
    if count > len(data) - at:
        raise ValueError(f"an array of {count} values in {len(data) - at} bytes")
    if kind in FORMATS:
        record = Struct(f"<{count}{FORMATS[kind]}")
        return list(record.unpack_from(data, at)), at + record.size
    values: list[object] = []
    for _ in range(count):
        value, at = _scalar(data, at, kind)
        values.append(value)
    return values, at


def _scalar(data: bytes, at: int, kind: int) -> tuple[object, int]:
    if kind in FORMATS:
        record = record_of(FORMATS[kind])
        return record.unpack_from(data, at)[0], at + record.size
    reader = _READERS.get(kind)
    if reader is None:
        raise OtherError
    return reader(data, at)


def _null(_data: bytes, at: int) -> tuple[None, int]:
    return None, at


def _string(data: bytes, at: int) -> tuple[str, int]:
    raw, at = _counted(data, at)
    # As asyncua does: a PLC's text may be in another encoding, which only whoever shows it can tell of.
    return "" if raw is None else raw.decode(errors="surrogateescape"), at


def _byte_string(data: bytes, at: int) -> tuple[bytes, int]:
    raw, at = _counted(data, at)
    return raw or b"", at


def _date_time(data: bytes, at: int) -> tuple[str, int]:
    return time_text(record_of("q").unpack_from(data, at)[0]), at + 8


def _guid(data: bytes, at: int) -> tuple[str, int]:
    return str(UUID(bytes_le=data[at : at + 16])), at + 16


def _localized_text(data: bytes, at: int) -> tuple[str, int]:
    holds, at = data[at], at + 1
    if holds & 0x01:  # the locale, of which we make nothing
        _, at = _counted(data, at)
    return _string(data, at) if holds & 0x02 else ("", at)


def time_text(ticks: int) -> str:
    """A DateTime as ISO 8601 in UTC, to the microsecond (OPC 10000-6, 5.2.2.5: the first and the last are no times)."""
    within = _FIRST_TIME + timedelta(microseconds=min(max(ticks, 0), _LAST_TICKS) // 10)
    return within.isoformat().replace("+00:00", "Z")


def _structure(data: bytes, at: int) -> tuple[None, int]:
    """Passes over an ExtensionObject (OPC 10000-6, 5.2.2.15)."""
    kind = data[at]
    if kind in _NODE_ID_BYTES:
        at += _NODE_ID_BYTES[kind]
    elif kind in {3, 5}:
        _, at = _counted(data, at + 3)
    else:
        raise OtherError
    with_body, at = data[at], at + 1
    return None, _counted(data, at)[1] if with_body else at


def _counted(data: bytes, at: int) -> tuple[bytes | None, int]:
    (size,) = _COUNT.unpack_from(data, at)
    at += 4
    if size < 0:
        return None, at
    if at + size > len(data):
        raise OtherError
    return data[at : at + size], at + size


_READERS: Mapping[int, Callable[[bytes, int], tuple[object, int]]] = {
    0: _null,
    12: _string,
    13: _date_time,
    14: _guid,
    15: _byte_string,
    21: _localized_text,
    22: _structure,
}
"""Built-in types of other sizes (OPC 10000-6, 5.1.2): String ... ByteString, LocalizedText, ExtensionObject."""


@cache
def record_of(form: str) -> Struct:
    """What is laid out so, in the byte order of OPC UA. form: as struct has it."""
    return Struct(f"<{form}")
