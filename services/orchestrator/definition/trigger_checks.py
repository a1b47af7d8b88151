"""What can be wrong with a pipeline's triggers and inputs. Pure."""

from collections.abc import Callable, Mapping
from typing import Any

from contracts.v1.command import PLANT
from contracts.v1.definition import (
    CronTrigger,
    Definition,
    EventFilter,
    EventTrigger,
    EveryTrigger,
    FrameTrigger,
    TagTrigger,
    Trigger,
)
from contracts.v1.node import CallNode, DeriveNode, Node, PipelineNode, WriteNode
from plugins.api.document import Path
from plugins.api.ports import check_inputs
from services.orchestrator.definition.catalogue import Catalogue, tag_kind
from services.orchestrator.definition.faults import Tell, kind_text, offer
from services.orchestrator.definition.graph import callers_in_circle, cycle_text
from services.orchestrator.definition.level import level_of
from services.orchestrator.definition.schedule import Cron, Interval, ScheduleError


class TriggerCheck:
    """Checks the triggers of one definition. derived: the tags that pipelines publish. broken: see Level."""

    def __init__(
        self,
        definition: Definition,
        tell: Tell,
        *,
        catalogue: Catalogue,
        derived: Mapping[str, str],
        broken: frozenset[Path],
    ) -> None:
        self._definition = definition
        self._tell = tell
        self._catalogue = catalogue
        self._derived = derived
        self._broken = broken

    def check(self) -> None:
        """Tells every fault of inputs and triggers."""
        for name, port in self._definition.inputs.items():
            if ("inputs", name) not in self._broken and port.default is not None:
                for fault in check_inputs({name: port}, {name: port.default}):
                    message, _, mend = fault.partition("; ")
                    self._tell(("inputs", name, "default"), message, mend or f"write {kind_text(port.type)}")
        seen: dict[str, int] = {}
        for place, trigger in enumerate(self._definition.triggers):
            if ("triggers", place) in self._broken:
                continue
            self._once(place, trigger, seen)
            self._inputs(("triggers", place), trigger)
            kind = _CHECKS.get(type(trigger))
            if kind is not None:
                kind(self, ("triggers", place), trigger)

    def _once(self, place: int, trigger: Trigger, seen: dict[str, int]) -> None:
        """Two that are remembered as one: the first alone starts runs, or takes the other's past for its own.

        seen: where each stood first.
        """
        match trigger:
            case EveryTrigger():
                key, what = "every", f"the interval of {trigger.every:g} s"
            case CronTrigger():
                key, what = "cron", f"the times {trigger.cron} {trigger.zone}"
            case FrameTrigger():
                key, what = "frame", f"the frame {trigger.frame}"
            case TagTrigger():
                key, what = "tag", f"the tag {trigger.tag}"
            case _:
                return
        first = seen.setdefault(what, place)
        if first != place:
            mend = "take one of them away; for other inputs write a pipeline of its own"
            self._tell(("triggers", place, key), f"starts runs for {what}, as triggers[{first}] does", mend)

    def _inputs(self, at: Path, trigger: Trigger) -> None:
        ports = self._definition.inputs
        if any(path[0] == "inputs" for path in self._broken):
            return
        for name, value in trigger.inputs.items():
            if name not in ports:
                self._tell((*at, "inputs", name), f"the pipeline has no input {name!r}", offer(name, ports))
                continue
            for fault in check_inputs({name: ports[name]}, {name: value}):
                message, _, mend = fault.partition("; ")
                self._tell((*at, "inputs", name), message, mend or f"write {kind_text(ports[name].type)}")
        for name, port in ports.items():
            if not port.optional and port.default is None and name not in trigger.inputs:
                mend = f"write inputs: {{{name}: value}} at the trigger, or give the input a default"
                self._tell(at, f"starts runs without the input {name!r}, which is needed", mend)

    def every(self, at: Path, trigger: EveryTrigger) -> None:
        """An interval."""
        try:
            Interval.of(trigger.every)
        except ScheduleError as error:
            self._schedule((*at, "every"), error)

    def cron(self, at: Path, trigger: CronTrigger) -> None:
        """A cron expression and a time zone."""
        try:
            Cron.of("* * * * *", trigger.zone)
        except ScheduleError as error:
            self._schedule((*at, "zone"), error)
        try:
            Cron.of(trigger.cron)
        except ScheduleError as error:
            self._schedule((*at, "cron"), error)

    def _schedule(self, at: Path, error: ScheduleError) -> None:
        message, _, mend = str(error).partition("; ")
        self._tell(at, message, mend)

    def frame(self, at: Path, trigger: FrameTrigger) -> None:
        """A poll group."""
        device, _, group = trigger.frame.partition("/")
        info = self._catalogue.devices.get(device)
        if self._catalogue.may_have(trigger.frame):
            return
        if info is None:
            self._tell((*at, "frame"), f"there is no device {device!r}", offer(device, self._catalogue.devices))
        elif group not in info.groups:
            self._tell((*at, "frame"), f"{device} has no group {group!r}", offer(group, info.groups))

    def tag(self, at: Path, trigger: TagTrigger) -> None:
        """A tag of a device or of a pipeline."""
        if trigger.tag in self._derived or self._catalogue.may_have(trigger.tag):
            return
        tag = self._catalogue.tag(trigger.tag)
        if tag is None:
            known = [*self._catalogue.tags, *self._derived]
            self._tell((*at, "tag"), f"there is no tag {trigger.tag!r}", offer(trigger.tag, known))
        elif trigger.deadband and tag_kind(tag) not in {"number", "integer"}:
            message = f"{trigger.tag} is {kind_text(tag_kind(tag))} and has no deadband"
            self._tell((*at, "deadband"), message, "remove it")


