"""What wire.py reads from the bytes is what asyncua reads from them, and what it cannot read it leaves alone."""

import struct
import tracemalloc
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary
from hypothesis import given
from hypothesis import strategies as st

from plugins.drivers.opcua.values import item_of
from plugins.drivers.opcua.variant import FORMATS
from plugins.drivers.opcua.wire import EPOCH, Item, Publication, publication, read_items

TIMES = st.none() | (st.integers(-(10**15), 4 * 10**15) | st.integers(8 * 10**15, 2 * 10**17)).map(
    lambda micros: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
)
CODES = st.sampled_from([0, 0x480, 0x40900000, 0x80340000]) | st.integers(0, 2**32 - 1)
SCALARS: dict[ua.VariantType, st.SearchStrategy[Any]] = {
    ua.VariantType.Boolean: st.booleans(),
    ua.VariantType.SByte: st.integers(-(2**7), 2**7 - 1),
    ua.VariantType.Byte: st.integers(0, 2**8 - 1),
    ua.VariantType.Int16: st.integers(-(2**15), 2**15 - 1),
    ua.VariantType.UInt16: st.integers(0, 2**16 - 1),
    ua.VariantType.Int32: st.integers(-(2**31), 2**31 - 1),
    ua.VariantType.UInt32: st.integers(0, 2**32 - 1),
    ua.VariantType.Int64: st.integers(-(2**63), 2**63 - 1),
    ua.VariantType.UInt64: st.integers(0, 2**64 - 1),
    ua.VariantType.Float: st.floats(width=32, allow_nan=False),
    ua.VariantType.Double: st.floats(allow_nan=False),
    ua.VariantType.String: st.text() | st.binary().map(lambda data: data.decode(errors="surrogateescape")),
    ua.VariantType.ByteString: st.binary(),
    ua.VariantType.LocalizedText: st.builds(ua.LocalizedText, st.text(min_size=1), st.none() | st.text(min_size=1)),
    ua.VariantType.StatusCode: CODES.map(lambda code: ua.StatusCode(ua.UInt32(code))),
    ua.VariantType.Guid: st.uuids(),
    ua.VariantType.DateTime: st.datetimes(datetime(1601, 1, 1), datetime(9999, 12, 31)).map(  # noqa: DTZ001
        lambda time: time.replace(tzinfo=UTC)
    ),
    ua.VariantType.ExtensionObject: st.sampled_from([ua.Argument(Name="x"), ua.Range(Low=0.0, High=1.0)]),
}


def variants(kind: ua.VariantType) -> st.SearchStrategy[ua.Variant]:
    scalar = SCALARS[kind].map(lambda value: ua.Variant(value, kind))
    array = st.lists(SCALARS[kind], max_size=4).map(lambda values: ua.Variant(values, kind, is_array=True))
    matrix = st.lists(SCALARS[kind], min_size=6, max_size=6).map(
        lambda values: ua.Variant([values[:3], values[3:]], kind, [ua.Int32(2), ua.Int32(3)], is_array=True)
    )
    return scalar | array | matrix


KNOWN = st.sampled_from(sorted(SCALARS)).flatmap(variants) | st.just(ua.Variant(None, ua.VariantType.Null))
UNKNOWN = st.sampled_from(
    [
        ua.Variant(ua.NodeId(ua.Int32(7), ua.Int16(2)), ua.VariantType.NodeId),
        ua.Variant(ua.QualifiedName("name", 2), ua.VariantType.QualifiedName),
    ]
)


def data_values(held: st.SearchStrategy[ua.Variant]) -> st.SearchStrategy[ua.DataValue]:
    return st.builds(
        lambda value, code, source, server: ua.DataValue(
            value,
            None if code is None else ua.StatusCode(ua.UInt32(code)),
            SourceTimestamp=source,
            ServerTimestamp=server,
        ),
        held,
        st.none() | CODES,
        TIMES,
        TIMES,
    )


def value_like(
    kind: ua.VariantType, code: int | None, source: datetime | None, server: datetime | None
) -> st.SearchStrategy[ua.DataValue]:
    """Values of this type, with what else these have."""
    return st.builds(
        lambda value: ua.DataValue(
            ua.Variant(value, kind),
            None if code is None else ua.StatusCode(ua.UInt32(code)),
            SourceTimestamp=source,
            ServerTimestamp=server,
        ),
        SCALARS[kind],
    )


def published(values: list[tuple[int, ua.DataValue]], *, sequence: int = 3, ended: int | None = None) -> bytes:
    items = [ua.MonitoredItemNotification(ua.UInt32(handle), value) for handle, value in values]
    told: list[Any] = [ua.DataChangeNotification(items)] if items else []
    if ended is not None:
        told.append(ua.StatusChangeNotification(ua.StatusCode(ua.UInt32(ended))))
    response = ua.PublishResponse()
    response.Parameters.SubscriptionId = ua.UInt32(7)
    response.Parameters.AvailableSequenceNumbers = [ua.UInt32(1), ua.UInt32(2)]
    response.Parameters.MoreNotifications = False
    response.Parameters.NotificationMessage.SequenceNumber = ua.UInt32(sequence)
    response.Parameters.NotificationMessage.NotificationData = told
    return bytes(struct_to_binary(response))


def read(values: list[ua.DataValue]) -> bytes:
    response = ua.ReadResponse()
    response.Results = values
    return bytes(struct_to_binary(response))


def as_asyncua_reads(data: bytes) -> list[Item]:
    result = struct_from_binary(ua.PublishResponse, Buffer(data)).Parameters
    return [
        item_of(item.ClientHandle, item.Value)
        for notification in result.NotificationMessage.NotificationData or ()
        for item in notification.MonitoredItems
    ]


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), data_values(KNOWN)), max_size=6))
def test_a_publication_is_read_as_asyncua_reads_it(values: list[tuple[int, ua.DataValue]]) -> None:
    data = published(values)

    assert publication(data) == Publication(7, 3, False, as_asyncua_reads(data), None)


