"""The circuit between a service and something that may fail: it decides how often to try. Pure."""

from contracts.v1.device import Circuit
from services.runtime.retry import Backoff


class Breaker:
    """Opens after `threshold` failures in a row; then lets one probe through per wait, and closes when one succeeds.

    A wait counts from the begin of the probe, and is as the last failure asks for: silence or refusal. Times are the
    caller's monotonic seconds.
    """

    def __init__(self, *, threshold: int = 5, backoff: Backoff) -> None:
        self.state = Circuit.CLOSED
        self.failures = 0
        self.retry_at = 0.0
        self._threshold = threshold
        self._backoff = backoff
        self._silent = False

    def may_try(self, now: float) -> bool:
        """Whether to try now. While the circuit is not closed, a True is the permission for one probe.

        A probe that tells neither success nor failure (it was cancelled) does not hold the circuit for ever: after
        another wait the next one is let through.
        """
        if self.state is Circuit.CLOSED:
            return True
        if now < self.retry_at:
            return False
        self.state = Circuit.HALF_OPEN
        self.retry_at = now + self._backoff.next(silent=self._silent)
        return True

    def on_success(self) -> None:
        """It worked."""
        self.state = Circuit.CLOSED
        self.failures = 0
        self._backoff.reset()

    def on_failure(self, now: float, *, silent: bool = False) -> None:
        """It failed: at the threshold, or as a probe, this opens the circuit. A late failure while open only counts.

        silent: there was no answer at all.
        """
        self.failures += 1
        if self.state is Circuit.OPEN or self.failures < self._threshold:
            return
        if self.state is Circuit.CLOSED or silent is not self._silent:
            self._silent = silent
            self.retry_at = now + self._backoff.next(silent=silent)
        self.state = Circuit.OPEN
