"""The machine's own clock."""

import time


class SystemClock:
    """The plugins.api.clock.Clock of a running service."""

    def now_us(self) -> int:
        """Microseconds since 1970 UTC; may step when the system's clock is set."""
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never steps back."""
        return time.monotonic()