ALIKE = st.tuples(
    st.sampled_from(sorted(set(SCALARS) & {*map(ua.VariantType, FORMATS)})), st.none() | CODES, TIMES, TIMES
).flatmap(lambda like: st.lists(st.tuples(st.integers(0, 2**32 - 1), value_like(*like)), max_size=6))


@given(ALIKE, st.data())
def test_values_that_are_alike_but_for_some_are_read_as_asyncua_reads_them(
    alike: list[tuple[int, ua.DataValue]], draw: st.DataObject
) -> None:
    other = draw.draw(st.lists(st.tuples(st.integers(0, 9), data_values(KNOWN)), max_size=1))
    at = draw.draw(st.integers(0, len(alike)))
    data = published([*alike[:at], *other, *alike[at:]])

    assert publication(data) == Publication(7, 3, False, as_asyncua_reads(data), None)


@given(st.lists(data_values(KNOWN), max_size=6), st.integers(0, 1000))
def test_an_answer_to_a_read_is_read_as_asyncua_reads_it(values: list[ua.DataValue], first: int) -> None:
    data = read(values)

    results = struct_from_binary(ua.ReadResponse, Buffer(data)).Results

    assert read_items(data, first=first) == [item_of(place, one) for place, one in enumerate(results, start=first)]


@given(st.lists(data_values(KNOWN), max_size=3), data_values(UNKNOWN))
def test_a_type_that_is_not_known_leaves_all_to_asyncua(values: list[ua.DataValue], unknown: ua.DataValue) -> None:
    assert read_items(read([*values, unknown])) is None
    assert publication(published(list(enumerate([*values, unknown])))) is None


@given(st.lists(st.tuples(st.integers(0, 9), data_values(KNOWN)), min_size=1, max_size=3), st.data())
def test_an_answer_that_is_cut_short_is_left_to_asyncua(
    values: list[tuple[int, ua.DataValue]], draw: st.DataObject
) -> None:
    data = published(values)
    behind = 8  # the counts of results and of diagnostics, which wire.py does not look at
    cut = draw.draw(st.integers(0, len(data) - behind - 1))

    assert publication(data[:cut]) is None


@given(st.binary(max_size=200))
def test_whatever_the_bytes_they_are_read_or_left_to_asyncua_or_refused(data: bytes) -> None:
    head = published([])[:4]

    for given_bytes in (data, head + data, published([(1, ua.DataValue(ua.Variant(1.5)))])[:60] + data):
        with suppress(ValueError):
            assert publication(given_bytes) is None or isinstance(publication(given_bytes), Publication)
        with suppress(ValueError):
            assert read_items(given_bytes) is None or isinstance(read_items(given_bytes), list)


def test_an_array_of_more_values_than_there_are_bytes_is_refused_rather_than_counted_through() -> None:
    value = published([(1, ua.DataValue(ua.Variant([1.5], ua.VariantType.Double)))])
    array = b"\x8b" + (1).to_bytes(4, "little")
    endless = value.replace(array, b"\x80" + (2**31 - 1).to_bytes(4, "little"))

    assert endless != value
    with pytest.raises(ValueError, match="an array of 2147483647 values"):
        publication(endless)


def test_a_notification_of_more_values_than_there_are_bytes_takes_no_memory_for_them() -> None:
    value = published([(1, ua.DataValue(ua.Variant(1.5)))])
    one, endless = ((1).to_bytes(4, "little"), (2**31 - 1).to_bytes(4, "little"))
    data = value.replace(one + one, endless + one)  # the count of values, before the handle of the first

    assert data != value
    tracemalloc.start()
    try:
        assert publication(data) is None
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_notification_of_a_negative_size_is_left_to_asyncua_rather_than_read_again_and_again() -> None:
    data = published([], ended=0)
    head = struct.pack("<iHHB", 1, 1, 820, 1)
    size = struct.pack("<i", 5)
    endless = data.replace(head + size, struct.pack("<i", 2**20) + head[4:] + struct.pack("<i", -9))

    assert endless != data
    assert publication(endless) is None


def test_the_end_of_a_subscription_comes_with_its_status() -> None:
    code = int(ua.StatusCodes.BadTimeout)

    assert publication(published([], ended=code)) == Publication(7, 3, False, [], code)


def test_a_keep_alive_has_no_items() -> None:
    assert publication(published([], sequence=4)) == Publication(7, 4, False, [], None)


@pytest.mark.parametrize("code", [ua.StatusCodes.BadSessionClosed, ua.StatusCodes.BadNoSubscription])
def test_a_response_that_is_not_good_is_left_to_asyncua(code: int) -> None:
    response = ua.PublishResponse()
    response.ResponseHeader.ServiceResult = ua.StatusCode(ua.UInt32(code))

    assert publication(struct_to_binary(response)) is None


def test_picoseconds_stand_behind_the_time_that_they_refine() -> None:
    """OPC 10000-6, 5.2.2.17; asyncua has them behind both times, and so cannot be what this is compared with."""
    source, server = EPOCH + 12_345_670, EPOCH + 99_999_990
    value = struct.pack("<BBdIqHqH", 0x3F, 11, 2.5, 0x40900000, source, 1234, server, 5678)
    empty = read([])
    data = empty[:28] + struct.pack("<i", 2) + value + value + empty[32:]

    assert read_items(data) == [(place, 2.5, 0x40900000, 1_234_567) for place in (0, 1)]
