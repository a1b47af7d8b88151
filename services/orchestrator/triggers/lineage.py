"""Which runs have led to which by their events, so that pipelines that start one another are stopped. Pure."""

from collections import OrderedDict

from contracts.v1.event import Event
from services.orchestrator.engine.chronicle import RUN_AGGREGATE

MOST_LINKS = 5
"""So long may a run, started for the event of a run, started for the event of a run, ... go on."""
MOST_RUNS = 10_000
_FIRST = frozenset({"run.queued", "run.started"})


class Lineage:
    """Learns from the events of runs, all of them and in order."""

    def __init__(self) -> None:
        self._links: OrderedDict[str, int] = OrderedDict()

    def links(self, event: Event) -> int:
        """How many events of runs have led to the run that this is an event of; 0 for what is none of a run."""
        if event.aggregate != RUN_AGGREGATE:
            return 0
        if event.type in _FIRST and event.aggregate_id not in self._links:
            links = self._inherited(event.data.get("trigger"))
            if links:
                self._links[event.aggregate_id] = links
                if len(self._links) > MOST_RUNS:
                    self._links.popitem(last=False)
        return self._links.get(event.aggregate_id, 0)

    def _inherited(self, trigger: object) -> int:
        if not isinstance(trigger, dict):
            return 0
        kind, by = trigger.get("kind"), str(trigger.get("by"))
        if kind == "event" and by.startswith(f"{RUN_AGGREGATE}/"):
            return self._links.get(by.partition("/")[2].partition(" ")[0], 0) + 1
        return self._links.get(by, 0) if kind == "pipeline" else 0  # a node of another run
