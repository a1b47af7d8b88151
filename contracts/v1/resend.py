"""How who misses messages of a stream asks its owner for them."""

from typing import Any

from pydantic import Field

from contracts.v1.command import Command, command
from contracts.v1.message import CommandMessage, Level, Message
from contracts.v1.stored import Seq

UNKNOWN = "unknown"
"""The reason of what was lost where who was asked knows nothing of it: its journal was begun anew, or is another's."""


class Resend(CommandMessage):
    """Verb `resend` of a stream's owner: send what of these numbers the journal still holds, as BACKFILL.

    stream: the poll group of a device, or the event stream of a service. ranges: closed ranges [from, to].
    """

    stream: Level
    epoch: Seq
    ranges: list[tuple[Seq, Seq]]


class ResendResult(Message):
    """What will be sent, and what the journal does not hold any more, with the reason."""

    sending: list[tuple[Seq, Seq]]
    gone: list[tuple[Seq, Seq, str]] = Field(default_factory=list)


RESEND = command(
    "resend",
    Resend,
    ResendResult,
    target="device",
    senders=("recorder", "orchestrator"),
    about="Sends frames again out of the journal.",
)
RESEND_EVENTS = command(
    "resend",
    Resend,
    ResendResult,
    target="service",
    name="RESEND_EVENTS",
    senders=("recorder",),
    about="Sends events of a service again out of its journal.",
)
RESEND_COMMANDS: tuple[Command[Any, Any], ...] = (RESEND, RESEND_EVENTS)
