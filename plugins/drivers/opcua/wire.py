"""Values out of the bytes of a PublishResponse or a ReadResponse (OPC 10000-6, 5.2). Pure.

asyncua decodes any message, at some 12 µs for each value of it; this module decodes what variables of a plant usually
hold at a tenth of that, and leaves the rest to asyncua: it answers None where it finds anything else.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from struct import Struct, error
from typing import NamedTuple, TypeAlias
from uuid import UUID

Item: TypeAlias = tuple[int, object, int, int | None]
"""Client handle (of a read: the place in it), value, status code, source time in microseconds since 1970 UTC or None.

value: None, bool, int, float, str, bytes, or a flat list of those. Times and GUIDs are text, a structure is None. Where
the source gives no time, it is the server's.
"""


class Publication(NamedTuple):
    """What one PublishResponse says.

    sequence: number of its notification message; of a keep-alive, which has no items, the next one's.
    more: the server has more for this publishing interval. ended: the status with which the subscription ended.
    """

    subscription: int
    sequence: int
    more: bool
    items: list[Item]
    ended: int | None


EPOCH = 116_444_736_000_000_000
"""1970 UTC as OPC UA counts: in 100 ns since 1601 (OPC 10000-6, 5.2.2.5)."""

# What a data value may hold, in the order in which it holds it (OPC 10000-6, 5.2.2.17).
_VALUE, _STATUS, _SOURCE, _SOURCE_PICOS, _SERVER, _SERVER_PICOS = 0x01, 0x02, 0x04, 0x10, 0x08, 0x20
_PARTS = ((_STATUS, "I"), (_SOURCE, "q"), (_SOURCE_PICOS, "H"), (_SERVER, "q"), (_SERVER_PICOS, "H"))
_KNOWN_PARTS = 0x3F

_FORMATS = {1: "?", 2: "b", 3: "B", 4: "h", 5: "H", 6: "i", 7: "I", 8: "q", 9: "Q", 10: "f", 11: "d", 19: "I"}
"""Built-in types of fixed size (OPC 10000-6, 5.1.2): Boolean, SByte ... UInt64, Float, Double; StatusCode, a number."""
_NODE_ID_BYTES = {0: 2, 1: 4, 2: 7, 4: 19}
"""Size of a node id by its first byte, where it is fixed (OPC 10000-6, 5.2.2.9)."""
_FIRST_TIME = datetime(1601, 1, 1, tzinfo=UTC)
_LAST_TICKS = int((datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - _FIRST_TIME) / timedelta(microseconds=1)) * 10
_ARRAY, _DIMENSIONS = 0x80, 0x40

_PUBLISH_RESPONSE, _READ_RESPONSE = 829, 634
_DATA_CHANGE, _STATUS_CHANGE = 811, 820
"""Numeric ids of the binary encodings (OPC 10000-6, annex A)."""
_FOUR_BYTES_IN_NAMESPACE_0 = 0x0001
_NO_HEADER = b"\0\0\0"

_TYPE = Struct("<HH")
_RESULT = Struct("<qII")
_COUNT = Struct("<i")
_LONG = Struct("<I")
_ENCODED = Struct("<HHBi")


class _OtherError(Exception):
    """Something that only the general decoder knows."""


def publication(data: bytes) -> Publication | None:
    """What a PublishResponse says; None if that takes the general decoder. Raises ValueError where none can read it."""
    try:
        return _publication(data)
    except (_OtherError, error, IndexError, UnicodeDecodeError):
        return None


def read_items(data: bytes, *, first: int = 0) -> list[Item] | None:
    """The results of a ReadResponse in the order of the request; None if that takes the general decoder.

    first: handle of the first, from which the others count on. Raises ValueError as publication() does.
    """
    try:
        at = _body(data, _READ_RESPONSE)
        (count,) = _COUNT.unpack_from(data, at)
        return _items(data, at + 4, range(first, first + count), handled=False)
    except (_OtherError, error, IndexError, UnicodeDecodeError):
        return None


def _body(data: bytes, response: int) -> int:
    """Where the response's own fields begin."""
    kind, number = _TYPE.unpack_from(data, 0)
    _, _, result = _RESULT.unpack_from(data, 4)
    # An answer that is not good, and diagnostics, strings or a header of the server's own, are rare.
    if (kind, number) != (_FOUR_BYTES_IN_NAMESPACE_0, response) or result >> 30:
        raise _OtherError
    (strings,) = _COUNT.unpack_from(data, 21)
    if data[20] or strings > 0 or data[25:28] != _NO_HEADER:
        raise _OtherError
    return 28


