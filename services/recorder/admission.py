"""What to do with a batch of messages from the broker: keep, count as duplicate, or set aside. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from contracts.codec import ContractError
from contracts.v1.frame import FRAME
from contracts.v1.frame_codec import HeaderStruct, decode_header
from contracts.v1.message import LAST_SAFE_INTEGER
from services.recorder.deadletters import DeadLetter
from services.recorder.marks import EpochMarks, Missing, StreamKey, StreamMarks, arrive

_LONGEST_TOPIC = 300
"""Of what is said of a topic; one outside our grammar may have 64 kB."""


class Incoming(Protocol):
    """A message as the intake gives it."""

    @property
    def topic(self) -> str:
        """The topic it came on."""
        ...

    @property
    def payload(self) -> bytes:
        """Its content."""
        ...


@dataclass(frozen=True, slots=True)
class Kept:
    """A message for the spool."""

    stream: StreamKey
    topic: str
    payload: bytes


@dataclass(slots=True)
class Admission:
    """What becomes of a batch. marks: those that changed, by stream and epoch. bytes: of the payloads kept."""

    kept: list[Kept] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    marks: dict[StreamKey, dict[int, EpochMarks]] = field(default_factory=dict)
    missing: list[tuple[StreamKey, Missing]] = field(default_factory=list)
    duplicates: int = 0
    bytes: int = 0


def admit(messages: Iterable[Incoming], known: Mapping[StreamKey, StreamMarks], *, site: str) -> Admission:
    """What to do with the messages, given the marks so far; those stay as they are until the batch is on disk."""
    admission = Admission()
    for message in messages:
        try:
            stream = _stream(message.topic, site)
            header = _header(message)
        except ContractError as error:
            admission.dead.append(DeadLetter("contract", str(error), message.topic, message.payload))
            continue
        _place(admission, stream, header, message, known.get(stream, {}))
    return admission


def _place(
    admission: Admission, stream: StreamKey, header: HeaderStruct, message: Incoming, known: StreamMarks
) -> None:
    here = admission.marks.get(stream, {})
    arrival = arrive({**_relevant(known, header), **here}, header)
    if arrival.duplicate:
        admission.duplicates += 1
        return
    admission.marks.setdefault(stream, {}).update({marks.epoch: marks for marks in arrival.changed})
    admission.missing += [(stream, missing) for missing in arrival.missing]
    admission.kept.append(Kept(stream, message.topic, message.payload))
    admission.bytes += len(message.payload)


def _relevant(known: StreamMarks, header: HeaderStruct) -> StreamMarks:
    """The epochs that a frame can change; a stream may have thousands."""
    epochs = (header.epoch,) if header.prev is None else (header.epoch, header.prev.epoch)
    return {epoch: known[epoch] for epoch in epochs if epoch in known}


def _stream(topic: str, site: str) -> StreamKey:
    levels = FRAME.parse(topic)
    if levels is None or levels["site"] != site:
        raise ContractError(f"{topic[:_LONGEST_TOPIC]}: not a topic of frames of {site}")
    return StreamKey("frame", levels["device"], levels["group"])


def _header(message: Incoming) -> HeaderStruct:
    header = decode_header(message.payload, topic=message.topic)
    prev = header.prev
    numbers = (header.epoch, header.seq, *((prev.epoch, prev.last_seq) if prev else ()))
    if max(numbers) > LAST_SAFE_INTEGER:
        raise ContractError(f"{message.topic}: $.epoch, $.seq, $.prev: an integer beyond 2^53 - 1")
    return header
