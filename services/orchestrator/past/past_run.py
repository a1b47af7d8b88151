"""A run that is over as its recorded events tell it. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from contracts.v1.command import Failure
from contracts.v1.event import Event
from contracts.v1.run import NodeState, NodeStatus, RunState, RunStatus, RunTrigger
from services.orchestrator.run.run_state import length, millis, short_values

_ENDS = {
    "run.completed": RunStatus.DONE,
    "run.failed": RunStatus.FAILED,
    "run.cancelled": RunStatus.CANCELLED,
}
_NODE_ENDS = {
    "node.completed": NodeStatus.DONE,
    "node.failed": NodeStatus.FAILED,
    "node.skipped": NodeStatus.SKIPPED,
}


def is_over(event: Event) -> bool:
    """Whether a run is over with this event."""
    return event.type in _ENDS


def state_of(events: Sequence[Event]) -> RunState:
    """How the run ended. events: all of it, the last one ends it; the first says what ran.

    Raises KeyError, ValueError of events of another release.
    """
    first, last = events[0], events[-1]
    about, end = _data(first), _data(last)
    started = next((event for event in events if event.type == "run.started"), None)
    trigger = RunTrigger.model_validate(about["trigger"])
    return RunState(
        run=first.aggregate_id,
        pipeline=about["pipeline"],
        scope=first.scope,
        version=about["version"],
        state=_ENDS[last.type],
        since=last.t // 1000,
        started=millis(started.t if started else None),
        ended=millis(last.t),
        trigger=trigger,
        user=first.user,
        nodes=_node_states(events),
        outputs=short_values(end.get("outputs")),
        error=_failure(end),
        shadow=trigger.kind == "shadow" or None,
        rev=len(events),
    )


def _node_states(events: Sequence[Event]) -> dict[str, NodeState]:
    """Of the pipeline's own nodes, as they ended. What is in a loop has a path with the loop's turn."""
    begun: dict[str, int] = {}
    tries: dict[str, int] = {}
    states: dict[str, NodeState] = {}
    for event in events:
        name = _data(event).get("node", "[")
        if "[" in name:
            continue
        if event.type == "node.executing":
            begun[name], tries[name] = event.t, 1
        elif event.type == "node.retried":
            tries[name] = tries.get(name, 0) + 1
        elif event.type in _NODE_ENDS:
            states[name] = _node_state(event, begun.get(name), tries.get(name, 0))
    return states


def _node_state(event: Event, begun: int | None, tries: int) -> NodeState:
    data = _data(event)
    outputs = data.get("outputs")
    shown = short_values(outputs)
    return NodeState(
        state=_NODE_ENDS[event.type],
        started=millis(begun),
        ended=millis(event.t),
        tries=tries,
        output=shown,
        size=length(outputs) if outputs is not None and shown is None else None,
        error=_failure(data),
    )


def _data(event: Event) -> Mapping[str, Any]:
    """Of one of our own events, whose fields are known."""
    return event.data


def _failure(data: Mapping[str, Any]) -> Failure | None:
    error = data.get("error")
    return None if error is None else Failure.model_validate(error, strict=False)
