"""Times as people type them, however far away."""

import pytest
import typer

from contracts.v1.audit import AuditStreams
from contracts.v1.event_store import AuditEvents
from contracts.v1.message import LAST_SAFE_INTEGER
from services.cli.when import is_ago, micros, time_text


@pytest.mark.parametrize(
    ("typed", "means"), [("1960-01-01", 0), ("9999-12-31 23:59:59+00:00", LAST_SAFE_INTEGER), ("100000000h", 0)]
)
def test_a_time_beyond_what_a_topic_tells_is_the_first_or_the_last_moment(typed: str, means: int) -> None:
    assert micros(typed) == means
    assert AuditStreams(since=means, until=means).until == means
    assert AuditEvents(since=means).since == means
    assert time_text(means)


def test_a_zone_that_is_named_counts() -> None:
    assert micros("2026-11-22 10:00+02:00") == micros("2026-11-22 08:00Z") == 1795334400000000


@pytest.mark.parametrize("typed", ["", " ", "nan", "inf", "-1h", "1e400h", "9" * 400 + "h", "soon", "2026-13-01", "\0"])
def test_what_is_no_time_ends_the_program_and_says_what_is_one(typed: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        micros(typed)
    assert "write 30m or 2h for so long ago" in capsys.readouterr().err
    assert not is_ago(typed)
