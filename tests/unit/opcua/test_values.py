"""Values of OPC UA become values of tags: of the declared type, or none at all."""

import math
import struct
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import variant_from_binary, variant_to_binary
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.v1.device import ValueType
from contracts.v1.frame import BAD, UNCERTAIN
from contracts.v1.frame_codec import QualityStruct
from plugins.api.driver import Value
from plugins.api.soundness import fits
from plugins.drivers.opcua.values import INTEGERS, NODE_TYPES, item_of, quality_of, read_value, source_time, variant

# A busy machine may take its time for one example.
UNHURRIED = settings(deadline=None)

# What servers send, by its type there; an enumeration that the client knows arrives as such.
SENT: Mapping[ua.VariantType, st.SearchStrategy[Any]] = {
    ua.VariantType.Boolean: st.booleans(),
    ua.VariantType.Int16: st.integers(-(2**15), 2**15 - 1),
    ua.VariantType.Int32: st.sampled_from(ua.ServerState) | st.integers(-(2**31), 2**31 - 1),
    ua.VariantType.Int64: st.integers(-(2**63), 2**63 - 1),
    ua.VariantType.UInt64: st.integers(0, 2**64 - 1),
    ua.VariantType.Double: st.floats(),
    ua.VariantType.String: st.text(),
    ua.VariantType.ByteString: st.binary(),
}
ANYTHING = st.one_of(
    st.just(ua.Variant(None, ua.VariantType.Null)),
    *(st.builds(ua.Variant, values | st.lists(values, max_size=5), st.just(kind)) for kind, values in SENT.items()),
)
KINDS = st.sampled_from(ValueType)
CODES = st.sampled_from([0, 0x480, 0x40000000, 0x40900000, 0x80340000, 0x808B0000]) | st.integers(0, 2**32 - 1)


def data_of(value: Any, code: int = 0, **times: Any) -> ua.DataValue:
    sent = value if isinstance(value, ua.Variant) else ua.Variant(value)
    return ua.DataValue(sent, ua.StatusCode(ua.UInt32(code)), **times)


def value_of(value: Any, kind: ValueType, code: int = 0) -> tuple[Value, QualityStruct | None]:
    """What asyncua's data value becomes."""
    _, raw, given_code, _ = item_of(0, data_of(value, code))
    return read_value(raw, given_code, kind)


@UNHURRIED
@given(ANYTHING, KINDS, CODES)
def test_a_value_is_of_the_declared_type_or_none_with_a_reason(value: Any, kind: ValueType, code: int) -> None:
    got, quality = value_of(value, kind, code)

    if got is None:
        assert quality is not None
        assert quality.q == BAD
        assert quality.cause
    else:
        assert fits(kind, got)
        assert quality is None or quality.q == UNCERTAIN


@UNHURRIED
@given(st.data(), KINDS)
def test_a_value_of_the_declared_type_is_kept_as_it_is(data: st.DataObject, kind: ValueType) -> None:
    value = data.draw(values_of(kind))

    assert value_of(ua.Variant(value, NODE_TYPES[kind]), kind) == (value, None)


@UNHURRIED
@given(ANYTHING, KINDS)
def test_a_value_with_a_bad_status_is_never_shown(value: Any, kind: ValueType) -> None:
    code = ua.StatusCodes.BadSensorFailure

    assert value_of(value, kind, code) == (None, QualityStruct(BAD, "device", code))


