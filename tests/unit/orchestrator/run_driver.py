"""Runs driven without a shell: pipelines as people write them, and work that ends when and how a test says."""

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from contracts.v1.command import ErrorCode, Failure
from contracts.v1.definition import Definition
from services.orchestrator.run.compiler import compile_plan
from services.orchestrator.run.orders import Done, Failed, Outcome, Start, Stop, Told, Wake
from services.orchestrator.run.plan import Plan
from services.orchestrator.run.run import Run

WORK = {"type": "call", "device": "servo", "function": "home"}


def plan_of(nodes: Mapping[str, Any], **more: Any) -> Plan:
    """The plan of a pipeline with these nodes."""
    text = json.dumps({"pipeline": "tried", "nodes": nodes, **more})
    definition = Definition.model_validate_json(text)
    return compile_plan(definition, scope="main", version=1, rev="0" * 16, saved_by="anna")


def work(**more: Any) -> dict[str, Any]:
    """A node whose work the test does."""
    return {**WORK, **more}


def failed(code: ErrorCode = ErrorCode.DEVICE_UNAVAILABLE, message: str = "away") -> Failed:
    return Failed(Failure(code=code, message=message))


class Driver:
    """A run, what it has ordered and not taken back, and all it has told. Each happening comes a second later."""

    def __init__(self, plan: Plan, inputs: Mapping[str, Any] | None = None) -> None:
        self.run = Run(plan, inputs=inputs or {})
        self.now_us = 1_000_000
        self.events: list[Told] = []
        self.calls: dict[str, list[Start]] = defaultdict(list)
        self.wakes: dict[int, Wake] = {}
        self.stopped: list[int] = []
        self.take(self.run.begin(self.now_us))

    def answer(self, path: str, result: Done | Failed | None = None) -> None:
        """The oldest work of this name that is under way ends; well, unless the test says otherwise."""
        start = self.calls[path].pop(0)
        self.take(self.run.answer(start.number, result or Done({}), self._later()))

    def wake(self, number: int | None = None) -> None:
        """The time of this number has come; without one, the earliest."""
        chosen = min(self.wakes.values(), key=lambda wake: wake.after_s).number if number is None else number
        del self.wakes[chosen]
        self.take(self.run.wake(chosen, self._later()))

    @property
    def under_way(self) -> list[str]:
        """The work that has begun and not ended."""
        return sorted(path for path, starts in self.calls.items() for _ in starts)

    @property
    def states(self) -> dict[str, str]:
        """The state of each node of the pipeline itself."""
        top = self.run.top
        return {step.name: str(mark.status) for step, mark in zip(top.graph.steps, top.marks, strict=True)}

    def outputs(self, name: str) -> Any:
        """What the node gave."""
        top = self.run.top
        index = next(at for at, step in enumerate(top.graph.steps) if step.name == name)
        return top.marks[index].outputs

    def told(self, type_: str) -> list[dict[str, Any]]:
        """The data of the events of this type."""
        return [event.data for event in self.events if event.type == type_]

    def _later(self) -> int:
        self.now_us += 1_000_000
        return self.now_us

    def take(self, outcome: Outcome) -> None:
        """Obeys orders, and keeps events."""
        self.events += outcome.events
        for order in outcome.orders:
            if isinstance(order, Start):
                self.calls[order.path].append(order)
            elif isinstance(order, Wake):
                self.wakes[order.number] = order
            else:
                assert isinstance(order, Stop)
                self.stopped.append(order.number)
                self.wakes.pop(order.number, None)
                for starts in self.calls.values():
                    starts[:] = [start for start in starts if start.number != order.number]
