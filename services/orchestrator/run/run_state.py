"""How a run and its nodes stand, as it is shown. Pure."""

import json

from pydantic import JsonValue

from contracts.v1.run import MAX_OUTPUT_BYTES, NodeState
from services.orchestrator.run.failures import shortened
from services.orchestrator.run.passage import Mark, Passage
from services.orchestrator.run.plan import Values

_SCALAR_BYTES = 100
"""A number takes no more with its name, whatever it is."""
_MOST_BYTES = 384 << 10
"""Of all outputs that are shown of a run's nodes; as much again may their errors be."""


def _is_short(value: JsonValue) -> bool:
    return value is None or type(value) in {float, bool} or (type(value) is int and value.bit_length() <= 64)


def node_states(passage: Passage) -> dict[str, NodeState]:
    """How the nodes of a graph stand. Of many nodes less is shown of each, so that one message holds them all."""
    steps = passage.graph.steps
    most = min(MAX_OUTPUT_BYTES, _MOST_BYTES // len(steps))
    return {step.name: _node_state(mark, most) for step, mark in zip(steps, passage.marks, strict=True)}


def _node_state(mark: Mark, most: int) -> NodeState:
    outputs = short_values(mark.outputs, most)
    return NodeState(
        state=mark.status,
        started=millis(mark.started_us),
        ended=millis(mark.ended_us),
        tries=mark.tries,
        output=outputs,
        size=length(mark.outputs) if mark.outputs is not None and outputs is None else None,
        error=shortened(mark.error, most) if mark.error is not None else None,
    )


def millis(micros: int | None) -> int | None:
    """Milliseconds since 1970 UTC out of microseconds."""
    return None if micros is None else micros // 1000


def short_values(values: Values | None, most: int = MAX_OUTPUT_BYTES) -> dict[str, JsonValue] | None:
    """The values, if they are short enough to be shown: at most so many bytes."""
    if values is None:
        return None
    plain = dict(values)
    if len(plain) * _SCALAR_BYTES <= most and all(map(_is_short, plain.values())):
        return plain
    return plain if length(plain) <= most else None


def length(values: Values) -> int:
    """Bytes of the values as JSON."""
    return len(json.dumps(values, separators=(",", ":")).encode())
