"""Time as a dependency: whoever needs it is given a Clock."""

from typing import Protocol


class Clock(Protocol):
    """Wall time for stamps, monotonic time for waits."""

    def now_us(self) -> int:
        """Microseconds since 1970 UTC; may step when the system's clock is set."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never steps back."""
        ...
