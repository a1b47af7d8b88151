"""Identifiers that sort by the time at which they were made: UUID version 7 (RFC 9562, 5.7)."""

from random import Random
from uuid import UUID

_VERSION = 7 << 76
_VARIANT = 0b10 << 62


def uuid7(now_us: int, random: Random) -> UUID:
    """An identifier made at this time, microseconds since 1970 UTC.

    The 12 bits after the version are the fraction of the millisecond (RFC 9562, 6.2, method 3), the last 62 are random.
    """
    milliseconds, microseconds = divmod(now_us, 1000)
    fraction = (microseconds << 12) // 1000
    return UUID(int=(milliseconds << 80) | _VERSION | (fraction << 64) | _VARIANT | random.getrandbits(62))
