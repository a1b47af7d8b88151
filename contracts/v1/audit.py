"""What an audit asks: the recorder for what it has of each stream, and the streams' owners for what they have produced.

For every stream: produced = stored + still in the journal + lost with a reason; and inside the recorder:
stored = in the database + in the spool + set aside.
"""

from typing import Annotated, Any

from pydantic import Field

from contracts.v1.command import Command, command
from contracts.v1.message import CommandMessage, Count, Level, Message, Micros, is_absent
from contracts.v1.policy import Role
from contracts.v1.stored import Seq

Ranges = list[tuple[Seq, Seq]]
"""Closed ranges [from, to] of sequence numbers, ascending, not touching."""
Row = Annotated[str, Field(pattern=r"^[0-9]{1,16}/[0-9]{1,16}(/[0-9]{1,16})?$")]
StreamPlace = Annotated[str, Field(pattern=r"^[a-z0-9_/-]{1,200}$")]
"""Where an answer ended: given back as it came, the next one goes on from there."""


class StreamEpoch(Message):
    """Names one epoch of a stream, see STORED."""

    kind: Level
    owner: Level
    stream: Level
    epoch: Seq


class AuditStreams(CommandMessage):
    """Verb `audit` of a recorder: what it has of every stream.

    since, until: then `numbers` are those that the recorder first heard of in since <= t < until, both rounded down to
    whole minutes of its clock. after: `next` of the answer before.
    """

    since: Micros | None = Field(default=None, exclude_if=is_absent)
    until: Micros | None = Field(default=None, exclude_if=is_absent)
    after: Row | None = Field(default=None, exclude_if=is_absent)


class AuditedEpoch(StreamEpoch):
    """What a recorder has of an epoch, at one moment. One of very many ranges comes in parts, by ascending numbers.

    top: the highest number that it has heard of, 0 for none. have, lost: as in Stored, but that a dead letter that was
    thrown away is lost (`thrown_away`). written: the history, or the event store, has them. spooled: they wait for it,
    for the first time or, as dead letters that are tried again, once more. dead: set aside as a whole, see the dead
    letters. numbers: those of the time that was asked for; absent if none was.
    """

    top: Count
    have: Ranges
    lost: list[tuple[Seq, Seq, str]]
    written: Ranges
    spooled: Ranges
    dead: Ranges
    numbers: Ranges | None = Field(default=None, exclude_if=is_absent)


class AuditedStreams(Message):
    """Some of the streams that a recorder knows. store: as in Stored. next: there are more.

    letters, thrown: how many dead letters there are, and how many were thrown away since the store was begun, by
    reason: values that a database refused (`refused`) belong to messages that count as written.
    """

    store: str
    epochs: list[AuditedEpoch]
    letters: dict[str, int] | None = Field(default=None, exclude_if=is_absent)
    thrown: dict[str, int] | None = Field(default=None, exclude_if=is_absent)
    next: Row | None = Field(default=None, exclude_if=is_absent)


class ShowJournal(CommandMessage):
    """Verb `journal` of a service: what it has produced, and what of it is still in its journal."""

    after: StreamPlace | None = Field(default=None, exclude_if=is_absent)


class JournalEpoch(StreamEpoch):
    """One epoch as its owner knows it.

    given: the highest number. held: in the journal. lost: what has left the journal though a required recorder had not
    stored it, with the reason.
    """

    given: Seq
    held: Ranges
    lost: list[tuple[Seq, Seq, str]]


class JournalShown(Message):
    """Some of the streams that a service owns. next: there are more."""

    epochs: list[JournalEpoch]
    next: StreamPlace | None = Field(default=None, exclude_if=is_absent)


AUDIT_STREAMS = command(
    "audit",
    AuditStreams,
    AuditedStreams,
    target="recorder",
    name="AUDIT_STREAMS",
    role=Role.VIEWER,
    about="Tells what a recorder has of every stream; `id` is its instance.",
)
SHOW_JOURNAL = command(
    "journal",
    ShowJournal,
    JournalShown,
    target="service",
    name="SHOW_JOURNAL",
    role=Role.VIEWER,
    about="Tells what a service has produced and still has in its journal; `id` is its instance.",
)
AUDIT_COMMANDS: tuple[Command[Any, Any], ...] = (AUDIT_STREAMS, SHOW_JOURNAL)
