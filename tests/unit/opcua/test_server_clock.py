"""A server whose clock is wrong is told so, with by how much."""

from datetime import UTC, datetime, timedelta

import pytest

from plugins.drivers.opcua.server_clock import clock_remark

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
NOW_US = int(NOW.timestamp()) * 10**6


@pytest.mark.parametrize(
    ("off", "told"),
    [
        (timedelta(hours=2), "the server's clock is 2.0 h ahead of ours"),
        (-timedelta(minutes=90), "the server's clock is 90 min behind ours"),
        (-timedelta(days=3650), "the server's clock is 3650 days behind ours"),
    ],
)
def test_a_clock_that_is_off_is_told_with_by_how_much(off: timedelta, told: str) -> None:
    remark = clock_remark((NOW + off).isoformat().replace("+00:00", "Z"), NOW_US)

    assert remark is not None
    assert remark.startswith(told)


@pytest.mark.parametrize(
    "told", ["2026-06-01T12:00:59Z", "2026-06-01T11:59:01.500000Z", "1601-01-01T00:00:00Z", None, 17]
)
def test_a_clock_that_agrees_or_is_not_told_is_no_news(told: object) -> None:
    assert clock_remark(told, NOW_US) is None