@pytest.mark.parametrize(
    ("value", "kind", "cause"),
    [
        (True, ValueType.INT16, "config"),
        (1, ValueType.BOOL, "config"),
        (1, ValueType.FLOAT64, "config"),
        (1.0, ValueType.INT64, "config"),
        (None, ValueType.FLOAT64, "config"),
        ([1.0], ValueType.FLOAT64, "config"),
        (1.0, ValueType.ARRAY, "config"),
        ([True], ValueType.ARRAY, "config"),
        (["a", "b"], ValueType.ARRAY, "config"),
        (b"a", ValueType.FLOAT64, "config"),
        (ua.Range(Low=0.0, High=1.0), ValueType.STRING, "config"),
        (40_000, ValueType.INT16, "range"),
        (-1, ValueType.UINT64, "range"),
        (math.nan, ValueType.FLOAT32, "range"),
        (-math.inf, ValueType.FLOAT64, "range"),
        ([1.0, math.nan], ValueType.ARRAY, "range"),
    ],
)
def test_what_does_not_fit_is_told_apart(value: Any, kind: ValueType, cause: str) -> None:
    assert value_of(value, kind) == (None, QualityStruct(BAD, cause))


@pytest.mark.parametrize(
    ("code", "quality"),
    [
        (ua.StatusCodes.UncertainInitialValue, QualityStruct(BAD, "startup", 0x40920000)),
        (ua.StatusCodes.UncertainLastUsableValue, QualityStruct(BAD, "stale", 0x40900000)),
        (0, QualityStruct(BAD, "config")),
    ],
)
def test_no_value_at_all_is_bad_for_the_reason_that_its_status_says(code: int, quality: QualityStruct) -> None:
    assert value_of(ua.Variant(None, ua.VariantType.Null), ValueType.FLOAT64, code) == (None, quality)


@pytest.mark.parametrize(
    ("value", "kind", "quality"),
    [
        ("x" * 900_000, ValueType.STRING, None),
        ("ü" * 450_000, ValueType.STRING, None),
        ("\0" * 200_000, ValueType.STRING, QualityStruct(BAD, "range")),
        ([0.1] * 200_000, ValueType.ARRAY, None),
        ([-1.2345678901234567e-308] * 40_000, ValueType.ARRAY, QualityStruct(BAD, "range")),
    ],
)
def test_a_value_is_shown_as_long_as_a_frame_can_hold_it(
    value: Any, kind: ValueType, quality: QualityStruct | None
) -> None:
    assert value_of(value, kind) == (None if quality else value, quality)


def test_an_enumeration_is_its_number() -> None:
    value, quality = value_of(ua.ServerState.Shutdown, ValueType.INT32)

    assert (type(value), value, quality) == (int, 4, None)


@pytest.mark.parametrize(
    ("code", "quality"),
    [
        (0, None),
        (ua.StatusCodes.GoodLocalOverride, None),
        (0x480, QualityStruct(UNCERTAIN, "overflow", 0x480)),
        (0x80, None),  # the overflow bit counts only where the info type says that it is there
        (ua.StatusCodes.UncertainLastUsableValue, QualityStruct(UNCERTAIN, "stale", 0x40900000)),
        (ua.StatusCodes.BadNodeIdUnknown, QualityStruct(BAD, "config", 0x80340000)),
        (ua.StatusCodes.BadDeviceFailure, QualityStruct(BAD, "device", 0x808B0000)),
        (0xC0000000, QualityStruct(BAD, "device", 0xC0000000)),
    ],
)
def test_status_codes_are_told_as_qualities(code: int, quality: QualityStruct | None) -> None:
    assert quality_of(code) == quality


@UNHURRIED
@given(st.integers(1, 4_000_000_000_000_000))
def test_a_source_time_is_kept_to_the_microsecond(micros: int) -> None:
    time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)

    assert source_time(data_of(1.0, SourceTimestamp=time)) == micros


def test_without_a_source_time_the_servers_stands_for_it() -> None:
    early, late = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)

    assert source_time(data_of(1.0, ServerTimestamp=late)) == int(late.timestamp()) * 10**6
    assert source_time(data_of(1.0, SourceTimestamp=early, ServerTimestamp=late)) == int(early.timestamp()) * 10**6
    assert source_time(data_of(1.0)) is None


@pytest.mark.parametrize("year", [1601, 2256, 9999])
def test_a_time_before_or_after_all_time_is_none(year: int) -> None:
    assert source_time(data_of(1.0, SourceTimestamp=datetime(year, 1, 1, tzinfo=UTC))) is None


