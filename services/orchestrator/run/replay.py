"""A recorded run gone through again: the machine is told what happened then, and must come to the same. Pure.

What nodes gave that asked somebody (a device, a compute service) is taken from the record; what the run itself worked
out (expressions, conditions, loops, which nodes run) is worked out anew. Nothing is sent to anybody.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from contracts.v1.command import Failure
from contracts.v1.node import DeriveNode, WriteNode
from contracts.v1.run import ReplayDifference, RunStatus
from services.orchestrator.run.carried import as_told, is_cut
from services.orchestrator.run.failures import BROKEN_OFF
from services.orchestrator.run.orders import Done, Failed, Outcome, Start, Told, Wake
from services.orchestrator.run.plan import External, Plan
from services.orchestrator.run.run import Run

Recorded = tuple[str, Mapping[str, Any]]
"""Type and data of an event."""

_ENDS = ("node.completed", "node.failed", "node.skipped", "node.retried")
_RUN_ENDS = ("run.completed", "run.failed", "run.cancelled")
_COMPARED = ("outputs", "branch", "error", "inputs")
_BROKEN_OFF = BROKEN_OFF.model_dump(mode="json")


def replayed(plan: Plan, recorded: Sequence[Recorded]) -> list[ReplayDifference]:
    """How the run comes out otherwise than it was recorded; nothing if it does not.

    plan: of the version that ran, or of another to be compared with it. recorded: the run's events in their order.
    """
    started = next((data for type_, data in recorded if type_ == "run.started"), None)
    if started is None:
        return []  # it was cancelled in the queue
    if is_cut(started["inputs"]) or is_cut(started.get("values", {})):
        return [ReplayDifference(node=None, what="inputs, or values of its trigger, too long to be recorded")]
    missing = [data["node"] for type_, data in recorded if type_ == "node.completed" and is_cut(data["outputs"])]
    if missing:
        return [ReplayDifference(node=None, what=f"outputs too long to be recorded: {', '.join(sorted(set(missing)))}")]
    player = _Player(plan, started)
    for type_, data in recorded:
        player.happen(type_, data)
    return [*player.differences, *_compared(recorded, player.told)]


class _Player:
    """The machine, and what it waits for."""

    def __init__(self, plan: Plan, started: Mapping[str, Any]) -> None:
        self.told: list[Told] = []
        self.differences: list[ReplayDifference] = []
        self._run = Run(plan, inputs=started["inputs"], trigger=started.get("values"))
        self._starts: dict[str, Start] = {}
        self._wakes: dict[str, Wake] = {}
        self._ahead: Counter[tuple[str, str | None]] = Counter()  # told here, and not met in the record yet
        self._obey(self._run.begin(0))

    def happen(self, type_: str, data: Mapping[str, Any]) -> None:
        """This was recorded next. What the machine has told already follows from what happened before."""
        event = (type_, data.get("node"))
        if not self._ahead[event] and type_ in _ENDS:
            self._end_node(type_, data)
        elif type_ in {"run.failed", "run.cancelled"} and not self._run.over:
            status = RunStatus(type_.removeprefix("run."))
            self._obey(self._run.end(status, Failure.model_validate(data["error"], strict=False), 0))
        self._ahead[event] -= 1

    def _end_node(self, type_: str, data: Mapping[str, Any]) -> None:
        path, error = data["node"], data.get("error")
        if error == _BROKEN_OFF or (type_ == "node.skipped" and error is None):
            return  # it will follow from something else
        self._try_again(path)
        wake = self._wakes.get(path)
        if wake is not None and (wake.why == "pause" or (wake.why == "late" and error is not None)):
            self._wake(path)
        start = self._starts.pop(path, None)
        if start is None:
            return  # worked out by the run itself
        self._compare_written(start, data)
        if error is None:
            result: Done | Failed = Done(data["outputs"], cached=data.get("cached", False))
        else:
            result = Failed(Failure.model_validate(error, strict=False))
        self._obey(self._run.answer(start.number, result, 0))

    def _try_again(self, path: str) -> None:
        """The next try begins, of the node or of a loop around it, if one is waited for."""
        for waiting, wake in tuple(self._wakes.items()):
            if wake.why == "retry" and (path == waiting or path.startswith(f"{waiting}[")):
                self._wake(waiting)

    def _wake(self, path: str) -> None:
        self._obey(self._run.wake(self._wakes.pop(path).number, 0))

    def _obey(self, outcome: Outcome) -> None:
        self.told += outcome.events
        self._ahead.update((event.type, event.data.get("node")) for event in outcome.events)
        for order in outcome.orders:
            if isinstance(order, Start):
                self._starts[order.path] = order
            elif isinstance(order, Wake):
                self._wakes[order.path] = order
            else:
                self._starts = {path: start for path, start in self._starts.items() if start.number != order.number}
                self._wakes = {path: wake for path, wake in self._wakes.items() if wake.number != order.number}
        if "" in self._wakes:
            self._wake("")

    def _compare_written(self, start: Start, data: Mapping[str, Any]) -> None:
        """What the device or the broker took is told as an output, what it was given was worked out."""
        node = start.step.work.node if isinstance(start.step.work, External) else None
        if isinstance(node, WriteNode | DeriveNode) and "error" not in data:
            gave, gives = data["outputs"].get("value"), start.inputs.get("value")
            if gave != gives:
                what = f"{node.type} {node.tag}"
                self.differences.append(
                    ReplayDifference(node=start.step.name, what=what, recorded=gave, replayed=gives)
                )


def _compared(recorded: Sequence[Recorded], told: Sequence[Told]) -> list[ReplayDifference]:
    """Node by node: with what each was asked for, and how it ended, as often as it was and did."""
    then, now = _marks(recorded), _marks([(event.type, as_told(event.data)[0]) for event in told])
    differences = []
    for path in dict.fromkeys((*then, *now)):
        for at in range(max(len(then[path]), len(now[path]))):
            one = then[path][at] if at < len(then[path]) else None
            other = now[path][at] if at < len(now[path]) else None
            if one != other:
                node = path.partition("[")[0] or None
                differences.append(ReplayDifference(node=node, what=path or "run", recorded=one, replayed=other))
    return differences


def _marks(events: Sequence[Recorded]) -> defaultdict[str, list[dict[str, Any]]]:
    """By the node's path, the run's own under no name: what was asked of others for it, and how it ended each time."""
    found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for type_, data in events:
        if type_ in _ENDS or type_ in _RUN_ENDS or (type_ == "node.executing" and "inputs" in data):
            kept = {name: data[name] for name in _COMPARED if data.get(name) is not None}
            found[data.get("node", "")].append({"what": type_, **kept})
    return found
