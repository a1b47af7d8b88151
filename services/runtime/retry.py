"""How long to wait before trying again."""

from random import Random


class Backoff:
    """Waits that grow by a factor up to a bound, each shortened by chance so that many clients do not return at once.

    first_s, most_s: first and longest wait in seconds. jitter: the share (0..1) by which a wait may be shorter.
    """

    def __init__(
        self, *, first_s: float = 1.0, most_s: float = 60.0, factor: float = 2.0, jitter: float = 0.2, random: Random
    ) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._factor = factor
        self._jitter = jitter
        self._random = random
        self._wait_s = first_s

    def next(self) -> float:
        """Seconds to wait now."""
        wait_s = self._wait_s
        self._wait_s = min(self._wait_s * self._factor, self._most_s)
        return wait_s * self._random.uniform(1 - self._jitter, 1)

    def reset(self) -> None:
        """It worked: the next wait is the first again."""
        self._wait_s = self._first_s
