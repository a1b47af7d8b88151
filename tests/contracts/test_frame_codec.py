"""The fast frame codec and the pydantic model are one contract."""

import json
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.codec import MAX_BYTES, ContractError, decode, encode
from contracts.v1.frame import Frame
from contracts.v1.frame_codec import FrameStruct, decode_frame, decode_header, encode_frame, wire_integer
from contracts.v1.message import LAST_SAFE_INTEGER

names = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,20}", fullmatch=True)
integers = st.integers(-LAST_SAFE_INTEGER, LAST_SAFE_INTEGER)
floats = st.floats(allow_nan=False, allow_infinity=False)
numbers = integers | floats
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.none() | st.booleans() | numbers | text | st.lists(numbers, max_size=5)
quality = st.fixed_dictionaries(
    {"q": st.sampled_from([0, 64]), "cause": st.sampled_from(["comm", "range"])}, optional={"code": integers}
)
samples = st.fixed_dictionaries(
    {"t": st.integers(0, LAST_SAFE_INTEGER), "v": st.dictionaries(names, values, max_size=8)},
    optional={
        "q": st.dictionaries(names, quality, min_size=1, max_size=3),
        "dt": st.dictionaries(names, integers, min_size=1, max_size=3),
        "big": st.lists(names, min_size=1, max_size=3),
    },
)
positive = st.integers(1, LAST_SAFE_INTEGER)
frames = st.fixed_dictionaries(
    {"epoch": positive, "seq": positive, "rev": text, "samples": st.lists(samples, max_size=3)},
    optional={
        "prev": st.fixed_dictionaries({"epoch": positive, "last_seq": st.integers(0, 99)}),
        "closed": st.booleans(),
        "backlog": st.lists(st.lists(positive, min_size=3, max_size=3), min_size=1, max_size=3),
    },
)


def typed(value):
    """The value with the type of every leaf, so that 1, 1.0 and True differ."""
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    return type(value).__name__, repr(value)


@given(frames)
def test_both_codecs_read_a_frame_alike_with_every_type_kept(content):
    data = json.dumps(content).encode()

    fast = msgspec.to_builtins(decode_frame(data, topic="t"))
    slow = decode(Frame, data, topic="t").model_dump()

    assert typed(fast) == typed(msgspec.to_builtins(msgspec.convert(slow, FrameStruct)))
    assert typed([sample["v"] for sample in fast["samples"]]) == typed([sample["v"] for sample in slow["samples"]])


@given(frames)
def test_what_one_codec_writes_the_other_reads(content):
    data = json.dumps(content).encode()
    fast, slow = decode_frame(data, topic="t"), decode(Frame, data, topic="t")

    assert decode(Frame, encode_frame(fast, topic="t"), topic="t") == slow
    assert decode_frame(encode(slow, topic="t"), topic="t") == fast


@given(floats)
def test_a_float_never_looks_like_an_integer(value):
    frame = decode_frame(
        json.dumps({"epoch": 1, "seq": 1, "rev": "", "samples": [{"t": 0, "v": {"x": value}}]}).encode(), topic="t"
    )

    (number,) = frame.samples[0].v.values()

    assert isinstance(number, float)
    assert number == value
    assert math.copysign(1, number) == math.copysign(1, value)


@pytest.mark.parametrize(
    ("payload", "place"),
    [
        (b'{"epoch":0,"seq":1,"rev":"","samples":[]}', "epoch"),
        (b'{"epoch":1,"seq":0,"rev":"","samples":[]}', "seq"),
        (b'{"epoch":1,"rev":"","samples":[]}', "seq"),
        (b'{"epoch":1,"seq":1,"rev":"","samples":[{"t":"1","v":{}}]}', r"samples\[0\]\.t"),
        (b'{"epoch":1,"seq":1,"rev":"","samples":[{"t":1,"v":{"x":{}}}]}', "v"),
        (b"{", "truncated"),
        (b"\xff", "invalid|malformed"),
        (b'{"epoch":1,"seq":1,"rev":"","samples":[],"x":' + b'{"a":' * 100_000, "recursion"),
    ],
)
def test_both_codecs_refuse_a_broken_frame_and_the_fast_one_names_the_place(payload, place):
    with pytest.raises(ContractError, match=f"t: .*{place}"):
        decode_frame(payload, topic="t")
    with pytest.raises(ContractError):
        decode(Frame, payload, topic="t")


def test_a_header_is_refused_where_what_stands_beside_it_is_nested_without_end():
    with pytest.raises(ContractError, match=r"t: .*recursion"):
        decode_header(b'{"epoch":1,"seq":1,"rev":"","samples":' + b"[" * 500_000, topic="t")


def test_a_frame_over_the_size_bound_is_refused():
    with pytest.raises(ContractError, match="over the bound"):
        encode_frame(FrameStruct(epoch=1, seq=1, rev="x" * MAX_BYTES, samples=[]), topic="t")


@given(st.integers(-(2**64), 2**64))
def test_an_integer_travels_as_a_string_exactly_where_javascript_would_round_it(value):
    travels = wire_integer(value)

    assert int(travels) == value
    assert isinstance(travels, str) == (abs(value) > LAST_SAFE_INTEGER)
