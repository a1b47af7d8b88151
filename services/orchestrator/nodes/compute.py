"""Nodes whose work a compute service does."""

from collections.abc import Mapping
from typing import Protocol

from pydantic import JsonValue

from contracts.v1.node import ComputeNode
from services.orchestrator.engine.executor import Work
from services.orchestrator.run.plan import Values


class Dispatcher(Protocol):
    """Has functions executed by a compute service; see dispatch."""

    async def run(
        self, function: str, inputs: Mapping[str, JsonValue], *, timeout_s: float, version: str | None = None
    ) -> Values:
        """The outputs. Cancelled, it has the task stopped. Raises NodeFailed, TimeoutError."""
        ...


class ComputeNodes:
    """Asks the dispatcher."""

    def __init__(self, *, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    async def do(self, work: Work) -> Values:
        """See executor.Do."""
        node: ComputeNode = work.node
        return await self._dispatcher.run(node.function, work.inputs, timeout_s=work.left_s, version=node.version)
