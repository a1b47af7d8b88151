"""How a run and its nodes stand, as it is shown. Pure."""

import json

from pydantic import JsonValue

from contracts.v1.run import MAX_OUTPUT_BYTES, NodeState
from services.orchestrator.passage import Mark, Passage
from services.orchestrator.plan import Values

_MOST_SCALARS = 20
"""So many numbers are short enough with their names, whatever they are."""


def node_states(passage: Passage) -> dict[str, NodeState]:
    """How the nodes of a graph stand."""
    return {step.name: _node_state(mark) for step, mark in zip(passage.graph.steps, passage.marks, strict=True)}


def _node_state(mark: Mark) -> NodeState:
    outputs = short_values(mark.outputs)
    return NodeState(
        state=mark.status,
        started=millis(mark.started_us),
        ended=millis(mark.ended_us),
        tries=mark.tries,
        output=outputs,
        size=length(mark.outputs) if mark.outputs is not None and outputs is None else None,
        error=mark.error,
    )


def millis(micros: int | None) -> int | None:
    """Milliseconds since 1970 UTC out of microseconds."""
    return None if micros is None else micros // 1000


def short_values(values: Values | None) -> dict[str, JsonValue] | None:
    """The values, if they are short enough to be shown."""
    if values is None:
        return None
    plain = dict(values)
    if all(isinstance(value, bool | int | float | None) for value in plain.values()) and len(plain) < _MOST_SCALARS:
        return plain
    return plain if length(plain) <= MAX_OUTPUT_BYTES else None


def length(values: Values) -> int:
    """Bytes of the values as JSON."""
    return len(json.dumps(values, separators=(",", ":")).encode())
