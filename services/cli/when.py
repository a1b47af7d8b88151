"""Times as people write and read them: so long ago, or of the calendar here."""

import time
from contextlib import suppress
from datetime import UTC, datetime

from contracts.v1.message import LAST_SAFE_INTEGER
from plugins.api.duration import parse_duration
from services.cli.options import fail


def now_us() -> int:
    """Microseconds since 1970 UTC."""
    return time.time_ns() // 1000


def is_ago(text: str) -> bool:
    """Whether it says how long ago, such as 2h."""
    with suppress(ValueError):
        parse_duration(text)
        return True
    return False


def names_zone(text: str) -> bool:
    """Whether it is a time of the calendar with its zone, such as 2026-11-21 14:30Z."""
    with suppress(ValueError):
        return datetime.fromisoformat(text).tzinfo is not None
    return False


def micros(text: str | None) -> int | None:
    """Microseconds since 1970 UTC; before that, or beyond what a topic can tell, the first or the last moment there is.

    Ends the program if it is no time.
    """
    if text is None:
        return None
    with suppress(ValueError):
        return max(0, now_us() - round(parse_duration(text) * 1e6))
    try:
        found = round(datetime.fromisoformat(text).timestamp() * 1e6)
    except (ValueError, OverflowError):
        fail(f"{text}: not a time; write 30m or 2h for so long ago, or 2026-11-21 14:30")
    return min(max(found, 0), LAST_SAFE_INTEGER)


def stretch(since: str | None, until: str | None) -> tuple[int | None, int | None]:
    """Both in microseconds since 1970 UTC. Ends the program if there is no time between them."""
    first, end = micros(since), micros(until)
    if first is not None and end is not None and first >= end:
        fail("--since is not before --until")
    return first, end


def time_text(t_us: int) -> str:
    """The time here, to the millisecond."""
    return here(t_us).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def here(t_us: int) -> datetime:
    """The time in this machine's zone."""
    return datetime.fromtimestamp(t_us / 1e6, tz=UTC).astimezone()
