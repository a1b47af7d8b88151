"""Whether the server's clock is right, whose times its values have. Pure."""

from datetime import datetime

OFF_S = 60.0
"""By so much a PLC's clock may be wrong without a word: few of them are set by NTP."""
_FIRST_YEAR = 1970
"""A clock that was never set begins here; an earlier time stands for none (OPC 10000-6, 5.2.2.5)."""


def clock_remark(told: object, now_us: int) -> str | None:
    """What is worth a remark; None if the clocks agree, or the server does not tell its time.

    told: its time as a tag shows it, ISO 8601 in UTC. now_us: ours when it was told, in microseconds since 1970 UTC.
    """
    try:
        time = datetime.fromisoformat(str(told))
    except ValueError:
        return None
    off_s = time.timestamp() - now_us / 1e6
    if time.year < _FIRST_YEAR or abs(off_s) <= OFF_S:
        return None
    side = "ahead of" if off_s > 0 else "behind"
    return (
        f"the server's clock is {_span(abs(off_s))} {side} ours, and so are the times of its values: set the one that "
        "is wrong; a whole number of hours is a time zone that was taken for UTC"
    )


def _span(seconds: float) -> str:
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86_400:.0f} days"
