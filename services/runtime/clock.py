"""The machine's own clock."""

import time
from collections.abc import Callable


class SystemClock:
    """The plugins.api.clock.Clock of a running service. time_ns: nanoseconds since 1970 UTC, before it negative."""

    def __init__(self, time_ns: Callable[[], int] = time.time_ns) -> None:
        self._time_ns = time_ns

    def now_us(self) -> int:
        """Microseconds since 1970 UTC; may step when the system's clock is set.

        No message has a time before 1970: a machine's clock that says one counts as if it had begun in 1970 with the
        steady one, at which pace it goes on, until it is set (values are bad until then, see clock_watch).
        """
        wall_us = self._time_ns() // 1000
        return wall_us if wall_us >= 0 else int(self.monotonic() * 1e6)

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never steps back."""
        return time.monotonic()
