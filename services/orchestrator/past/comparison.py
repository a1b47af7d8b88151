"""What a version in shadow would have done otherwise than the live one, by the events of both runs. Pure."""

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from contracts.v1.node import AlarmNode, CallNode, DeriveNode, WriteNode
from contracts.v1.pipeline import Difference
from services.orchestrator.run.plan import Each, External, Graph, Plan, Repeat
from services.orchestrator.run.replay import Recorded

MOST = 200
"""Differences of a pipeline that are kept; beyond it the oldest go, and are counted."""
_TURN = re.compile(r"\[\d+\]")

Pipeline = tuple[str, str]
"""Workspace and name."""


@dataclass(slots=True)
class Comparison:
    """Of one live version with one shadow. runs: how many of each. more: differences beyond those kept."""

    version: int
    shadow: int
    runs: int = 0
    differences: deque[Difference] = field(default_factory=deque)
    more: int = 0


@dataclass(frozen=True, slots=True)
class Course:
    """A run that is over. events: all of it, in their order."""

    run: str
    plan: Plan
    events: Sequence[Recorded]


class Comparisons:
    """Of all pipelines that have a shadow; begun anew with each version of either."""

    def __init__(self) -> None:
        self._all: dict[Pipeline, Comparison] = {}

    def add(self, live: Course, shadow: Course) -> None:
        """Both have ended, after the same trigger; those of earlier versions, which end late, do not count."""
        pipeline, version, other = (live.plan.scope, live.plan.pipeline), live.plan.version, shadow.plan.version
        known = self._all.get(pipeline)
        if known is not None and (version < known.version or other < known.shadow):
            return
        comparison = self.get(pipeline, version, other)
        comparison.runs += 1
        for difference in differences(live, shadow):
            comparison.differences.append(difference)
            if len(comparison.differences) > MOST:
                comparison.differences.popleft()
                comparison.more += 1

    def get(self, pipeline: Pipeline, version: int, shadow: int) -> Comparison:
        """Of these versions; without runs if none of both have ended."""
        found = self._all.get(pipeline)
        if found is None or (found.version, found.shadow) != (version, shadow):
            found = self._all[pipeline] = Comparison(version, shadow)
        return found


def differences(live: Course, shadow: Course) -> Iterator[Difference]:
    """In how the runs ended, in their outputs, and in what they did to devices, tags and alarms."""
    one, other = _end(live), _end(shadow)
    if one != other:
        yield Difference(run=live.run, what="end", live=one, shadow=other)
    done, would = _deeds(live), _deeds(shadow)
    for path, what in dict.fromkeys((*done, *would)):
        first, second = done.get((path, what)), would.get((path, what))
        if first != second:
            node = path.partition("[")[0].partition(".")[0]
            yield Difference(run=live.run, node=node, what=what, live=first, shadow=second)


def _end(course: Course) -> dict[str, JsonValue]:
    """State, and outputs or the code of the error."""
    type_, data = course.events[-1]
    error = data.get("error")
    end: dict[str, JsonValue] = {"state": type_.removeprefix("run.")}
    return {**end, "error": error["code"]} if error else {**end, "outputs": data.get("outputs")}


def _deeds(course: Course) -> dict[tuple[str, str], JsonValue]:
    """What was done, by the node's path and in words: the value, what a call was given, or that it was done at all."""
    told = _telling(course.plan.graph)
    asked = {data["node"]: data["inputs"] for type_, data in course.events if "inputs" in data and "node" in data}
    deeds: dict[tuple[str, str], JsonValue] = {}
    for type_, data in course.events:
        what = told.get(_TURN.sub("", data.get("node", ""))) if type_ == "node.completed" else None
        if what is not None and "error" not in data:
            outputs = data["outputs"]
            deed = outputs.get("active", outputs.get("value", True))
            deeds[data["node"], what] = asked.get(data["node"], deed)
    return deeds


def _telling(graph: Graph) -> Mapping[str, str]:
    """The steps that change something, by their path: in words."""
    found: dict[str, str] = {}
    for step in graph.steps:
        work = step.work
        if isinstance(work, Each | Repeat):
            found |= _telling(work.body)
        elif isinstance(work, External):
            match work.node:
                case WriteNode(tag=tag):
                    found[step.path] = f"write {tag}"
                case DeriveNode(tag=tag):
                    found[step.path] = f"tag {tag}"
                case CallNode(device=device, function=function):
                    found[step.path] = f"call {device} {function}"
                case AlarmNode(alarm=alarm):
                    found[step.path] = f"alarm {alarm}"
    return found
