"""Report by exception: nothing that changed is kept back for ever, nothing that did not is told too often."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.v1.frame_codec import QualityStruct
from plugins.api.driver import Reading
from services.gateway.change import ChangeReport, Rule

COMM = QualityStruct(0, "comm")


def rule(deadband=0.0, min_interval_s=0.2, max_silence_s=60.0):
    return Rule(deadband=deadband, min_interval_s=min_interval_s, max_silence_s=max_silence_s)


def report(*tags, interval_s=0.0, **fields):
    return ChangeReport({tag: rule(**fields) for tag in tags}, interval_s=interval_s)


def told(changes):
    return {change.tag: change.value for change in changes}


def test_the_first_reading_is_told_whole():
    pump = report("level", "flow")

    assert told(pump.on_reading(Reading(1, {"level": 1.0, "flow": None}, {"flow": COMM}), 0.0)) == {
        "level": 1.0,
        "flow": None,
    }


def test_an_equal_value_is_not_told_again():
    pump = report("level")
    pump.on_reading(Reading(1, {"level": 1.0}), 0.0)

    assert pump.on_reading(Reading(2, {"level": 1.0}), 1.0) == []


@pytest.mark.parametrize(("value", "is_told"), [(10.5, False), (9.5, False), (10.51, True), (9.49, True), (None, True)])
def test_a_change_is_told_beyond_the_deadband(value, is_told):
    pump = report("level", deadband=0.5)
    pump.on_reading(Reading(1, {"level": 10.0}), 0.0)

    changes = pump.on_reading(Reading(2, {"level": value}), 1.0)

    assert told(changes) == ({"level": value} if is_told else {})


def test_a_slow_drift_is_told_once_it_is_beyond_the_deadband_of_what_was_told():
    pump = report("level", deadband=1.0)
    drift = [pump.on_reading(Reading(n, {"level": n * 0.4}), float(n)) for n in range(5)]

    assert [told(changes) for changes in drift] == [{"level": 0.0}, {}, {}, {"level": pytest.approx(1.2)}, {}]


def test_the_source_time_of_a_change_is_that_of_its_own_tag():
    pump = report("level", "flow")

    changes = pump.on_reading(Reading(1000, {"level": 1.0, "flow": 2.0}, dt={"flow": -15}), 0.0)

    assert {change.tag: change.t for change in changes} == {"level": 1000, "flow": 985}


def test_a_change_within_min_interval_waits_and_the_last_value_is_told_when_it_has_passed():
    pump = report("level")
    pump.on_reading(Reading(1, {"level": 1.0}), 0.0)

    assert pump.on_reading(Reading(2, {"level": 2.0}), 0.05) == []
    assert pump.on_reading(Reading(3, {"level": 3.0}), 0.15) == []
    assert pump.due == pytest.approx(0.2)
    assert pump.flush(0.19) == []
    assert told(pump.flush(0.2)) == {"level": 3.0}
    assert pump.flush(0.5) == []


def test_a_value_that_went_back_within_min_interval_is_not_told():
    pump = report("level")
    pump.on_reading(Reading(1, {"level": 1.0}), 0.0)
    pump.on_reading(Reading(2, {"level": 2.0}), 0.05)
    pump.on_reading(Reading(3, {"level": 1.0}), 0.1)

    assert pump.flush(0.2) == []


def test_a_change_that_waits_is_told_with_a_reading_of_other_tags():
    pump = report("level", "flow")
    pump.on_reading(Reading(1, {"level": 1.0, "flow": 1.0}), 0.0)
    pump.on_reading(Reading(2, {"level": 2.0}), 0.1)

    assert told(pump.on_reading(Reading(3, {"flow": 9.0}), 0.3)) == {"level": 2.0, "flow": 9.0}


def test_nothing_is_due_when_no_reading_came_within_min_interval():
    pump = report("level")
    pump.on_reading(Reading(1, {"level": 1.0}), 0.0)

    assert pump.due == 60.0


@pytest.mark.parametrize(
    ("interval_s", "min_interval_s", "read_at", "due"),
    [
        (0.1, 0.2, 0.199, 0.2),  # a poll that was a little early: its value is as fresh as can be
        (0.1, 0.2, 0.151, 0.2),
        (0.1, 0.2, 0.149, 0.275),  # the next poll, at 0.249, comes before
        (10.0, 17.0, 13.0, 17.0),
        (10.0, 17.0, 10.0, 17.1),  # a value five seconds old does not wait another three for a fresher one
        (0.0, 0.2, 0.1, 0.2),
    ],
)
def test_a_change_held_back_is_told_as_soon_as_it_may_if_it_is_fresh_and_else_waits_for_the_next_reading(
    interval_s, min_interval_s, read_at, due
):
    pump = report("level", interval_s=interval_s, min_interval_s=min_interval_s)
    pump.on_reading(Reading(1, {"level": 1.0}), 0.0)
    pump.on_reading(Reading(2, {"level": 2.0}), read_at)

    assert pump.due == pytest.approx(due)
    assert told(pump.flush(pump.due)) == {"level": 2.0}


def test_a_change_that_waits_for_a_fresher_reading_is_told_with_it():
    pump = report("level", interval_s=0.1)
    pump.on_reading(Reading(1, {"level": 1.0}), 0.0)
    pump.on_reading(Reading(2, {"level": 2.0}), 0.1)

    assert pump.due == pytest.approx(0.275)
    assert told(pump.on_reading(Reading(3, {"level": 3.0}), 0.201)) == {"level": 3.0}


def test_a_silent_tag_is_told_after_max_silence_with_its_own_time():
    pump = report("level", max_silence_s=60.0)
    pump.on_reading(Reading(7, {"level": 1.0}), 0.0)
    pump.on_reading(Reading(8, {"level": 1.0}), 30.0)

    assert pump.due == 60.0
    assert [(change.value, change.t) for change in pump.flush(60.0)] == [(1.0, 8)]
    assert pump.due == 120.0


def test_silence_counts_from_the_last_time_that_this_tag_was_told():
    pump = report("level", "flow", max_silence_s=60.0)
    pump.on_reading(Reading(1, {"level": 1.0, "flow": 1.0}), 0.0)
    pump.on_reading(Reading(2, {"level": 2.0, "flow": 1.0}), 30.0)

    assert told(pump.flush(60.0)) == {"flow": 1.0}
    assert told(pump.flush(90.0)) == {"level": 2.0}


def test_a_tag_goes_bad_and_good_again_at_once():
    pump = report("level")
    pump.on_reading(Reading(1, {"level": 1.0}), 0.0)

    bad = pump.on_reading(Reading(2, {"level": None}, {"level": COMM}), 0.01)
    good = pump.on_reading(Reading(3, {"level": 1.0}), 0.02)

    assert [(change.value, change.quality) for change in bad] == [(None, COMM)]
    assert [(change.value, change.quality) for change in good] == [(1.0, None)]


def test_a_bad_tag_is_told_once_until_its_quality_changes():
    pump = report("level")
    refused = QualityStruct(0, "device", 2)
    pump.on_reading(Reading(1, {"level": None}, {"level": COMM}), 0.0)

    assert pump.on_reading(Reading(2, {"level": None}, {"level": COMM}), 1.0) == []
    assert [change.quality for change in pump.on_reading(Reading(3, {"level": None}, {"level": refused}), 1.1)] == [
        refused
    ]


def test_an_uncertain_value_is_told_with_its_quality():
    pump = report("level")
    uncertain = QualityStruct(64, "sensor")
    pump.on_reading(Reading(1, {"level": 1.0}), 0.0)

    changes = pump.on_reading(Reading(2, {"level": 1.0}, {"level": uncertain}), 0.01)

    assert [(change.value, change.quality) for change in changes] == [(1.0, uncertain)]


def test_min_interval_of_zero_tells_every_change():
    pump = report("level", min_interval_s=0.0)

    assert [told(pump.on_reading(Reading(n, {"level": n}), 0.0)) for n in range(3)] == [{"level": n} for n in range(3)]


TAGS = ("a", "b", "c")
STEPS = st.lists(
    st.tuples(
        st.integers(1, 40),  # hundredths of a second until the step
        st.dictionaries(st.sampled_from(TAGS), st.none() | st.integers(0, 3).map(float), max_size=3),
        st.booleans(),
    ),
    max_size=40,
)


@given(STEPS, st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 0.1, 1.0]))
def test_whatever_comes_no_tag_is_told_too_often_and_its_last_value_is_never_lost(steps, deadband, interval_s):
    now, read, published, at = 0.0, {}, {}, {}
    pump = report(*TAGS, interval_s=interval_s, deadband=deadband, max_silence_s=2.0)

    def check(changes):
        for change in changes:
            turned = (change.value is None) != (published.get(change.tag, 0.0) is None)
            assert turned or now - at.get(change.tag, -math.inf) >= 0.2 - 1e-9
            published[change.tag], at[change.tag] = change.value, now

    for hundredths, given_values, whole in steps:
        then = now + hundredths / 100
        while pump.due <= then:
            now = max(now, pump.due)
            check(pump.flush(now))
        now = then
        assert all(now - told_at <= 2.0 + 1e-9 for told_at in at.values()), "none is silent for longer"
        values = {**dict.fromkeys(TAGS, 0.0), **given_values} if whole else given_values
        quality = {tag: COMM for tag, value in values.items() if value is None}
        read |= values
        check(pump.on_reading(Reading(round(now * 1e6), values, quality), now))
    now += 0.2
    check(pump.flush(now))

    assert published.keys() == read.keys()
    for tag, value in read.items():
        if value is None or published[tag] is None:
            assert published[tag] is value
        else:
            assert abs(published[tag] - value) <= deadband
        assert now - at[tag] < 2.0
