"""Values from and to registers."""

import math
import struct
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.v1.device import ValueType
from contracts.v1.frame_codec import QualityStruct
from plugins.api.driver import Value
from plugins.drivers.modbus.codec import CodecError, Field, bit_decoder, encode, register_decoder
from plugins.drivers.modbus.config import ORDERS_OF_64_BITS, Order

# A busy machine may take its time for one example.
UNHURRIED = settings(deadline=None)
WORDS = {
    ValueType.INT16: 1,
    ValueType.UINT16: 1,
    ValueType.INT32: 2,
    ValueType.UINT32: 2,
    ValueType.INT64: 4,
    ValueType.UINT64: 4,
    ValueType.FLOAT32: 2,
    ValueType.FLOAT64: 4,
}
FLOATS = {ValueType.FLOAT32: 32, ValueType.FLOAT64: 64}
NUMBERS = st.sampled_from(sorted(WORDS))
ORDERS = st.sampled_from(Order)
SWAPS_ALONE = st.sampled_from([Order.ABCD, Order.BADC])


def decode(field: Field, data: bytes) -> Value:
    values, _ = decode_block([("x", 0, field)], data)
    return values["x"]


def decode_block(
    fields: list[tuple[str, int, Field]], data: bytes
) -> tuple[dict[str, Value], dict[str, QualityStruct]]:
    values: dict[str, Value] = {}
    quality: dict[str, QualityStruct] = {}
    register_decoder(fields)(data, values, quality)
    return values, quality


def values_of(kind: ValueType) -> st.SearchStrategy[Value]:
    if kind in FLOATS:
        return st.floats(width=FLOATS[kind], allow_nan=False, allow_infinity=False)
    bits = 16 * WORDS[kind]
    if kind.startswith("u"):
        return st.integers(0, 2**bits - 1)
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


NUMBER_FIELDS = st.builds(lambda kind, order: Field(kind=kind, words=WORDS[kind], order=order), NUMBERS, ORDERS)
BIT_FIELDS = st.builds(
    lambda bit, order: Field(kind=ValueType.BOOL, words=1, bit=bit, order=order), st.integers(0, 15), SWAPS_ALONE
)
TEXT_FIELDS = st.builds(
    lambda words, order: Field(kind=ValueType.STRING, words=words, order=order), st.integers(1, 6), SWAPS_ALONE
)
FIELDS = NUMBER_FIELDS | BIT_FIELDS | TEXT_FIELDS


@UNHURRIED
@given(st.data())
def test_a_number_that_is_encoded_decodes_to_itself_in_every_order(data: st.DataObject) -> None:
    field = data.draw(NUMBER_FIELDS)
    value = data.draw(values_of(field.kind))

    encoded = encode(field, value)

    assert len(encoded) == 2 * field.words
    assert decode(field, encoded) == value
    assert type(decode(field, encoded)) is type(value)


@UNHURRIED
@given(BIT_FIELDS, st.booleans())
def test_a_bit_that_is_encoded_decodes_to_itself(field: Field, on: bool) -> None:
    assert decode(field, encode(field, on)) is on


@UNHURRIED
@given(TEXT_FIELDS, st.data())
def test_a_text_that_is_encoded_decodes_to_itself(field: Field, data: st.DataObject) -> None:
    characters = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
    text = data.draw(st.text(characters).filter(lambda text: len(text.encode()) <= 2 * field.words))

    assert decode(field, encode(field, text)) == text


@UNHURRIED
@given(
    st.sampled_from([ValueType.INT16, ValueType.UINT16, ValueType.INT32, ValueType.UINT32]),
    ORDERS,
    st.sampled_from([0.1, 0.001, 1.0, -2.5, 10.0]),
    st.sampled_from([0.0, -40.0, 1e3]),
    st.data(),
)
def test_a_scaled_value_is_written_as_the_number_that_it_was_read_from(
    kind: ValueType, order: Order, scale: float, offset: float, data: st.DataObject
) -> None:
    plain = Field(kind=kind, words=WORDS[kind], order=order)
    scaled = Field(kind=kind, words=WORDS[kind], order=order, scale=scale, offset=offset)
    raw = data.draw(values_of(kind))
    assert isinstance(raw, int)

    value = decode(scaled, encode(plain, raw))

    assert value == raw * scale + offset
    assert isinstance(value, float)
    assert encode(scaled, value) == encode(plain, raw)


@pytest.mark.parametrize("order", Order)
def test_the_name_of_an_order_is_the_value_abcd_on_the_wire(order: Order) -> None:
    field = Field(kind=ValueType.UINT32, words=2, order=order)

    assert decode(field, order.value.encode()) == int.from_bytes(b"ABCD", "big")


@pytest.mark.parametrize("name", ORDERS_OF_64_BITS)
def test_the_name_of_an_order_of_64_bits_is_the_value_abcdefgh_on_the_wire(name: str) -> None:
    field = Field(kind=ValueType.UINT64, words=4, order=ORDERS_OF_64_BITS[name])

    assert decode(field, name.encode()) == int.from_bytes(b"ABCDEFGH", "big")


@pytest.mark.parametrize(("order", "wire"), [(Order.ABCD, b"AB"), (Order.BADC, b"BA")])
def test_a_register_of_its_own_has_an_order_of_bytes_only(order: Order, wire: bytes) -> None:
    field = Field(kind=ValueType.UINT16, words=1, order=order)

    assert decode(field, wire) == int.from_bytes(b"AB", "big")


