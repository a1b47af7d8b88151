"""Due times: of the grid and of the zone's clock, never of the run before."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from services.orchestrator.definition.schedule import LATE_US, Cron, Interval, ScheduleError, Timetable

S = 1_000_000
BERLIN = ZoneInfo("Europe/Berlin")
instants = st.integers(0, 4_000_000_000 * S)


def us(moment: datetime) -> int:
    return round(moment.timestamp()) * S


def berlin(*parts: int, fold: int = 0) -> int:
    return us(datetime(*parts, tzinfo=BERLIN, fold=fold))


def dues(cron: Cron, begin: int, end: int) -> list[int]:
    found = []
    at: int | None = begin
    while (at := cron.after(at)) is not None and at <= end:
        found.append(at)
    return found


@given(st.integers(1000, 10**12), instants)
def test_an_interval_is_due_on_the_grid_since_1970_whatever_came_before(every, t):
    schedule = Interval(every)

    due = schedule.after(t)

    assert due % every == 0
    assert t < due <= t + every
    assert schedule.last(t, due) == due
    assert schedule.last(t, due - 1) is None


def test_five_minutes_are_due_at_the_full_five_minutes():
    assert Interval.of(300).after(us(datetime(2026, 3, 1, 12, 3, 20, tzinfo=UTC))) == us(
        datetime(2026, 3, 1, 12, 5, tzinfo=UTC)
    )


@given(
    st.sampled_from(["*/5 * * * *", "30 2 * * *", "0 0 1 * *", "15 8-16/2 * * MON-FRI", "* * * * *", "30 1,2,3 * * *"]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "America/Sao_Paulo"]),
    st.integers(1_500_000_000, 2_200_000_000),
)
def test_cron_never_goes_back_and_never_stands(expression, zone, second):
    cron = Cron.of(expression, zone)

    first = cron.after(second * S)
    again = cron.after(first)

    assert second * S < first < again
    assert cron.after(first - 1) == first
    assert cron.last(second * S, again) == again
    assert cron.last(second * S, again - 1) == first


@given(st.integers(0, 23), st.integers(0, 59), st.integers(0, 364 * 4))
def test_a_daily_time_is_due_once_on_every_day_of_the_year(hour, minute, day):
    """Though in spring there is a day without it, and in autumn one that has it twice."""
    cron = Cron.of(f"{minute} {hour} * * *", "Europe/Berlin")
    date = datetime(2025, 1, 1, tzinfo=BERLIN) + timedelta(days=day)
    following = date + timedelta(days=1)

    found = dues(cron, us(date) - 1, us(following) - 1)

    assert len(found) == 1


@given(st.integers(1_700_000_000, 1_900_000_000))
def test_every_minute_is_every_minute_through_changes_of_the_clock(second):
    cron = Cron.of("* * * * *", "Europe/Berlin")

    assert cron.after(second * S) == Interval.of(60).after(second * S)


def test_what_falls_into_the_hour_that_spring_leaves_out_is_due_at_its_end():
    cron = Cron.of("30 2 * * *", "Europe/Berlin")

    assert cron.after(berlin(2026, 3, 29, 1, 0)) == berlin(2026, 3, 29, 3, 0)
    assert cron.after(berlin(2026, 3, 29, 3, 0)) == berlin(2026, 3, 30, 2, 30)


def test_two_times_in_the_hour_that_spring_leaves_out_are_due_together_once():
    cron = Cron.of("10,50 2 * * *", "Europe/Berlin")

    assert dues(cron, berlin(2026, 3, 29, 0, 0), berlin(2026, 3, 29, 23, 0)) == [berlin(2026, 3, 29, 3, 0)]


def test_of_the_hour_that_autumn_has_twice_the_first_counts():
    cron = Cron.of("30 2 * * *", "Europe/Berlin")

    found = dues(cron, berlin(2026, 10, 25, 0, 0), berlin(2026, 10, 25, 23, 0))

    assert found == [berlin(2026, 10, 25, 2, 30, fold=0)]


def test_in_the_second_of_the_two_hours_of_autumn_the_next_one_is_tomorrow():
    cron = Cron.of("30 2 * * *", "Europe/Berlin")

    assert cron.after(berlin(2026, 10, 25, 2, 10, fold=1)) == berlin(2026, 10, 26, 2, 30)


def test_a_time_in_another_zone_is_that_of_its_clock():
    cron = Cron.of("0 6 * * *", "Europe/Berlin")

    assert cron.after(us(datetime(2026, 7, 1, 0, 0, tzinfo=UTC))) == us(datetime(2026, 7, 1, 4, 0, tzinfo=UTC))
    assert cron.after(us(datetime(2026, 1, 1, 0, 0, tzinfo=UTC))) == us(datetime(2026, 1, 1, 5, 0, tzinfo=UTC))


@pytest.mark.parametrize(
    ("expression", "zone", "said"),
    [
        ("* * * *", "UTC", "write five fields"),
        ("0 * * * * *", "UTC", "write five fields"),
        ("99 * * * *", "UTC", "Bad minute"),
        ("0 0 31 2 *", "UTC", "Bad day-of-month"),
        ("0 0 * * 1#9", "UTC", "Bad day-of-week"),
        ("* * */20 * 1L", "UTC", "never due"),
        ("* * * * *", "Europe/Nowhere", "no time zone"),
        ("* * * * *", "../etc/passwd", "no time zone"),
        ("* * * * *", "", "no time zone"),
    ],
)
def test_what_is_no_schedule_is_refused_with_what_would_be_one(expression, zone, said):
    with pytest.raises(ScheduleError, match=said) as refused:
        Cron.of(expression, zone)

    assert ";" in str(refused.value)


@given(
    st.lists(st.integers(1, 3 * LATE_US), max_size=60), st.integers(20_000, 10**7), st.sampled_from(["skip", "once"])
)
def test_however_late_the_looks_come_no_due_time_is_given_twice_and_none_on_time_is_left_out(steps, every, missed):
    table: Timetable[str] = Timetable()
    now = 10**15
    table.add("a", Interval(every), missed=missed, last_us=now)
    given_: list[int] = []

    for step in steps:
        before, now = now, now + step
        for due in table.take(now):
            assert before < due.due_us <= now or due.late
            assert due.skipped == (due.late and missed == "skip")
            given_.append(due.due_us)
        newest = now // every * every
        if newest > before and now - newest <= LATE_US:
            assert given_[-1] == newest
        assert table.next_us == now // every * every + every

    assert given_ == sorted(set(given_))


@given(st.sampled_from([0, LATE_US + 1, 90_000 * S, 400 * 86_400 * S + 7 * S]))
def test_after_a_time_away_once_runs_for_the_last_missed_time_and_skip_does_not(away):
    cron = Cron.of("0 6 * * *", "Europe/Berlin")
    stopped = berlin(2026, 5, 1, 12, 0)
    back = berlin(2026, 5, 2, 6, 0) + away
    skipping: Timetable[str] = Timetable()
    skipping.add("a", cron, missed="skip", last_us=stopped)
    catching: Timetable[str] = Timetable()
    catching.add("a", cron, missed="once", last_us=stopped)

    found = catching.take(back)

    assert [(due.due_us, due.late) for due in found] == [(cron.last(stopped, back), away > LATE_US)]
    assert back - found[0].due_us < 25 * 3600 * S
    assert [(due.due_us, due.skipped) for due in skipping.take(back)] == [(found[0].due_us, away > LATE_US)]
    assert catching.take(back) == []


@given(st.integers(1, 20), st.integers(-(10**4), 10**4))
def test_a_clock_that_is_set_back_a_little_repeats_nothing(seconds, jitter):
    table: Timetable[str] = Timetable()
    table.add("a", Interval(60 * S), missed="skip", last_us=600 * S - 1)
    assert table.take(600 * S)

    assert table.take(600 * S - seconds * S) == []
    assert table.take(600 * S + abs(jitter)) == []
    assert [due.due_us for due in table.take(660 * S)] == [660 * S]


def test_a_clock_that_is_set_back_for_good_does_not_stop_an_interval():
    table: Timetable[str] = Timetable()
    table.add("a", Interval(S), missed="skip", last_us=100_000 * S)
    assert table.take(5_000 * S) == []

    assert [due.due_us for due in table.take(5_001 * S)] == [5_001 * S]


@pytest.mark.parametrize("expression", ["*/5 * * * *", "0 * * * *", "*/5 8-16 * * *"])
def test_cron_that_follows_the_hours_goes_on_at_once_when_the_clock_is_set_back_by_an_hour(expression):
    table: Timetable[str] = Timetable()
    noon = us(datetime(2026, 1, 1, 12, 0, tzinfo=UTC))
    table.add("a", Cron.of(expression), missed="skip", last_us=noon - 1)
    assert table.take(noon)
    back = noon - 3600 * S + 10 * S  # ten seconds past eleven

    found = [due.due_us for at in range(0, 3600, 10) for due in table.take(back + at * S)]

    every = 3600 if expression.startswith("0") else 300
    assert found == [noon - 3600 * S + n * every * S for n in range(1, 3600 // every + 1)]


def test_cron_that_follows_the_hours_repeats_nothing_when_the_clock_is_corrected_by_a_second():
    table: Timetable[str] = Timetable()
    noon = us(datetime(2026, 1, 1, 12, 0, tzinfo=UTC))
    table.add("a", Cron.of("*/5 * * * *"), missed="skip", last_us=noon - 1)
    assert table.take(noon)

    assert table.take(noon - S) == table.take(noon) == []


def test_cron_of_a_fixed_time_does_not_run_again_when_the_clock_is_set_back_by_an_hour():
    cron = Cron.of("0 12 * * *")
    table: Timetable[str] = Timetable()
    table.add("a", cron, missed="skip", last_us=us(datetime(2026, 1, 1, 11, 59, tzinfo=UTC)))
    noon = us(datetime(2026, 1, 1, 12, 0, tzinfo=UTC))
    assert table.take(noon)

    assert table.take(noon - 3600 * S) == []
    assert table.take(noon) == []
    assert [due.due_us for due in table.take(noon + 86_400 * S)] == [noon + 86_400 * S]


def test_what_was_removed_is_not_due():
    table: Timetable[str] = Timetable()
    table.add("a", Interval(S), missed="skip", last_us=0)
    table.add("b", Interval(2 * S), missed="skip", last_us=0)
    table.remove("a")

    assert [due.key for due in table.take(2 * S)] == ["b"]
    table.remove("b")
    assert table.next_us is None


@given(instants, st.integers(1, 10**9))
def test_the_earliest_is_given_first(now, spread):
    assume(now > 10 * S)
    table: Timetable[str] = Timetable()
    table.add("slow", Interval(S), missed="once", last_us=now - S - spread)
    table.add("quick", Interval(1000), missed="once", last_us=now - 2000)

    times = [due.due_us for due in table.take(now)]

    assert times == sorted(times)
