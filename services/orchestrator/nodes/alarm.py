"""Nodes that raise and clear alarms."""

from typing import Protocol

from pydantic import JsonValue

from contracts.v1.command import ErrorCode, Failure
from contracts.v1.node import AlarmNode
from services.orchestrator.engine.executor import Work
from services.orchestrator.errors import NodeFailed
from services.orchestrator.expression.expression import ExpressionError
from services.orchestrator.run.plan import Plan, Values


class Alarms(Protocol):
    """Keeps alarms; see alarms."""

    def observe(self, plan: Plan, node: AlarmNode, *, raised: bool, cleared: bool, value: JsonValue) -> bool:
        """The alarm's condition holds now, or the one that clears it; whether the alarm is raised now."""
        ...


class AlarmNodes:
    """Evaluates the conditions, and leaves delay, hysteresis and acknowledgement to the alarms."""

    def __init__(self, *, alarms: Alarms) -> None:
        self._alarms = alarms

    def at_once(self, work: Work) -> Values:
        """See executor.AtOnce."""
        node: AlarmNode = work.node
        try:
            raised = bool(work.formulas["when"](work.inputs))
            clear = work.formulas.get("clear")
            cleared = not raised if clear is None else bool(clear(work.inputs))
        except ExpressionError as error:
            raise NodeFailed(Failure(code=ErrorCode.INVALID, message=str(error))) from error
        value = work.inputs[next(iter(node.inputs))] if node.inputs else None
        return {"active": self._alarms.observe(work.plan, node, raised=raised, cleared=cleared, value=value)}
