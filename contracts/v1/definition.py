"""A pipeline as an engineer writes it: triggers, nodes, limits. The YAML or JSON file is exactly this model."""

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, JsonValue, Tag

from contracts.duration import Duration
from contracts.topic import LEVEL_PATTERN
from contracts.v1.function import PortInfo
from contracts.v1.message import Level, Number, is_absent
from contracts.v1.node import Constants, DefinitionPart, Names, Nodes, Positive, TagPath

TRIGGER_KINDS = ("every", "cron", "frame", "tag", "event")

GroupPath = Annotated[str, Field(pattern=f"^{LEVEL_PATTERN}/{LEVEL_PATTERN}$", examples=["pump/fast"])]
"""`device/group`."""


class InputPort(PortInfo):
    """An input of the pipeline. default: its value when a run gives none; without one it is needed, if not optional."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    default: JsonValue = Field(default=None, exclude_if=is_absent)


class TriggerFields(DefinitionPart):
    """What every trigger has. inputs: fixed values for the pipeline's inputs in the runs that it starts."""

    inputs: Constants = Field(default_factory=dict)


class EveryTrigger(TriggerFields):
    """Runs the pipeline at this interval, without drift."""

    every: Positive


class CronTrigger(TriggerFields):
    """Runs the pipeline by the calendar: minute, hour, day, month, weekday.

    zone: a name of the IANA time zone database. missed: what happens at the start with runs whose time has gone by
    while nothing ran: `skip` them, or make up for all of them `once`.
    """

    cron: Annotated[str, Field(min_length=9, max_length=200, examples=["*/5 * * * *"])]
    zone: Annotated[str, Field(min_length=1, max_length=64, examples=["Europe/Berlin"])] = "UTC"
    missed: Literal["skip", "once"] = "skip"


class FrameTrigger(TriggerFields):
    """Runs the pipeline for new values of a poll group.

    deliver: `latest`: a frame that comes while the pipeline is busy takes the place of the one that waits; `every`:
    each frame is run, in order, and none is lost when a service or the broker goes down.
    """

    frame: GroupPath
    deliver: Literal["latest", "every"] = "latest"


class TagTrigger(TriggerFields):
    """Runs the pipeline when a tag's value or quality changes.

    deadband: a number must have moved more than this since the run before. debounce: the value must have stood still
    for so long. deliver: as in FrameTrigger.
    """

    tag: TagPath
    deadband: Annotated[Number, Field(ge=0)] = 0
    debounce: Annotated[Duration, Field(ge=0, le=3600)] = 0.0
    deliver: Literal["latest", "every"] = "latest"


class EventFilter(DefinitionPart):
    """Which events: of this kind of aggregate; of this one, this type, this scope, where they are named."""

    aggregate: Level
    id: Level | None = Field(default=None, exclude_if=is_absent)
    type: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$")] | None = Field(
        default=None, exclude_if=is_absent
    )
    scope: Level | None = Field(default=None, exclude_if=is_absent)


class EventTrigger(TriggerFields):
    """Runs the pipeline for each event that the filter lets through."""

    event: EventFilter


def _kind(given: Any) -> str | None:  # noqa: ANN401 - whatever the file holds
    """The kind of trigger, by the one key that names it."""
    if isinstance(given, dict):
        return next((kind for kind in TRIGGER_KINDS if kind in given), None)
    return next((kind for kind in TRIGGER_KINDS if hasattr(given, kind)), None)


Trigger = Annotated[
    Annotated[EveryTrigger, Tag("every")]
    | Annotated[CronTrigger, Tag("cron")]
    | Annotated[FrameTrigger, Tag("frame")]
    | Annotated[TagTrigger, Tag("tag")]
    | Annotated[EventTrigger, Tag("event")],
    Discriminator(
        _kind,
        custom_error_type="trigger_kind",
        custom_error_message="no trigger; write one of every, cron, frame, tag, event",
    ),
]


class Limits(DefinitionPart):
    """Of this pipeline: how long a run may take, how many run at the same time, how many may wait."""

    timeout: Positive = 60.0
    runs: Annotated[int, Field(ge=1, le=100)] = 1
    queue: Annotated[int, Field(ge=0, le=10_000)] = 10


class Definition(DefinitionPart):
    """A pipeline. Without triggers it runs by command, or as a part of another pipeline.

    pipeline: its name. enabled: whether triggers start it. inputs: what a run is given. nodes: its steps by name; they
    run as soon as what they need is there. outputs: what a run gives, by name.
    """

    pipeline: Level
    title: Annotated[str, Field(max_length=200)] = ""
    enabled: bool = True
    inputs: dict[Level, InputPort] = Field(default_factory=dict)
    triggers: Annotated[list[Trigger], Field(max_length=20)] = Field(default_factory=list)
    limits: Limits = Field(default_factory=Limits)
    nodes: Nodes
    outputs: Names = Field(default_factory=dict)


def canonical(definition: Definition) -> str:
    """The definition as JSON in which the order of keys, the form of durations and what is left out do not show."""
    content = definition.model_dump(mode="json", exclude_defaults=True)
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def revision(definition: Definition) -> str:
    """The first 16 hex digits of SHA-256 over the canonical form: the same content gives the same revision."""
    return hashlib.sha256(canonical(definition).encode()).hexdigest()[:16]
