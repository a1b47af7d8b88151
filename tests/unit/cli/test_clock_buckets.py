"""Buckets by the clock of this machine's zone, on days on which it is put forward or back."""

from datetime import datetime

import pytest

from services.cli.clock_buckets import begun, stretches
from services.cli.when import micros, names_zone

HOUR = 3_600_000_000
DAY = 24 * HOUR

pytestmark = pytest.mark.usefixtures("middle_europe")


def at(text: str) -> int:
    found = micros(text)
    assert found is not None
    return found


def starts(since: str, until: str, every: int) -> list[str]:
    """Where the buckets begin, as the clock shows it."""
    found = stretches(at(since), at(until), every)
    assert [one.since for one in found[1:]] == [one.until for one in found[:-1]]
    assert (found[0].since, found[-1].until) == (at(since), at(until))
    return [
        datetime.fromtimestamp(t / 1e6).strftime("%d %H:%M")  # noqa: DTZ006 - the clock here
        for one in found
        for t in range(one.since, one.until, one.every)
    ]


def test_a_day_is_from_midnight_to_midnight_also_if_it_has_23_or_25_hours() -> None:
    spring = stretches(at("2026-03-27"), at("2026-03-31 12:00"), DAY)
    autumn = stretches(at("2026-10-24"), at("2026-10-27"), DAY)

    assert [(one.until - one.since, one.every) for one in spring] == [
        (2 * DAY, DAY),
        (23 * HOUR, 23 * HOUR),
        (DAY + 12 * HOUR, DAY),
    ]
    assert [one.every for one in autumn] == [DAY, 25 * HOUR, DAY]
    assert starts("2026-03-27", "2026-03-31 12:00", DAY) == [f"{day} 00:00" for day in range(27, 32)]
    assert starts("2026-10-24", "2026-10-27", DAY) == ["24 00:00", "25 00:00", "26 00:00"]


def test_a_shift_begins_at_its_hour_before_and_after_the_clock_was_changed() -> None:
    assert starts("2026-10-24 06:00", "2026-10-26 06:00", 8 * HOUR) == [
        f"{day} {hour}" for day, hour in ((24, "06:00"), (24, "14:00"), (24, "22:00"), (25, "06:00"))
    ] + ["25 14:00", "25 22:00"]


def test_hours_and_less_and_days_without_a_change_are_all_alike() -> None:
    for since, until, every in (
        ("2026-10-24", "2026-10-27", HOUR),
        ("2026-10-24", "2026-10-27", 60_000_000),
        ("2026-06-01", "2026-07-01", DAY),
        ("2026-06-01", "2026-06-02", 1000 * DAY),
        ("1970-01-01 02:00", "2255-01-01", 200 * 365 * DAY),
    ):
        assert len(stretches(at(since), at(until), every)) <= (1 if every != 200 * 365 * DAY else 2)


def test_so_long_ago_begins_with_the_day_that_it_was_here() -> None:
    assert begun(at("2026-10-25 18:00"), DAY) == at("2026-10-25")
    assert begun(at("2026-03-29 18:00"), DAY) == at("2026-03-29")
    assert begun(at("2026-03-29 18:00"), 8 * HOUR) == at("2026-03-29 16:00")
    assert begun(at("2026-11-22 18:00:07"), 15 * 60_000_000) == at("2026-11-22 18:00")


def test_a_time_that_names_its_zone_is_told_from_one_of_the_clock_here() -> None:
    assert names_zone("2026-10-24T00:00Z")
    assert names_zone("2026-10-24 00:00+02:00")
    assert not any(map(names_zone, ("2026-10-24", "7d", "soon")))
