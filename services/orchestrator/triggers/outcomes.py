"""What became of one trigger's firings, counted."""

from collections.abc import Iterable

from services.runtime.metrics import Metrics


class Outcomes:
    """Of one trigger. kind: as the metric names it. expected: outcomes that are shown from the beginning.

    The series is looked up each time: one that was kept would count unseen once the pipeline was deleted and saved
    again with the same triggers.
    """

    def __init__(self, workspace: str, pipeline: str, kind: str, *, metrics: Metrics, expected: Iterable[str]) -> None:
        self._trigger = workspace, pipeline, kind
        self._firings = metrics.firings
        for outcome in expected:
            self.count(outcome, by=0)

    def count(self, outcome: str, *, by: int = 1) -> None:
        """So many firings have come to this."""
        self._firings.labels(*self._trigger, outcome).inc(by)