_CHECKS: Mapping[type, Callable[[TriggerCheck, Path, Any], None]] = {
    EveryTrigger: TriggerCheck.every,
    CronTrigger: TriggerCheck.cron,
    FrameTrigger: TriggerCheck.frame,
    TagTrigger: TriggerCheck.tag,
}

_RUN_TYPES = frozenset({None, "run.started", "run.completed", "node.executing", "node.completed"})
"""What every run tells."""
_ACT_TYPES = {
    "write": frozenset({None, "write.accepted", "write.executing", "write.verified", "write.done"}),
    "call": frozenset({None, "call.accepted", "call.executing", "call.done"}),
}
"""What a device's events tell of every write, of every call."""


def check_starts(
    definition: Definition, tell: Tell, *, others: Mapping[str, Definition], broken: frozenset[Path], scope: str
) -> None:
    """Tells the triggers by which the pipeline starts itself, also through others: by a tag that follows from its run,
    by events of its run, or of what its run does to a device. scope: its workspace."""
    name = definition.pipeline
    leads_to = _leads_to({**others, name: definition})
    for place, trigger in enumerate(definition.triggers):
        at: Path = ("triggers", place)
        if at in broken:
            continue
        if isinstance(trigger, EventTrigger) and _is_of_own_run(trigger.event, scope):
            what = trigger.event.type or "any event"
            message = f"starts itself without end: {cycle_text([name, f'{what} of its run'])}"
            tell((*at, "event"), message, "name a type that not every run tells, such as run.failed")
            continue
        for cause in _causes(trigger):
            circle = callers_in_circle(cause, {**leads_to, cause: frozenset({name})})
            if circle:
                message = f"starts itself without end: {cycle_text([*circle[1:], circle[0]])}"
                tell((*at, "tag" if isinstance(trigger, TagTrigger) else "event"), message, _MENDS[type(trigger)])


_MENDS = {
    TagTrigger: "start it by the clock or a frame, and read the tag in it",
    EventTrigger: "name a type that does not follow from what it does, or do it in a loop of one run",
}


def _is_of_own_run(event: EventFilter, scope: str) -> bool:
    here = event.id is None and event.scope in {None, scope}
    return event.aggregate == "run" and here and event.type in _RUN_TYPES


def _causes(trigger: Trigger) -> list[str]:
    """What starts it and may follow from a run, in words."""
    if isinstance(trigger, TagTrigger):
        return [trigger.tag]
    if not isinstance(trigger, EventTrigger):
        return []
    event = trigger.event
    if event.aggregate != "device" or event.scope not in {None, PLANT}:
        return []
    return [_act(kind, event.id) for kind, types in _ACT_TYPES.items() if event.type in types]


def _act(kind: str, device: str | None) -> str:
    return f"a {kind} to {device or 'any device'}"


def _leads_to(pipelines: Mapping[str, Definition]) -> dict[str, frozenset[str]]:
    """For each pipeline the tags that it publishes, what it does to devices and the pipelines that it runs; for each of
    these whom it starts."""
    found: dict[str, set[str]] = {}
    for name, definition in pipelines.items():
        for _, _, node in level_of(definition, Catalogue()).walk():
            found.setdefault(name, set()).update(_given(node))
        for trigger in definition.triggers if definition.enabled else ():
            for cause in _causes(trigger):
                found.setdefault(cause, set()).add(name)
    return {name: frozenset(those) for name, those in found.items()}


def _given(node: Node) -> list[str]:
    if isinstance(node, DeriveNode):
        return [node.tag]
    if isinstance(node, PipelineNode):
        return [node.pipeline]
    if isinstance(node, WriteNode):
        return [_act("write", node.tag.partition("/")[0]), _act("write", None)]
    return [_act("call", node.device), _act("call", None)] if isinstance(node, CallNode) else []
