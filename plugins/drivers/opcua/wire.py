"""Values out of the bytes of a PublishResponse or a ReadResponse (OPC 10000-6, 5.2). Pure.

asyncua decodes any message, at some 12 µs for each value of it; this module decodes what variables of a plant usually
hold at a tenth of that, and leaves the rest to asyncua: it answers None where it finds anything else.
"""

from functools import cache
from struct import Struct, error
from typing import NamedTuple, TypeAlias

from contracts.v1.message import LAST_SAFE_INTEGER

from .variant import FORMATS, OtherError, record_of, variant

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
LATEST_US = LAST_SAFE_INTEGER
"""2255 UTC. A later time is none: that of a source which knows none may be the last there is (OPC 10000-6, 5.2.2.5),
and a frame with such a time could be read by nobody."""
_END = EPOCH + 10 * (LATEST_US + 1)

# What a data value may hold, in the order in which it holds it (OPC 10000-6, 5.2.2.17).
_VALUE, _STATUS, _SOURCE, _SOURCE_PICOS, _SERVER, _SERVER_PICOS = 0x01, 0x02, 0x04, 0x10, 0x08, 0x20
_PARTS = ((_STATUS, "I"), (_SOURCE, "q"), (_SOURCE_PICOS, "H"), (_SERVER, "q"), (_SERVER_PICOS, "H"))
_KNOWN_PARTS = 0x3F


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


def publication(data: bytes) -> Publication | None:
    """What a PublishResponse says; None if that takes the general decoder. Raises ValueError where none can read it."""
    try:
        return _publication(data)
    except (OtherError, error, IndexError, UnicodeDecodeError):
        return None


def read_items(data: bytes, *, first: int = 0) -> list[Item] | None:
    """The results of a ReadResponse in the order of the request; None if that takes the general decoder.

    first: handle of the first, from which the others count on. Raises ValueError as publication() does.
    """
    try:
        at = _body(data, _READ_RESPONSE)
        (count,) = _COUNT.unpack_from(data, at)
        return _items(data, at + 4, range(first, first + count), handled=False)
    except (OtherError, error, IndexError, UnicodeDecodeError):
        return None


def _body(data: bytes, response: int) -> int:
    """Where the response's own fields begin."""
    kind, number = _TYPE.unpack_from(data, 0)
    _, _, result = _RESULT.unpack_from(data, 4)
    # An answer that is not good, and diagnostics, strings or a header of the server's own, are rare.
    if (kind, number) != (_FOUR_BYTES_IN_NAMESPACE_0, response) or result >> 30:
        raise OtherError
    (strings,) = _COUNT.unpack_from(data, 21)
    if data[20] or strings > 0 or data[25:28] != _NO_HEADER:
        raise OtherError
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
        if kind != _FOUR_BYTES_IN_NAMESPACE_0 or form != 1 or not 0 <= size <= len(data) - at:
            raise OtherError
        if number == _DATA_CHANGE:
            (count,) = _COUNT.unpack_from(data, at)
            alike = _alike(data, at + 4, count)
            items += _items(data, at + 4, range(count), handled=True) if alike is None else alike
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
        add((handle, fields[0], fields[status_at], (time - EPOCH) // 10 if EPOCH < time < _END else None))
    return items


def _alike(data: bytes, at: int, count: int) -> list[Item] | None:
    """As _items() reads them, each behind its handle, in a third of the time: if all have one type and the same parts,
    as those of a group mostly do. None if not."""
    shape = _shape(data[at + 4], data[at + 5]) if count > 0 else None
    if shape is None:
        return None
    record, status_at, source_at, server_at = shape
    row = record_of("IH" + record.format[1:])
    block = data[at : at + count * row.size]
    if len(block) < count * row.size:  # a count that is not true would be counted through, by gigabytes
        return None
    if block[4 :: row.size] != block[4:5] * count or block[5 :: row.size] != block[5:6] * count:
        return None
    fields = ((*one, 0) for one in row.iter_unpack(block))
    return [
        (one[0], one[2], one[status_at + 2], (time - EPOCH) // 10 if EPOCH < time < _END else None)
        for one in fields
        for time in [one[source_at + 2] or one[server_at + 2]]
    ]


@cache
def _shape(parts: int, kind: int) -> tuple[Struct, int, int, int] | None:
    """A data value with a scalar of fixed size: its record, and where in it status, source time and server time are.

    None if it is no such value. What the data value does not hold is looked for behind its end, where _items puts a 0:
    a status that is absent is good.
    """
    if not parts & _VALUE or parts > _KNOWN_PARTS or kind not in FORMATS:
        return None
    held = [(part, form) for part, form in _PARTS if parts & part]
    places = {part: place for place, (part, _) in enumerate(held, start=1)}
    zero = len(held) + 1
    record = Struct("<" + FORMATS[kind] + "".join(form for _, form in held))
    return record, places.get(_STATUS, zero), places.get(_SOURCE, zero), places.get(_SERVER, zero)


def _data_value(data: bytes, at: int, handle: int) -> tuple[Item, int]:
    """Any data value whose type we know, and where the next one begins."""
    parts = data[at]
    if parts > _KNOWN_PARTS:
        raise OtherError
    value: object = None
    at += 1
    if parts & _VALUE:
        value, at = variant(data, at)
    found = {_STATUS: 0, _SOURCE: 0, _SERVER: 0}
    for part, form in _PARTS:
        if parts & part:
            (found[part],) = record_of(form).unpack_from(data, at)
            at += record_of(form).size
    time = found[_SOURCE] or found[_SERVER]
    return (handle, value, found[_STATUS], (time - EPOCH) // 10 if EPOCH < time < _END else None), at
