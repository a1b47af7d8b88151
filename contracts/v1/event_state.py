"""What one aggregate was like at a version or at a time, as the recorder puts it together from its events."""

from typing import Annotated

from pydantic import Field, JsonValue

from contracts.v1.command import command
from contracts.v1.event import EventType
from contracts.v1.message import LAST_SAFE_INTEGER, CommandMessage, Level, Message, Micros, Ordinal, is_absent
from contracts.v1.policy import Role

EventVersion = Annotated[int, Field(ge=1, le=LAST_SAFE_INTEGER)]


class ReplayEvents(CommandMessage):
    """Verb `replay` of the event store: an aggregate as it was.

    scope, aggregate, aggregate_id: see Event. to_version: after this version; the last one there is if there are fewer.
    to_t: after the last event that had happened by then. Without both: as it is now.
    """

    scope: Level
    aggregate: Level
    aggregate_id: Level
    to_version: EventVersion | None = Field(default=None, exclude_if=is_absent)
    to_t: Micros | None = Field(default=None, exclude_if=is_absent)


class Happening(Message):
    """An event in short. data: as in the event; if its JSON is longer than 1,000 bytes, size says how long it is."""

    version: EventVersion
    type: EventType
    t: Micros
    user: Level | None = Field(default=None, exclude_if=is_absent)
    data: dict[str, JsonValue] | None = Field(default=None, exclude_if=is_absent)
    size: int | None = Field(default=None, exclude_if=is_absent)


class TypeSum(Message):
    """Events of one type. count: how many. last: the latest."""

    count: Ordinal
    last: Happening


class AggregateState(Message):
    """What all events of an aggregate up to a version come to. The order is that of the versions.

    t: of the last event. events: how many they are. missing: versions up to this one that the recorder does not have.
    status: the latest event that tells how the aggregate itself is: `online` of a device, `run.completed` of a run,
    `alarm.raised`. types: by type. parts: the latest event about each part that events name in their data, such as
    `node scaled` of a run, `tag speed` of a device. omitted: types and parts left out beyond the latest 50 and 200.
    first: the version from which on the events are kept, if those before were removed; they count here all the same.
    """

    scope: Level
    aggregate: Level
    aggregate_id: Level
    version: EventVersion
    t: Micros
    events: int
    missing: int = 0
    status: Happening | None = Field(default=None, exclude_if=is_absent)
    types: dict[str, TypeSum]
    parts: dict[str, Happening] = Field(default_factory=dict)
    omitted: int = 0
    first: EventVersion | None = Field(default=None, exclude_if=is_absent)


REPLAY_EVENTS = command(
    "replay",
    ReplayEvents,
    AggregateState,
    target="events",
    name="REPLAY_EVENTS",
    role=Role.VIEWER,
    within=True,
    about="Shows an aggregate as it was at a version or a time; `id` is the recorder's instance.",
)