def _publication(data: bytes) -> Publication:
    at = _body(data, _PUBLISH_RESPONSE)
    subscription, available = _LONG.unpack_from(data, at)[0], _COUNT.unpack_from(data, at + 4)[0]
    at += 8 + 4 * max(available, 0)
    more, (sequence,) = bool(data[at]), _LONG.unpack_from(data, at + 1)
    (notifications,) = _COUNT.unpack_from(data, at + 13)
    at += 17
    items: list[Item] = []
    ended = None
    for _ in range(notifications):
        kind, number, form, size = _ENCODED.unpack_from(data, at)
        at += _ENCODED.size
        if kind != _FOUR_BYTES_IN_NAMESPACE_0 or form != 1 or at + size > len(data):
            raise _OtherError
        if number == _DATA_CHANGE:
            (count,) = _COUNT.unpack_from(data, at)
            items += _items(data, at + 4, range(count), handled=True)
        elif number == _STATUS_CHANGE:
            (ended,) = _LONG.unpack_from(data, at)
        at += size
    return Publication(subscription, sequence, more, items, ended)


def _items(data: bytes, at: int, handles: range, *, handled: bool) -> list[Item]:
    """Data values, one after another. handled: each stands behind its client handle, which counts then."""
    items: list[Item] = []
    add, shape_of, handle_at = items.append, _shape, _LONG.unpack_from
    for place in handles:
        handle = place
        if handled:
            (handle,) = handle_at(data, at)
            at += 4
        shape = shape_of(data[at], data[at + 1])
        if shape is None:
            item, at = _data_value(data, at, handle)
            add(item)
            continue
        record, status_at, source_at, server_at = shape
        fields = (*record.unpack_from(data, at + 2), 0)
        at += 2 + record.size
        time = fields[source_at] or fields[server_at]
        add((handle, fields[0], fields[status_at], (time - EPOCH) // 10 if time > EPOCH else None))
    return items


@cache
def _shape(parts: int, kind: int) -> tuple[Struct, int, int, int] | None:
    """A data value with a scalar of fixed size: its record, and where in it status, source time and server time are.

    None if it is no such value. What the data value does not hold is looked for behind its end, where _items puts a 0:
    a status that is absent is good.
    """
    if not parts & _VALUE or parts > _KNOWN_PARTS or kind not in _FORMATS:
        return None
    held = [(part, form) for part, form in _PARTS if parts & part]
    places = {part: place for place, (part, _) in enumerate(held, start=1)}
    zero = len(held) + 1
    record = Struct("<" + _FORMATS[kind] + "".join(form for _, form in held))
    return record, places.get(_STATUS, zero), places.get(_SOURCE, zero), places.get(_SERVER, zero)


def _data_value(data: bytes, at: int, handle: int) -> tuple[Item, int]:
    """Any data value whose type we know, and where the next one begins."""
    parts = data[at]
    if parts > _KNOWN_PARTS:
        raise _OtherError
    value: object = None
    at += 1
    if parts & _VALUE:
        value, at = _variant(data, at)
    found = {_STATUS: 0, _SOURCE: 0, _SERVER: 0}
    for part, form in _PARTS:
        if parts & part:
            (found[part],) = _struct(form).unpack_from(data, at)
            at += _struct(form).size
    time = found[_SOURCE] or found[_SERVER]
    return (handle, value, found[_STATUS], (time - EPOCH) // 10 if time > EPOCH else None), at


def _variant(data: bytes, at: int) -> tuple[object, int]:
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
    if kind in _FORMATS:
        record = Struct(f"<{count}{_FORMATS[kind]}")
        return list(record.unpack_from(data, at)), at + record.size
    values: list[object] = []
    for _ in range(count):
        value, at = _scalar(data, at, kind)
        values.append(value)
    return values, at


def _scalar(data: bytes, at: int, kind: int) -> tuple[object, int]:
    if kind in _FORMATS:
        record = _struct(_FORMATS[kind])
        return record.unpack_from(data, at)[0], at + record.size
    reader = _READERS.get(kind)
    if reader is None:
        raise _OtherError
    return reader(data, at)


def _null(_data: bytes, at: int) -> tuple[None, int]:
    return None, at


def _string(data: bytes, at: int) -> tuple[str, int]:
    raw, at = _counted(data, at)
    return "" if raw is None else raw.decode(), at


def _byte_string(data: bytes, at: int) -> tuple[bytes, int]:
    raw, at = _counted(data, at)
    return raw or b"", at


def _date_time(data: bytes, at: int) -> tuple[str, int]:
    return time_text(_struct("q").unpack_from(data, at)[0]), at + 8


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
        raise _OtherError
    with_body, at = data[at], at + 1
    return None, _counted(data, at)[1] if with_body else at


def _counted(data: bytes, at: int) -> tuple[bytes | None, int]:
    (size,) = _COUNT.unpack_from(data, at)
    at += 4
    if size < 0:
        return None, at
    if at + size > len(data):
        raise _OtherError
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
def _struct(form: str) -> Struct:
    return Struct(f"<{form}")
