"""Frames are numbered without gaps, and no tag has two values at one time."""

from dataclasses import dataclass, field
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from contracts.v1.frame import Frame
from contracts.v1.frame_codec import PreviousStruct, QualityStruct, encode_frame
from plugins.api.driver import Reading
from services.gateway.stream import DistinctTimes, FrameStream


@dataclass
class Place:
    epoch: int = 7
    previous: tuple[int, int] | None = None
    numbers: count = field(default_factory=lambda: count(1))

    def next_seq(self):
        return next(self.numbers)


def stream(*tags, previous=None, integers=()):
    return FrameStream(
        position=Place(previous=previous), rev="abc", tags=tags, integers=integers, announced=lambda: None
    )


def test_frames_count_from_one_whatever_they_hold():
    level = stream("level")

    frames = [level.empty(), level.frame(Reading(1, {"level": 1.0})), level.empty(), level.last(None)]

    assert [(frame.epoch, frame.seq, frame.rev) for frame in frames] == [(7, n, "abc") for n in (1, 2, 3, 4)]


def test_only_the_first_frame_says_what_the_epoch_before_ended_with():
    level = stream("level", previous=(6, 4711))

    assert [level.empty().prev, level.empty().prev] == [PreviousStruct(6, 4711), None]


def test_a_new_stream_has_nothing_before_it():
    assert stream("level").empty().prev is None


def test_the_last_frame_is_closed_and_no_other():
    level = stream("level")

    assert [level.empty().closed, level.last(Reading(1, {"level": None})).closed] == [None, True]


def test_integers_that_javascript_would_round_travel_as_strings_and_are_named():
    energy = stream("total", "delta", integers=("total", "delta"))

    sample = energy.frame(Reading(1, {"total": 2**64 - 1, "delta": -5})).samples[0]

    assert (sample.v, sample.big) == ({"total": "18446744073709551615", "delta": -5}, ["total"])


def test_a_bad_reading_has_null_and_a_quality_for_every_tag():
    reading = stream("level", "flow").bad(5, "comm", code=11)

    assert reading == Reading(
        5, {"level": None, "flow": None}, dict.fromkeys(("level", "flow"), QualityStruct(0, "comm", 11))
    )


def test_a_frame_keeps_its_contract():
    level = stream("level", "flow", previous=(6, 0))
    reading = Reading(5, {"level": None, "flow": 1.5}, {"level": QualityStruct(0, "device", 2)}, {"flow": -3})

    frame = Frame.model_validate_json(encode_frame(level.frame(reading), topic="t"))

    assert frame.samples[0].model_dump(exclude_none=True) == {
        "t": 5,
        "v": {"level": None, "flow": 1.5},
        "q": {"level": {"q": 0, "cause": "device", "code": 2}},
        "dt": {"flow": -3},
    } | {"v": {"level": None, "flow": 1.5}}


def times(readings, tags=("a", "b")):
    distinct = DistinctTimes(len(tags))
    return [
        {tag: reading.t + offsets.get(tag, 0) for tag in reading.values}
        for reading in readings
        for offsets in [distinct.distinct(reading)]
    ]


def test_times_that_differ_are_left_alone():
    readings = [Reading(t, {"a": 1.0, "b": 2.0}) for t in (10, 11, 15)]

    assert times(readings) == [{"a": t, "b": t} for t in (10, 11, 15)]


def test_another_value_at_the_same_time_counts_as_a_microsecond_later():
    readings = [Reading(10, {"a": value, "b": 0.0}) for value in (1.0, 2.0, 3.0, 3.0)]

    assert [(given["a"], given["b"]) for given in times(readings)] == [(10, 10), (11, 10), (12, 10), (12, 10)]


def test_a_value_at_a_time_that_was_given_away_moves_on_too():
    readings = [Reading(10, {"a": 1.0}), Reading(10, {"a": 2.0}), Reading(11, {"a": 3.0})]

    assert [given["a"] for given in times(readings, tags=("a",))] == [10, 11, 12]


def test_a_tag_with_a_time_of_its_own_is_looked_at_by_that_time():
    readings = [Reading(10, {"a": 1.0}, dt={"a": -4}), Reading(12, {"a": 2.0}, dt={"a": -6})]

    assert [given["a"] for given in times(readings)] == [6, 7]


READINGS = st.lists(
    st.tuples(
        st.integers(0, 3),  # by how much the source's time goes on
        st.dictionaries(st.sampled_from("ab"), st.integers(0, 2).map(float), min_size=1),
        st.dictionaries(st.sampled_from("ab"), st.integers(-2, 0)),
    ),
    max_size=30,
)


@given(READINGS)
def test_no_tag_ever_has_two_values_at_one_time(steps):
    t, readings, newest = 100, [], {}
    for step, values, dt in steps:
        t += step
        # a source's time of one tag does not go back
        mine = {tag: max(t + dt.get(tag, 0), newest.get(tag, 0)) for tag in values}
        newest |= mine
        readings.append(Reading(t, values, dt={tag: time - t for tag, time in mine.items() if time != t}))

    seen = {}
    for reading, given_times in zip(readings, times(readings), strict=True):
        for tag, value in reading.values.items():
            assert seen.setdefault((tag, given_times[tag]), value) == value
