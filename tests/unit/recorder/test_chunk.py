"""A chunk gives back what was put in: every value, its type, its time, its quality."""

import math
import struct

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from services.recorder.embedded.chunk import ChunkError, Encoder, Kind, Run, decode, kind_of, pack_times

TIMES = st.integers(0, 2**53 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
INT64 = st.integers(-(2**63), 2**63 - 1)
BIG = st.integers(2**63, 2**90) | st.integers(-(2**90), -(2**63) - 1)
VALUES = {
    Kind.FLOAT: FLOATS,
    Kind.INT: INT64,
    Kind.BOOL: st.booleans(),
    Kind.STRING: TEXT,
    Kind.ARRAY: st.lists(INT64 | FLOATS, max_size=5),
    Kind.BIG: BIG,
    Kind.NONE: st.nothing(),
}
qualities = st.integers(0, 255)


def exact(value):
    """Tells 1 from 1.0 and True, and 0.0 from -0.0."""
    if isinstance(value, list):
        return [exact(item) for item in value]
    return (type(value), struct.pack("<d", value) if isinstance(value, float) else value)


@st.composite
def contents(draw):
    kind = draw(st.sampled_from(Kind))
    lengths = draw(st.lists(st.integers(1, 40), min_size=1, max_size=6))
    runs = [Run(n, draw(qualities), kind is not Kind.NONE and draw(st.booleans())) for n in lengths]
    present = sum(run.length for run in runs if run.present)
    values = draw(st.lists(VALUES[kind], min_size=present, max_size=present))
    n = sum(lengths)
    times = sorted(draw(st.lists(TIMES, min_size=n, max_size=n)))
    return kind, times, values, runs


@given(contents())
def test_a_chunk_of_any_kind_gives_back_times_values_types_and_quality(content):
    kind, times, values, runs = content
    left = iter(values)
    expected = []
    moments = iter(times)
    for run in runs:
        expected += [(next(moments), exact(next(left) if run.present else None), run.q) for _ in range(run.length)]

    encoder = Encoder()
    points = decode(encoder.encode(kind, values, runs), encoder.compressed(pack_times(times)))

    assert [(t, exact(value), q) for t, value, q in points] == expected


@given(
    st.sampled_from([kind for kind in Kind if kind is not Kind.NONE]).flatmap(
        lambda k: st.tuples(st.just(k), VALUES[k])
    )
)
def test_each_value_has_the_kind_that_keeps_its_type(pair):
    kind, value = pair

    assert kind_of(value) is kind


def test_a_regular_float_series_takes_less_than_five_bytes_per_value():
    times = [1_700_000_000_000_000 + 100_000 * at for at in range(1000)]
    # A PLC's float32: the low bytes of the double are zero.
    values = [struct.unpack("<f", struct.pack("<f", 50 + math.sin(at / 50)))[0] for at in range(1000)]

    encoder = Encoder()
    body = encoder.encode(Kind.FLOAT, values, [Run(1000, 192, True)])

    assert len(body) + len(encoder.compressed(pack_times(times))) < 5 * 1000


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "zstd|frame|empty|Unknown|input"),
        (b"no chunk", "zstd|frame|magic"),
        (zstandard.compress(b"\x01"), "unpack"),
        (zstandard.compress(b"\x07fxxxxxxxx"), "format 7, times inside; this version reads 1 and 2"),
        (zstandard.compress(struct.pack("<BBII", 1, ord("f"), 3, 0) + bytes(8 + 3 * 8)), "do not match"),
        (zstandard.compress(struct.pack("<BBII", 1, ord("?"), 1, 0) + bytes(8 + 8)), "not a valid Kind"),
        (zstandard.compress(struct.pack("<BBII", 1, ord("s"), 0, 0) + bytes(8) + b"["), "truncated"),
    ],
)
def test_bytes_that_are_no_chunk_are_refused_with_the_reason(body, complaint):
    with pytest.raises(ChunkError, match=complaint):
        decode(body, None)


def test_times_that_belong_to_another_chunk_are_refused():
    encoder = Encoder()
    body = encoder.encode(Kind.INT, [1, 2, 3], [Run(3, 192, True)])

    with pytest.raises(ChunkError, match="do not match"):
        decode(body, encoder.compressed(pack_times([5, 6])))
    with pytest.raises(ChunkError, match="format 2, times inside"):
        decode(body, None)
