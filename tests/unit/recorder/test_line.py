"""Lines of line protocol, read back by a reader that follows the protocol's own rules."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.topic import TopicError
from contracts.v1.frame_codec import QualityStruct, SampleStruct
from services.recorder.influxdb.line import LineWriter, Told
from tests.unit.recorder.test_chunk import BIG, FLOATS, INT64, TEXT, exact

LINE = re.compile(
    r"tag,site=(?P<site>[^ ,=]+),device=(?P<device>[^ ,=]+),tag=(?P<tag>[^ ,=]+) "
    r'(?:(?P<field>[a-z])=(?P<value>"(?:[^"\\]|\\.)*"|[^" ]+),)?q=(?P<q>\d+)i (?P<t>\d+)',
    re.DOTALL,
)
values = st.none() | st.booleans() | INT64 | FLOATS | TEXT | st.lists(INT64 | FLOATS, max_size=4)


def parsed(line):
    """(site, device, tag, value, q, t) of a line."""
    found = LINE.fullmatch(line)
    assert found, line
    value = found["value"]
    if found["field"] in {"s", "a"}:
        value = re.sub(r'\\(["\\])', r"\1", value[1:-1])
    match found["field"]:
        case "f":
            value = float(value)
        case "i":
            assert value.endswith("i")
            value = int(value[:-1])
        case "b":
            value = {"true": True, "false": False}[value]
        case "a":
            value = json.loads(value)
    return found["site"], found["device"], found["tag"], value, int(found["q"]), int(found["t"])


@given(values, st.integers(0, 2**53 - 1))
def test_any_value_survives_with_its_type(value, t):
    (line,) = LineWriter(site="plant").lines("plc", [SampleStruct(t=t, v={"x": value})])

    *name, back, q, time = parsed(line)

    assert name == ["plant", "plc", "x"]
    assert exact(back) == exact(value)
    assert (q, time) == (0 if value is None else 192, t)


QUALITIES = st.builds(QualityStruct, q=st.integers(0, 255), cause=st.just("comm"))
SAMPLES = st.lists(
    st.builds(
        SampleStruct,
        t=st.integers(10, 2**52),
        v=st.dictionaries(st.sampled_from("abcd"), values | BIG),
        q=st.none() | st.dictionaries(st.sampled_from("abcd"), QUALITIES),
        dt=st.none() | st.dictionaries(st.sampled_from("abcd"), st.integers(-5, 5)),
    ),
    max_size=4,
)


@given(SAMPLES)
def test_a_block_holds_the_same_lines(samples):
    writer = LineWriter(site="plant")
    for _ in range(2):
        lines = list(writer.lines("plc", samples))
        blocks = writer.block("plc", samples)

        assert [_plain(line) for line in lines] == [_plain(line) for line in _split(blocks)]


PLAIN = st.lists(
    st.builds(
        SampleStruct,
        t=st.integers(10, 2**52),
        v=st.dictionaries(st.sampled_from("abc"), st.none() | st.booleans() | INT64 | FLOATS),
        q=st.none() | st.dictionaries(st.sampled_from("abc"), QUALITIES),
    ),
    max_size=8,
)


@given(PLAIN)
def test_where_a_quality_is_left_out_of_a_batch_the_tags_one_before_it_holds_and_is_good(samples):
    writer = LineWriter(site="plant")
    told: Told = {}
    written = [line for one in samples for line in writer.block("plc", [one], told).decode().splitlines()]
    said: dict[str, int] = {}

    for line, whole in zip(written, writer.lines("plc", samples), strict=True):
        without = LINE.fullmatch(line) is None
        assert _plain(re.sub(" (?=[0-9]+$)", ",q=192i ", line) if without else line) == _plain(whole)
        _, _, tag, _, q, _ = parsed(whole)
        assert q == (said[tag] if without else q)
        assert not without or q == 192
        said[tag] = q


def test_of_frames_that_are_all_good_the_first_one_of_a_batch_alone_says_so():
    writer = LineWriter(site="plant")
    told: Told = {}
    samples = [SampleStruct(t=t, v={"x": t, "y": 0.5}) for t in (1, 2)]

    assert writer.block("plc", samples, told).decode().splitlines() == [
        "tag,site=plant,device=plc,tag=x i=1i,q=192i 1",
        "tag,site=plant,device=plc,tag=y f=0.5,q=192i 1",
        "tag,site=plant,device=plc,tag=x i=2i 2",
        "tag,site=plant,device=plc,tag=y f=0.5 2",
    ]


def _split(block):
    """The lines of a block; a text may hold line ends."""
    return [found[0] for found in LINE.finditer(block.decode())]


def _plain(line):
    """What a line says: 1e+20 and 1e20 are one."""
    site, device, tag, value, q, t = parsed(line)
    return site, device, tag, exact(value), q, t


@given(st.lists(TEXT, min_size=2, max_size=6))
def test_no_text_breaks_out_of_its_line(texts):
    sample = SampleStruct(t=5, v={f"x{at}": text for at, text in enumerate(texts)})

    lines = list(LineWriter(site="plant").lines("plc", [sample]))

    assert [parsed(line)[3] for line in lines] == texts


@given(BIG)
def test_an_integer_beyond_64_bits_is_kept_as_text_with_every_digit(value):
    (line,) = LineWriter(site="plant").lines("plc", [SampleStruct(t=5, v={"x": value})])

    assert f's="{value}",' in line


def test_quality_and_the_tags_own_time_stand_in_the_line():
    sample = SampleStruct(
        t=1_000_000,
        v={"good": 1.5, "late": 2.5, "bad": None, "doubtful": 3},
        q={"bad": QualityStruct(q=0, cause="comm"), "doubtful": QualityStruct(q=64, cause="range")},
        dt={"late": -250},
    )

    lines = list(LineWriter(site="plant").lines("plc", [sample]))

    assert lines == [
        "tag,site=plant,device=plc,tag=good f=1.5,q=192i 1000000",
        "tag,site=plant,device=plc,tag=late f=2.5,q=192i 999750",
        "tag,site=plant,device=plc,tag=bad q=0i 1000000",
        "tag,site=plant,device=plc,tag=doubtful i=3i,q=64i 1000000",
    ]


@pytest.mark.parametrize("name", ["a b", "a,b", "a=b", "a\nb", "", "ä"])
def test_a_name_that_could_break_the_line_is_refused(name):
    writer = LineWriter(site="plant")

    with pytest.raises(TopicError):
        list(writer.lines("plc", [SampleStruct(t=1, v={name: 1})]))
    with pytest.raises(TopicError):
        list(writer.lines(name, [SampleStruct(t=1, v={"x": 1})]))
    with pytest.raises(TopicError):
        LineWriter(site=name)
