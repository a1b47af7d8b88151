"""Events: what happened, to what, by whom. A stream like that of frames, one per service instance."""

from typing import Annotated

from pydantic import Field, JsonValue

from contracts.topic import Topic
from contracts.v1.frame import Previous
from contracts.v1.message import Level, Message, Micros, Ordinal, is_absent

EVENT_STREAM = "main"
"""The name of a service instance's stream of events, in BACKFILL and STORED."""

TYPE_PATTERN = r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*"
TYPE_LENGTH = 63
EventType = Annotated[str, Field(pattern=f"^{TYPE_PATTERN}$", max_length=TYPE_LENGTH)]


class Event(Message):
    """Something that happened to one aggregate (a device, a pipeline, ...).

    id: UUID version 7 (RFC 9562, 5.7). version: counts from 1 per (scope, aggregate, aggregate_id) without gaps.
    The order of an aggregate's events is that of their versions. t: when it happened; an event that was put off for a
    moment (`write.accepted`) may have an earlier one than those before it. type: such as `online` or `write.done`.
    user: on whose behalf; absent if it happened by itself.
    cause: the id of the event that it follows from, or a word. data: what belongs to the type, by name.
    """

    id: str
    aggregate: Level
    aggregate_id: Level
    scope: Level
    version: Ordinal
    type: EventType
    t: Micros
    user: Level | None = Field(default=None, exclude_if=is_absent)
    cause: str | None = Field(default=None, exclude_if=is_absent)
    data: dict[str, JsonValue] = Field(default_factory=dict)


class Events(Message):
    """One message of a service instance's stream of events; epoch, seq, prev and closed as in Frame.

    owner: the service instance. events: of one aggregate, in the order in which they happened.
    """

    owner: Level
    epoch: Ordinal
    seq: Ordinal
    events: list[Event]
    prev: Previous | None = Field(default=None, exclude_if=is_absent)
    closed: bool | None = Field(default=None, exclude_if=is_absent)


EVENT = Topic(
    name="EVENT",
    pattern="event/{scope}/{aggregate}/{id}",
    payload=Events,
    writers=("gateway", "recorder", "orchestrator", "compute", "identity"),
    about="What happened to a device, a service, ...; `id` is the aggregate's.",
)
