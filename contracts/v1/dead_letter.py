"""What a recorder has set aside, as it answers to those who look for it, try it again, or throw it away."""

from typing import Annotated, Any

from pydantic import Field

from contracts.v1.command import Command, command
from contracts.v1.message import CommandMessage, Count, Message, Micros, is_absent
from contracts.v1.policy import Role

MOST_LETTERS = 500
"""Of one answer."""

LetterId = Count
Reason = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]


class LetterChoice(CommandMessage):
    """Which dead letters: those with all that is given. after, to: after < id <= to. limit: of this answer."""

    ids: Annotated[list[LetterId], Field(max_length=MOST_LETTERS)] | None = Field(default=None, exclude_if=is_absent)
    reason: Reason | None = Field(default=None, exclude_if=is_absent)
    after: LetterId = 0
    to: LetterId | None = Field(default=None, exclude_if=is_absent)
    limit: Annotated[int, Field(ge=1, le=MOST_LETTERS)] = 100


class ListLetters(LetterChoice):
    """Verb `deadletters` of a recorder. content: with the first 1000 bytes of each letter's message."""

    content: bool = False


class Letter(Message):
    """A dead letter. t: when it was set aside. topic: of its message. bytes: the message's length.

    reason: a word: `contract` for a message that breaks its contract, `refused` for a value that the history refuses;
    such a letter is a frame with that value alone. detail: for people. content: the message's text, or its beginning.
    """

    id: LetterId
    t: Micros
    reason: str
    detail: str
    topic: str
    bytes: Count
    content: str | None = Field(default=None, exclude_if=is_absent)


class LettersFound(Message):
    """Some of the letters that were asked for, the oldest first. next: there are more after this id.

    counts: how many letters there are for each reason, whatever was asked for. last: the latest letter's id.
    """

    letters: list[Letter]
    counts: dict[str, int] = Field(default_factory=dict)
    last: LetterId = 0
    next: LetterId | None = Field(default=None, exclude_if=is_absent)


class RetryLetters(LetterChoice):
    """Verb `retry` of a recorder: put them back to where they came from. What fails again becomes a new letter."""


class LettersRetried(Message):
    """So many were put back; so many break the contract still and stay. next: there are more after this id."""

    retried: Count
    refused: Count
    next: LetterId | None = Field(default=None, exclude_if=is_absent)


class DiscardLetters(LetterChoice):
    """Verb `discard` of a recorder: they are thrown away."""


class LettersDiscarded(Message):
    """So many were thrown away. next: there are more after this id."""

    discarded: Count
    next: LetterId | None = Field(default=None, exclude_if=is_absent)


LIST_LETTERS = command(
    "deadletters",
    ListLetters,
    LettersFound,
    target="recorder",
    name="LIST_LETTERS",
    role=Role.ENGINEER,
    about="Shows what a recorder has set aside; `id` is its instance.",
)
RETRY_LETTERS = command(
    "retry",
    RetryLetters,
    LettersRetried,
    target="recorder",
    name="RETRY_LETTERS",
    role=Role.ENGINEER,
    about="Puts what a recorder has set aside back to where it came from; `id` is its instance.",
)
DISCARD_LETTERS = command(
    "discard",
    DiscardLetters,
    LettersDiscarded,
    target="recorder",
    name="DISCARD_LETTERS",
    role=Role.ENGINEER,
    about="Throws away what a recorder has set aside; `id` is its instance.",
)
DEAD_LETTER_COMMANDS: tuple[Command[Any, Any], ...] = (LIST_LETTERS, RETRY_LETTERS, DISCARD_LETTERS)
