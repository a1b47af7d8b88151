"""What a recorder answers of the events that it has stored: of one aggregate, and of a user, type or time.

Exactly one recorder of a site answers; its instance stands in the topic.
"""

from typing import Annotated, Any

from pydantic import Field

from contracts.v1.command import Command, command
from contracts.v1.event import Event, EventType
from contracts.v1.event_chain import VERIFY_EVENTS
from contracts.v1.event_state import REPLAY_EVENTS, EventVersion
from contracts.v1.message import CommandMessage, Level, Message, Micros, is_absent
from contracts.v1.policy import Role

MOST_EVENTS = 1000
"""Of one answer; it holds fewer if they are long."""

Place = Annotated[str, Field(pattern=r"^[0-9]{1,16}\.[0-9]{1,16}$")]
"""Where an answer ended: given back as it came, the next one goes on from there."""
Limit = Annotated[int, Field(ge=1, le=MOST_EVENTS)]


class ReadEvents(CommandMessage):
    """Verb `read` of the event store: what has happened to one aggregate, in the order of its versions.

    scope, aggregate, aggregate_id: see Event. to_version: the last one wanted. to_t: no further than the last event
    that had happened by then. limit: of this answer. after: `next` of the answer before.
    """

    scope: Level
    aggregate: Level
    aggregate_id: Level
    from_version: EventVersion = 1
    to_version: EventVersion | None = Field(default=None, exclude_if=is_absent)
    to_t: Micros | None = Field(default=None, exclude_if=is_absent)
    limit: Limit = 100
    after: Place | None = Field(default=None, exclude_if=is_absent)


class AggregateEvents(Message):
    """Some of the events of an aggregate, by version. next: there are more.

    missing: closed ranges of versions between these that are not stored: they were lost, or are still to come.
    repeated: versions of these that more than one event has, since their owner has lost its count; all are told.
    first: the version from which on all are kept, if asked for one before it: the recorder's retention removed those.
    """

    events: list[Event]
    next: Place | None = Field(default=None, exclude_if=is_absent)
    missing: list[tuple[EventVersion, EventVersion]] = Field(default_factory=list)
    repeated: list[EventVersion] = Field(default_factory=list)
    first: EventVersion | None = Field(default=None, exclude_if=is_absent)


class AuditEvents(CommandMessage):
    """Verb `audit` of the event store: what a user did, or what of a type has happened, the latest first.

    since, until: since <= t < until. limit, after: as in ReadEvents. What is not given does not matter.
    """

    user: Level | None = Field(default=None, exclude_if=is_absent)
    type: EventType | None = Field(default=None, exclude_if=is_absent)
    since: Micros | None = Field(default=None, exclude_if=is_absent)
    until: Micros | None = Field(default=None, exclude_if=is_absent)
    limit: Limit = 100
    after: Place | None = Field(default=None, exclude_if=is_absent)


class FoundEvents(Message):
    """Some of the events that were asked for, the latest first. next: there are more."""

    events: list[Event]
    next: Place | None = Field(default=None, exclude_if=is_absent)


READ_EVENTS = command(
    "read",
    ReadEvents,
    AggregateEvents,
    target="events",
    name="READ_EVENTS",
    role=Role.VIEWER,
    senders=("orchestrator",),
    within=True,
    about="Shows what has happened to one aggregate; `id` is the recorder's instance.",
)
AUDIT_EVENTS = command(
    "audit",
    AuditEvents,
    FoundEvents,
    target="events",
    name="AUDIT_EVENTS",
    role=Role.VIEWER,
    within=True,
    about="Shows what has happened by user, type and time; `id` is the recorder's instance.",
)
EVENT_STORE_COMMANDS: tuple[Command[Any, Any], ...] = (READ_EVENTS, AUDIT_EVENTS, REPLAY_EVENTS, VERIFY_EVENTS)