@UNHURRIED
@given(
    st.lists(st.tuples(FIELDS, st.integers(0, 14)), min_size=1, max_size=20),
    st.binary(min_size=40, max_size=40),
)
def test_a_block_decodes_as_each_of_its_fields_alone_however_they_overlap(
    placed: list[tuple[Field, int]], data: bytes
) -> None:
    fields = [(f"tag-{index}", place, field) for index, (field, place) in enumerate(placed)]

    values, quality = decode_block(fields, data)

    assert values.keys() == {name for name, _, _ in fields}
    for name, place, field in fields:
        assert values[name] == decode(field, data[2 * place : 2 * (place + field.words)])
    assert quality.keys() == {name for name, value in values.items() if value is None}


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", FLOATS)
def test_what_is_no_finite_number_is_bad_and_spoils_no_neighbour(kind: ValueType, odd: float) -> None:
    letter = "f" if kind is ValueType.FLOAT32 else "d"
    field = Field(kind=kind, words=WORDS[kind])
    fields = [(name, place * field.words, field) for place, name in enumerate(("first", "odd", "last"))]

    values, quality = decode_block(fields, struct.pack(f">3{letter}", 1.5, odd, -2.5))

    assert values == {"first": 1.5, "odd": None, "last": -2.5}
    assert quality == {"odd": QualityStruct(0, "range")}


def test_large_numbers_whose_sum_overflows_are_good() -> None:
    field = Field(kind=ValueType.FLOAT64, words=4)
    fields = [("a", 0, field), ("b", 4, field)]

    values, quality = decode_block(fields, struct.pack(">2d", 1.7e308, 1.7e308))

    assert values == {"a": 1.7e308, "b": 1.7e308}
    assert quality == {}


def test_a_scaled_value_that_overflows_is_bad() -> None:
    field = Field(kind=ValueType.FLOAT64, words=4, scale=10.0)

    values, quality = decode_block([("x", 0, field)], struct.pack(">d", 1.7e308))

    assert values == {"x": None}
    assert quality == {"x": QualityStruct(0, "range")}


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"Ros\xc3\xa9\0\0\0", "Rosé"),
        (b"full8byt", "full8byt"),
        (b"\0\0\0\0\0\0\0\0", ""),
        (b"end\0\xff\xff\xff\xff", "end"),
        (b"pad  \0\0\0", "pad  "),
    ],
)
def test_a_text_ends_at_its_first_nul(data: bytes, text: str) -> None:
    assert decode(Field(kind=ValueType.STRING, words=4), data) == text


def test_bytes_that_are_no_utf_8_are_bad() -> None:
    values, quality = decode_block([("x", 0, Field(kind=ValueType.STRING, words=2))], b"\xff\xfeab")

    assert values == {"x": None}
    assert quality == {"x": QualityStruct(0, "range")}


@UNHURRIED
@given(st.lists(st.booleans(), min_size=1, max_size=70), st.data())
def test_packed_bits_decode_with_the_first_in_the_lowest_place(bits: list[bool], data: st.DataObject) -> None:
    packed = bytes(
        sum(on << place for place, on in enumerate(bits[start : start + 8])) for start in range(0, len(bits), 8)
    )
    places = data.draw(st.lists(st.integers(0, len(bits) - 1), min_size=1, max_size=12))
    values: dict[str, Value] = {}

    bit_decoder([(f"tag-{index}", place) for index, place in enumerate(places)])(packed, values, {})

    assert values == {f"tag-{index}": bits[place] for index, place in enumerate(places)}
    assert all(type(value) is bool for value in values.values())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (Field(kind=ValueType.INT16, words=1), 32768),
        (Field(kind=ValueType.UINT16, words=1), -1),
        (Field(kind=ValueType.INT16, words=1), 1.0),
        (Field(kind=ValueType.INT16, words=1), True),
        (Field(kind=ValueType.INT16, words=1), "1"),
        (Field(kind=ValueType.INT16, words=1), None),
        (Field(kind=ValueType.FLOAT32, words=2), 1e39),
        (Field(kind=ValueType.FLOAT64, words=4), math.nan),
        (Field(kind=ValueType.FLOAT64, words=4), math.inf),
        (Field(kind=ValueType.FLOAT64, words=4), 10**310),
        (Field(kind=ValueType.FLOAT32, words=2), False),
        (Field(kind=ValueType.INT16, words=1, scale=0.1), 5000.0),
        (Field(kind=ValueType.INT16, words=1, scale=1e-300), 1e300),
        (Field(kind=ValueType.FLOAT32, words=2, scale=1e-300), 1e300),
        (Field(kind=ValueType.FLOAT64, words=4, scale=1.0, offset=-1e308), 1.7e308),
        (Field(kind=ValueType.BOOL, words=1, bit=3), 1),
        (Field(kind=ValueType.STRING, words=2), 5),
        (Field(kind=ValueType.STRING, words=2), "länge"),
        (Field(kind=ValueType.STRING, words=2), "a\0b"),
        (Field(kind=ValueType.STRING, words=2), "\ud800"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(field: Field, value: Value) -> None:
    with pytest.raises(CodecError):
        encode(field, value)


def test_decoding_leaves_the_dictionaries_of_other_blocks_alone() -> None:
    field = Field(kind=ValueType.UINT16, words=1)
    values: dict[str, Value] = {"other": 1}
    quality = {"bad": QualityStruct(0, "device", 2)}

    register_decoder([("x", 0, field)])(b"\0\7", values, quality)

    assert values == {"other": 1, "x": 7}
    assert list(quality) == ["bad"]


def test_values_of_one_order_in_a_row_are_unpacked_together() -> None:
    field = Field(kind=ValueType.FLOAT32, words=2)
    fields = [(f"tag-{index:02}", 2 * index, field) for index in range(62)]

    values, _ = decode_block(fields, struct.pack(">62f", *range(62)))

    assert list(values) == [name for name, _, _ in fields]
    assert all(later == earlier + 1 for earlier, later in pairwise(values.values()))  # type: ignore[operator]
