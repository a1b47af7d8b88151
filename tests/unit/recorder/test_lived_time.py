"""Age by the time that a recorder has lived through: a clock that leaps makes nothing older, and goes on as before."""

from hypothesis import given
from hypothesis import strategies as st

from services.recorder import lived_time
from services.recorder.lived_time import Notes

HOUR = 3_600_000_000
DAY = 24 * HOUR
YEAR = 365 * DAY
NOW = 56 * YEAR


def lived(notes: Notes, hours: int) -> Notes:
    """So many hours go by, each noted."""
    for _ in range(hours):
        notes = notes.noted(notes.last + HOUR)
    return notes


def test_without_a_leap_age_is_that_of_the_clock():
    notes = lived(Notes(NOW), 50)

    assert notes.leaps == ()
    assert notes.ago(notes.last, 10 * DAY) == notes.last - 10 * DAY


def test_a_clock_that_is_wrong_by_years_makes_nothing_older_and_what_came_before_goes_in_its_time():
    before = lived(Notes(NOW), 24)
    notes = before.noted(before.last + 5 * YEAR)

    assert notes.ago(notes.last, 10 * DAY) == before.last - 10 * DAY
    notes = lived(notes, 9 * 24)
    assert notes.ago(notes.last, 10 * DAY) == before.last - DAY
    notes = lived(notes, 2 * 24)  # what came since the leap is what goes from now on
    assert notes.ago(notes.last, 10 * DAY) == notes.last - 10 * DAY


def test_a_clock_set_right_again_leaves_age_as_if_it_had_never_been_wrong():
    begun = Notes(NOW).noted(NOW + 5 * YEAR)
    notes = lived(begun, 30)
    notes = notes.noted(notes.last - 5 * YEAR)
    for _ in range(40):
        assert notes.ago(notes.last, 10 * DAY) == notes.last - 10 * DAY
        notes = lived(notes, 24)


@given(st.lists(st.integers(-3 * YEAR, 3 * YEAR) | st.just(HOUR), max_size=30), st.integers(HOUR, 2 * YEAR))
def test_however_the_clock_was_set_no_age_is_greater_than_by_the_clock(steps, span):
    notes = Notes(NOW)
    for step in steps:
        notes = notes.noted(notes.last + step)

    assert notes.ago(notes.last, span) <= notes.last - span


def test_of_very_many_leaps_the_oldest_are_taken_together_and_nothing_becomes_older(monkeypatch):
    monkeypatch.setattr(lived_time, "MOST_LEAPS", 3)
    notes = Notes(NOW)
    for _ in range(10):
        notes = lived(notes.noted(notes.last + YEAR), 1)

    assert len(notes.leaps) == 3
    assert notes.ago(notes.last, DAY) == NOW + 10 * HOUR - DAY
