"""What became of a trigger's firings that made no run, told as events: at once, then once a second at most."""

import asyncio
from dataclasses import dataclass, field

from services.orchestrator.pipelines.showcase import PIPELINE_AGGREGATE
from services.orchestrator.triggers.outcomes import Outcomes
from services.runtime.event_log import EventLog
from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.throttle import EVERY_S

REFUSED = "trigger.refused"
"""It can never be run: a dead letter."""
MISSED = "trigger.missed"
"""Its time went by while nothing ran, and `missed: skip` leaves it out."""
NOT_REPEATED = "trigger.not_repeated"
"""Its run had begun when the orchestrator was killed or stopped, and may have acted on the plant."""
GAP = "trigger.gap"
"""Frames of the stream are missing; they are asked for."""
LOST = "trigger.lost"
"""Frames of the stream are gone for good."""
ENDLESS = "trigger.endless"
"""It follows from runs that its own runs have led to."""

MOST_NAMED = 100
"""Of those told at once."""
_MOST_KINDS = 20


@dataclass(slots=True)
class _Heap:
    count: int = 0
    named: list[str] = field(default_factory=list)


class TriggerNotice:
    """Of one trigger. trigger: it in words; kind: as metrics name it. close() tells what is left."""

    def __init__(
        self, *, scope: str, pipeline: str, trigger: str, kind: str, events: EventLog, metrics: Metrics, log: Log
    ) -> None:
        self._scope = scope
        self._pipeline = pipeline
        self._trigger = trigger
        self._events = events
        self._log = log.bind(pipeline=pipeline, trigger=trigger)
        expected = map(_outcome, (REFUSED, MISSED, NOT_REPEATED, GAP, LOST, ENDLESS))
        self._outcomes = Outcomes(scope, pipeline, kind, metrics=metrics, expected=expected)
        self._heaps: dict[tuple[str, str | None], _Heap] = {}
        self._timer: asyncio.TimerHandle | None = None

    def tell(self, type_: str, what: str, *, error: str | None = None, count: int = 1) -> None:
        """This has become of what fired. what: `epoch/number` of a frame (or `epoch/first-last`), else its time or id;
        count: of these."""
        self._outcomes.count(_outcome(type_), by=count)
        if len(self._heaps) >= _MOST_KINDS:
            error = None  # texts without end are not told one by one
        heap = self._heaps.setdefault((type_, error), _Heap())
        heap.count += count
        if len(heap.named) < MOST_NAMED:
            heap.named.append(what)
        if self._timer is None:
            self._flush()
            self._wait()

    async def close(self) -> None:
        """Tells nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._flush()

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(EVERY_S, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        if self._heaps:
            self._flush()
            self._wait()

    def _flush(self) -> None:
        heaps, self._heaps = self._heaps, {}
        for (type_, error), heap in heaps.items():
            data = {"trigger": self._trigger, "count": heap.count, "what": heap.named}
            if error is not None:
                data["error"] = error
            self._events.tell(type_, aggregate=PIPELINE_AGGREGATE, id=self._pipeline, scope=self._scope, data=data)
            self._log.warning(type_.replace(".", "_"), count=heap.count, what=heap.named[:3], error=error)


def _outcome(type_: str) -> str:
    """As the metric has it: without `trigger.`"""
    return type_.partition(".")[2]
