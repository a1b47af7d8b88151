"""What of a stream a recorder holds on its disk: the mark up to which its owner may trim the journal."""

from pydantic import Field

from contracts.topic import Topic
from contracts.v1.message import Message, Ordinal, is_absent

Seq = Ordinal


class StoredEpoch(Message):
    """One epoch of a stream.

    have: closed ranges [from, to] of sequence numbers committed to the recorder's disk, ascending, not touching.
    lost: ranges that will never come, with the reason.
    closed: the stream said that this epoch is at its end.
    """

    epoch: Seq
    have: list[tuple[Seq, Seq]]
    lost: list[tuple[Seq, Seq, str]] = Field(default_factory=list)
    closed: bool | None = Field(default=None, exclude_if=is_absent)


class Stored(Message):
    """What a recorder holds of one stream. store: UUID made with the recorder's database."""

    store: str
    epochs: list[StoredEpoch]


STORED = Topic(
    name="STORED",
    pattern="stored/{recorder}/{kind}/{owner}/{stream}",
    payload=Stored,
    retain=True,
    writers=("recorder",),
    about="What of a stream is committed to a recorder's disk; kind is frame or event.",
)
