"""What is counted of one device."""

from plugins.api.driver import Reading
from services.runtime.metrics import Metrics


class Tally:
    """The metrics of one device."""

    def __init__(self, device: str, metrics: Metrics) -> None:
        self._device = device
        self._errors = metrics.actor_errors
        self._good = metrics.polls.labels(device, "good")
        self._partial = metrics.polls.labels(device, "partial")
        self._failed = metrics.polls.labels(device, "failed")
        self._seconds = metrics.poll_seconds.labels(device)
        self._overruns = metrics.overruns.labels(device)

    def polled(self, reading: Reading | None, *, seconds: float, overruns: int) -> None:
        """A poll has ended; reading is None if it failed. overruns: slots that it cost."""
        outcome = self._failed if reading is None else self._partial if reading.quality else self._good
        outcome.inc()
        self._seconds.observe(seconds)
        if overruns:
            self._overruns.inc(overruns)

    def failed(self, cause: str) -> None:
        """The device or its driver failed."""
        self._errors.labels(self._device, cause).inc()
