"""What a pipeline reaches beyond itself, held against the rights of who saves it."""

from typing import Any

import pytest

from contracts.v1.definition import Definition
from contracts.v1.policy import Rights, Role
from services.orchestrator.definition.reach import beyond

ENGINEER = Rights(role=Role.ENGINEER)
NARROW = Rights(role=Role.ENGINEER, devices=["pump"], writes=["pump/speed"], workspaces=["north"])
READ = {"type": "read", "tag": "fan/level"}
WRITE = {"type": "write", "tag": "pump/mode", "constants": {"value": 1}}
LOOP = {"type": "for_each", "nodes": {"inner": READ}, "items": "inputs.some"}


def of(*, nodes: dict[str, Any] | None = None, triggers: list[dict[str, Any]] | None = None) -> Definition:
    """A pipeline with these nodes and triggers."""
    one = {"one": {"type": "expression", "expression": "1"}}
    return Definition.model_validate({"pipeline": "oee", "nodes": nodes or one, "triggers": triggers or []})


@pytest.mark.parametrize(
    ("definition", "lacks"),
    [
        (of(), None),
        (of(nodes={"a": {"type": "read", "tag": "pump/level"}}), None),
        (of(nodes={"a": READ}), "the device 'fan'"),
        (of(nodes={"a": LOOP}), "the device 'fan'"),
        (of(nodes={"a": {"type": "derive", "tag": "line/x", "constants": {"value": 1}}}), "the device 'line'"),
        (of(nodes={"a": WRITE}), "write the tag pump/mode"),
        (of(nodes={"a": {"type": "call", "device": "pump", "function": "reset"}}), "call functions of 'pump'"),
        (of(nodes={"a": {"type": "pipeline", "pipeline": "other"}}), None),
        (of(nodes={"a": {"type": "pipeline", "pipeline": "other", "version": 1}}), "without `version`"),
        (of(triggers=[{"frame": "fan/fast"}]), "the device 'fan'"),
        (of(triggers=[{"tag": "fan/level"}]), "the device 'fan'"),
        (of(triggers=[{"event": {"aggregate": "device"}}]), "name one as `id`"),
        (of(triggers=[{"event": {"aggregate": "device", "id": "fan"}}]), "the device 'fan'"),
        (of(triggers=[{"event": {"aggregate": "device", "id": "pump"}}]), None),
        (of(triggers=[{"event": {"aggregate": "run"}}]), "name one as `scope`"),
        (of(triggers=[{"event": {"aggregate": "run", "scope": "south"}}]), "the workspace 'south'"),
        (of(triggers=[{"event": {"aggregate": "run", "scope": "north"}}]), None),
    ],
)
def test_who_is_narrowed_saves_nothing_that_reaches_further(definition: Definition, lacks: str | None) -> None:
    told = beyond(definition, NARROW)

    assert beyond(definition, ENGINEER) is None
    assert (told is None) if lacks is None else (lacks in str(told)), told
