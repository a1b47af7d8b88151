"""A metric with labels that carry names from outside, and nevertheless has a bounded number of series."""

from collections import Counter as Tally
from collections.abc import Sequence
from threading import Lock
from typing import Generic, TypeVar

from prometheus_client import Counter, Gauge, Histogram

MOST_NAMES = 500
"""Devices, pipelines, tasks, reasons that one metric tells apart."""
OTHER = "other"
"""The name that those beyond share."""
_CLOSED = frozenset({"class", "direction", "kind", "outcome", "part", "service", "status", "store", "version"})
"""Labels to which this code alone gives values."""

M = TypeVar("M", Counter, Gauge, Histogram)


class Family(Generic[M]):
    """The series of one metric, of which the first MOST_NAMES names have their own and all further ones share OTHER.

    A name is what the labels that are not closed say together, such as workspace and pipeline. One that is forgotten
    makes room for another. From any thread. metric: the whole of it; who counts asks labels() for a series.
    """

    def __init__(self, metric: M, label_names: Sequence[str]) -> None:
        self.metric: M = metric
        self.label_names = tuple(label_names)
        self._open = [at for at, label in enumerate(label_names) if label not in _CLOSED]
        self._known: set[tuple[str, ...]] = set()
        self._names: Tally[tuple[str, ...]] = Tally()
        self._lock = Lock()

    def labels(self, *values: str) -> M:
        """The series of these values, one for each label. On a hot path keep it: to look it up costs more than inc().

        What is kept of a name that is forgotten counts on unseen.
        """
        with self._lock:
            series: M = self.metric.labels(*(values if values in self._known else self._admit(values)))
        return series

    def forget(self, **labels: str) -> None:
        """Series with these values are shown no more."""
        wanted = {self.label_names.index(label): value for label, value in labels.items()}
        with self._lock:
            gone = {values for values in self._known if all(values[at] == value for at, value in wanted.items())}
            self._known -= gone
            self._names -= Tally(map(self._name_in, gone))
            self.metric.remove_by_labels(labels)

    def _admit(self, values: tuple[str, ...]) -> tuple[str, ...]:
        if self._name_in(values) not in self._names and len(self._names) >= MOST_NAMES:
            values = tuple(OTHER if at in self._open else value for at, value in enumerate(values))
        if values not in self._known:
            self._known.add(values)
            self._names[self._name_in(values)] += 1
        return values

    def _name_in(self, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(values[at] for at in self._open)
