"""Polls fall due on a grid that never drifts, never overlap, and never queue."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.schedule import Rate, Schedule


def test_a_poll_in_time_keeps_to_the_grid():
    schedule = Schedule(0.1, start=5.0)

    due = [schedule.due]
    for took in (0.03, 0.09, 0.001):
        assert schedule.done(schedule.due + took) == 0
        due.append(schedule.due)

    assert due == pytest.approx([5.0, 5.1, 5.2, 5.3])


def test_a_poll_that_takes_too_long_costs_slots_and_queues_none():
    schedule = Schedule(0.1, start=0.0)

    assert schedule.done(0.35) == 2
    assert schedule.due == pytest.approx(0.3)
    assert schedule.done(0.36) == 0
    assert schedule.due == pytest.approx(0.4)


def test_an_interval_of_zero_is_due_again_at_once():
    schedule = Schedule(0.0, start=1.0)

    assert [schedule.done(1.5), schedule.due] == [0, 1.5]


def test_a_postponed_poll_falls_into_a_slot():
    schedule = Schedule(0.1, start=0.0)
    schedule.done(0.01)

    schedule.postpone(1.03)

    assert schedule.due == pytest.approx(1.1)


@pytest.mark.parametrize(("interval_s", "due"), [(0.1, 0.3), (0.0, 0.25)])
def test_a_postponed_poll_can_be_taken_up_again_sooner(interval_s, due):
    schedule = Schedule(interval_s, start=0.0)
    schedule.postpone(60.0)

    schedule.resume(0.25)

    assert schedule.due == pytest.approx(due)


@given(st.floats(0.001, 10), st.lists(st.floats(0, 30), max_size=30))
def test_whatever_polls_take_due_times_are_slots_and_every_slot_is_polled_or_counted(interval_s, durations):
    schedule, polls, overruns, now = Schedule(interval_s, start=100.0), 0, 0, 100.0

    for duration in durations:
        now = max(now, schedule.due) + duration
        before = schedule.due
        overruns += schedule.done(now)
        polls += 1
        assert schedule.due > before
        assert schedule.due <= max(now, before + interval_s) + 1e-6

    assert (schedule.due - 100.0) / interval_s == pytest.approx(polls + overruns)


@pytest.mark.parametrize("times", [1, 2])
def test_a_poll_that_is_hastened_comes_ahead_and_its_slot_stays(times):
    schedule = Schedule(10.0, start=0.0)
    schedule.done(0.1)

    for _ in range(times):
        schedule.hasten(3.0)

    assert schedule.due == 3.0
    assert schedule.done(3.1) == 0
    assert schedule.due == 10.0


def test_the_rate_is_that_of_the_last_seconds():
    rate = Rate(start=0.0)

    achieved = []
    for second in range(1, 13):
        rate.count += 10 if second <= 6 else 2
        achieved.append(rate.per_second(float(second)))

    assert achieved[4] == pytest.approx(10.0)
    assert achieved[11] == pytest.approx(2.0)


def test_a_poll_that_is_due_already_is_not_hastened():
    schedule = Schedule(10.0, start=100.0)
    schedule.hasten(104.0)

    assert schedule.due == 100.0
    assert schedule.done(104.5) == 0
    assert schedule.due == 110.0