@UNHURRIED
@given(st.data(), KINDS)
def test_what_is_written_is_what_a_reader_gets(data: st.DataObject, kind: ValueType) -> None:
    value = data.draw(values_of(kind))

    back = variant_from_binary(Buffer(variant_to_binary(variant(value, NODE_TYPES[kind]))))

    assert back.Value == value
    assert back.VariantType is NODE_TYPES[kind]


@UNHURRIED
@given(st.one_of(*SENT.values()), st.sampled_from(ua.VariantType))
def test_a_value_is_refused_with_the_nodes_type_or_can_be_sent(value: Any, kind: ua.VariantType) -> None:
    told, sent = "", b""
    try:
        sent = variant_to_binary(variant(value, kind))
    except (TypeError, ValueError) as error:
        told = str(error)

    assert sent or kind.name in told


@pytest.mark.parametrize("kind", [ua.VariantType.Int32, ua.VariantType.UInt64])
def test_a_subclass_of_int_is_refused_rather_than_counted_up_to(kind: ua.VariantType) -> None:
    with pytest.raises(TypeError, match=kind.name):
        variant(ua.ServerState.Shutdown, kind)


@UNHURRIED
@given(st.lists(st.integers(-100, 100), max_size=5))
def test_whole_numbers_may_go_into_a_node_of_floats(items: list[int]) -> None:
    wanted = variant(items, ua.VariantType.Double)

    assert wanted.Value == items
    assert all(type(item) is float for item in wanted.Value)


def values_of(kind: ValueType) -> st.SearchStrategy[Any]:
    """Everything that a tag of this type may hold."""
    if kind in INTEGERS:
        return st.integers(INTEGERS[kind].start, INTEGERS[kind].stop - 1)
    finite = st.floats(allow_nan=False, allow_infinity=False)
    return {
        ValueType.BOOL: st.booleans(),
        ValueType.FLOAT32: st.floats(width=32, allow_nan=False, allow_infinity=False),
        ValueType.FLOAT64: finite,
        ValueType.STRING: st.text(),
        ValueType.ARRAY: st.lists(finite, max_size=5),
    }[kind]


def test_the_largest_float_of_a_node_is_the_largest_there_is() -> None:
    largest = struct.unpack(">f", bytes.fromhex("7f7fffff"))[0]

    assert variant(largest, ua.VariantType.Float).Value == largest
    with pytest.raises(ValueError, match="Float"):
        variant(math.nextafter(largest, math.inf), ua.VariantType.Float)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (ua.VariantType.DateTime, "2026-01-02T03:04:05.123456Z"),
        (ua.VariantType.DateTime, "2026-01-02T03:04:05Z"),
        (ua.VariantType.Guid, "72962b91-fa75-4ae6-8d28-b404dc7daf63"),
        (ua.VariantType.ByteString, "YWJj"),
        (ua.VariantType.LocalizedText, "Füller"),
    ],
)
def test_text_goes_into_a_node_of_another_kind_of_text_and_comes_back(kind: ua.VariantType, text: str) -> None:
    binary = variant_to_binary(variant(text, kind))

    sent = variant_from_binary(Buffer(binary))

    assert sent.VariantType is kind
    assert value_of(sent, ValueType.STRING) == (text, None)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (ua.VariantType.DateTime, "yesterday"),
        (ua.VariantType.Guid, "7296"),
        (ua.VariantType.ByteString, "a b"),
    ],
)
def test_text_that_a_node_cannot_hold_is_refused_with_what_it_needs(kind: ua.VariantType, text: str) -> None:
    with pytest.raises(ValueError, match=f"{text}.*which the node's type {kind.name} needs"):
        variant(text, kind)


def test_an_array_goes_into_a_node_of_bytes() -> None:
    assert variant([1, 2, 255], ua.VariantType.ByteString).Value == b"\x01\x02\xff"
