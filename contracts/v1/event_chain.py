"""Whether the events that a recorder keeps are those that it stored: its chain of links, checked piece by piece."""

from typing import Annotated, Literal

from pydantic import Field

from contracts.v1.command import command
from contracts.v1.message import CommandMessage, Count, Message, Micros, is_absent
from contracts.v1.policy import Role

MOST_ANCHORS = 100

CheckPlace = Annotated[str, Field(pattern=r"^[cns]\.[0-9]{1,19}\.[0-9]{1,19}$")]
"""Where an answer ended: given back as it came, the next one goes on from there."""
FaultKind = Literal["changed", "removed", "inserted", "cut"]
Number = Count


class Anchor(Message):
    """A delivery and its link, kept elsewhere. number: of the delivery. link: its SHA-256, hex."""

    number: Annotated[int, Field(ge=1, lt=1 << 63)]
    link: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class VerifyEvents(CommandMessage):
    """Verb `verify` of the event store: checks a piece of the chain, for about a second.

    anchors: links of the chain that were kept elsewhere; compared in the answer to the first question. after: `next`
    of the answer before.
    """

    anchors: Annotated[list[Anchor], Field(max_length=MOST_ANCHORS)] = Field(default_factory=list)
    after: CheckPlace | None = Field(default=None, exclude_if=is_absent)


class ChainFault(Message):
    """Something in the event store that is not as it was stored. delivery: the number of the row, if it is of one.

    kind: `changed`, `removed`, `inserted` (a row), `cut` (the end or an earlier state is not that of the anchor).
    text: which row, for a person.
    """

    kind: FaultKind
    text: str
    delivery: Number | None = Field(default=None, exclude_if=is_absent)


class Removal(Message):
    """What retention has removed from the beginning of the chain. number: of the last delivery.

    deliveries, events: how many in all. t: when it did so last.
    """

    number: Number
    deliveries: int
    events: int
    t: Micros


class ChainCheck(Message):
    """What a piece of the chain has shown. next: there is more to be checked; all is well if no answer has faults.

    head: the last delivery now, and its link: to be kept elsewhere. checked: deliveries that this answer is about.
    number: the delivery up to which the chain has been checked. unknown: anchors of deliveries that were removed.
    """

    store: str
    faults: list[ChainFault]
    checked: int = 0
    events: int = 0
    number: Number
    head: Anchor | None = Field(default=None, exclude_if=is_absent)
    removed: Removal | None = Field(default=None, exclude_if=is_absent)
    unknown: list[Number] = Field(default_factory=list)
    next: CheckPlace | None = Field(default=None, exclude_if=is_absent)


VERIFY_EVENTS = command(
    "verify",
    VerifyEvents,
    ChainCheck,
    target="events",
    name="VERIFY_EVENTS",
    role=Role.VIEWER,
    about="Checks the chain of the stored events, piece by piece; `id` is the recorder's instance.",
)
