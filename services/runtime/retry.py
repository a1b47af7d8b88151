"""How long to wait before trying again."""

from random import Random


class Backoff:
    """Waits that grow by a factor up to a bound, each shortened by chance so that many clients do not return at once.

    first_s, most_s: first and longest wait in seconds. silent_s: the longest for what does not even answer; None: as
    for all else. jitter: the share (0..1) by which a wait may be shorter.
    """

    def __init__(
        self,
        *,
        first_s: float = 1.0,
        most_s: float = 60.0,
        silent_s: float | None = None,
        factor: float = 2.0,
        jitter: float = 0.2,
        random: Random,
    ) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._silent_s = most_s if silent_s is None else min(silent_s, most_s)
        self._factor = factor
        self._jitter = jitter
        self._random = random
        self._wait_s = first_s

    def next(self, *, silent: bool = False) -> float:
        """Seconds to wait now. silent: there was no answer; such waits let those after a refusal grow no longer."""
        most_s = self._silent_s if silent else self._most_s
        wait_s = min(self._wait_s, most_s)
        self._wait_s = max(self._wait_s, min(wait_s * self._factor, most_s))
        return wait_s * self._random.uniform(1 - self._jitter, 1)

    def reset(self) -> None:
        """It worked: the next wait is the first again."""
        self._wait_s = self._first_s
