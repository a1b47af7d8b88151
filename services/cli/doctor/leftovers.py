"""Retained topics of what is no more: they look alive to whoever subscribes, and nobody writes them any more."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from contracts.v1.alarm import ALARM
from contracts.v1.device import DEVICE, DEVICE_STATE
from contracts.v1.pipeline import PIPELINE
from contracts.v1.run import RUN
from contracts.v1.service import SERVICE
from contracts.v1.stored import STORED
from contracts.v1.tag import TAG
from contracts.v1.topics import TOPICS
from services.cli.derived import nodes_of_type
from services.cli.doctor.finding import Finding, State, named
from services.cli.doctor.sight import Seen, Sight

_WRITERS = {topic.name: topic.writers for topic in TOPICS}


class _Living:
    """What there is, by what it says of itself."""

    def __init__(self, sight: Sight) -> None:
        self.services = {(seen.levels["service"], seen.levels["instance"]) for seen, _ in sight.of(SERVICE)}
        infos = {seen.levels["device"]: info for seen, info in sight.of(DEVICE)}
        self.gateways = {device: info.gateway for device, info in infos.items()}
        self.tags = {device: frozenset(info.tags) for device, info in infos.items()}
        self.states = {seen.levels["device"]: state.gateway for seen, state in sight.of(DEVICE_STATE)}
        pipelines = list(sight.of(PIPELINE))
        self.pipelines = {(seen.levels["scope"], seen.levels["pipeline"]) for seen, _ in pipelines}
        self.derived = {
            str(node["tag"]) for _, info in pipelines for _, node in nodes_of_type(info.definition, ("derive",))
        }


@dataclass(frozen=True, slots=True)
class Orphans:
    """Topics of devices, tags, pipelines, alarms and recorders that nothing on the bus owns."""

    name: ClassVar[str] = "orphans"

    sight: Sight

    def findings(self) -> Iterator[Finding]:
        """One for each thing that is no more, with its topics and who may clear them."""
        living = _Living(self.sight)
        orphans: dict[tuple[str, str], list[str]] = {}
        for topic, seen in sorted(self.sight.messages.items()):
            why = _why(seen, living)
            if why:
                orphans.setdefault((seen.kind, why), []).append(topic)
        for (kind, why), topics in sorted(orphans.items()):
            writers = " or ".join(f"`{name}`" for name in _WRITERS[kind])
            yield Finding(
                State.WARN,
                f"{why}: {named(topics)}. Only {writers} may clear {'it' if len(topics) == 1 else 'them'}: publish an "
                "empty retained message there with that account (secrets/)",
            )
        if not orphans and self.sight.messages:
            yield Finding(State.OK, "every retained topic belongs to something that there is")


def _why(seen: Seen, living: _Living) -> str | None:
    """Why what the topic belongs to is not there; None if it is, or the topic ends by itself."""
    check = _CHECKS.get(seen.kind)
    return check(seen.levels, living) if check else None


def _device(levels: Mapping[str, str], living: _Living) -> str | None:
    device = levels["device"]
    gateway = living.gateways.get(device)
    if gateway is not None and ("gateway", gateway) not in living.services:
        return f"device {device} is the gateway {gateway}'s, which is not on the bus"
    return None


def _state(levels: Mapping[str, str], living: _Living) -> str | None:
    device = levels["device"]
    known = device in living.tags or ("gateway", living.states.get(device, "")) in living.services
    return None if known else f"device {device} has a state, and neither a description nor a gateway"


def _tag(levels: Mapping[str, str], living: _Living) -> str | None:
    device, tag = levels["device"], levels["tag"]
    tags = living.tags.get(device)
    if f"{device}/{tag}" in living.derived or (tags is not None and tag in tags):
        return None
    if tags is not None:
        return f"device {device} has no such tags"
    return f"device {device}, which there is not, and no pipeline derives its tags"


def _of_pipeline(what: str, level: str) -> "_Owner":
    def why(levels: Mapping[str, str], living: _Living) -> str | None:
        """What is left over of which pipeline; None if there is that pipeline."""
        scope, pipeline = levels["scope"], levels[level]
        if (scope, pipeline) in living.pipelines:
            return None
        return f"{what} of the pipeline {scope}/{pipeline}, which there is not"

    return why


def _stored(levels: Mapping[str, str], living: _Living) -> str | None:
    recorder = levels["recorder"]
    if ("recorder", recorder) in living.services:
        return None
    return f"marks of the recorder {recorder}, which is not on the bus"


_Owner = Callable[[Mapping[str, str], _Living], str | None]
_CHECKS: Mapping[str, _Owner] = {
    DEVICE.name: _device,
    DEVICE_STATE.name: _state,
    TAG.name: _tag,
    ALARM.name: _of_pipeline("alarms", "source"),
    RUN.name: _of_pipeline("runs", "pipeline"),
    STORED.name: _stored,
}
