"""What to do with a batch of messages from the broker: keep, count as duplicate, or set aside. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Protocol

import msgspec

from contracts.codec import MAX_BYTES, ContractError
from contracts.v1.backfill import BACKFILL
from contracts.v1.event import EVENT, EVENT_STREAM
from contracts.v1.event_codec import EventsStruct, Name, decode_events
from contracts.v1.frame import FRAME
from contracts.v1.frame_codec import NO_MESSAGE, HeaderStruct, decode_header
from contracts.v1.message import LAST_SAFE_INTEGER
from services.recorder.events.table import Delivered
from services.recorder.spool.deadletters import DeadLetter
from services.recorder.spool.marks import EpochMarks, Missing, StreamMarks, arrive
from services.runtime.gaps import Announced, Gaps, StreamKey, unannounced

FRAMES, EVENTS = "frame", "event"
"""The kinds of streams."""

CONTRACT = "contract"
"""Why a message is set aside, and its number lost: it breaks its contract."""

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
    epoch: int
    seq: int
    topic: str
    payload: bytes


@dataclass(slots=True)
class Admission:
    """What becomes of a batch.

    kept, events: new messages of frames and of events. marks: those that changed, by stream and epoch. announced: what
    the last live message of a stream has said to come later. bytes: of the frames kept. late: messages kept that came
    as backfill. refused: numbers that are lost, since their message breaks its contract. repeated: how many of each
    stream are had already. known: epochs by stream of which backfill came that is had already: their owner does not
    know it.
    """

    kept: list[Kept] = field(default_factory=list)
    events: list[Delivered] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    marks: dict[StreamKey, dict[int, EpochMarks]] = field(default_factory=dict)
    announced: dict[StreamKey, Announced] = field(default_factory=dict)
    known: dict[StreamKey, set[int]] = field(default_factory=dict)
    missing: list[tuple[StreamKey, Missing]] = field(default_factory=list)
    repeated: Counter[StreamKey] = field(default_factory=Counter)
    bytes: int = 0
    late: int = 0
    refused: int = 0

    @property
    def duplicates(self) -> int:
        """How many messages are had already."""
        return self.repeated.total()


@dataclass(frozen=True, slots=True)
class _Placed:
    """A message, and where it stands in its stream. live: it did not come as backfill. events: in it, if it has any."""

    stream: StreamKey
    header: HeaderStruct
    live: bool
    events: EventsStruct | None = None


class _Outline(msgspec.Struct, frozen=True):
    """What places a message in its stream; the owner of a frame stands in its topic."""

    epoch: Annotated[int, msgspec.Meta(ge=1, le=LAST_SAFE_INTEGER)]
    seq: Annotated[int, msgspec.Meta(ge=1, le=LAST_SAFE_INTEGER)]
    owner: Name | None = None


_OUTLINE = msgspec.json.Decoder(_Outline)


def admit(messages: Iterable[Incoming], known: Mapping[StreamKey, StreamMarks], gaps: Gaps, *, site: str) -> Admission:
    """What to do with the messages, given the marks so far; those stay as they are until the batch is on disk."""
    admission = Admission()
    for message in messages:
        try:
            placed = _placed(message, site)
        except ContractError as error:
            admission.dead.append(DeadLetter(CONTRACT, str(error), message.topic, message.payload))
            _book_lost(admission, message, known, site)
            continue
        if placed.live:
            admission.announced[placed.stream] = placed.header.backlog or ()
        _place(admission, placed, message, known.get(placed.stream, {}), gaps)
    return admission


def _book_lost(admission: Admission, message: Incoming, known: Mapping[StreamKey, StreamMarks], site: str) -> None:
    """Of a message that keeps no contract but says its number, the number is lost: else it would be asked for again,
    and come as it is, for ever.
    """
    found = outlined(message, site)
    if found is None:
        return
    stream, epoch, seq = found
    marks = admission.marks.get(stream, {}).get(epoch) or known.get(stream, {}).get(epoch) or EpochMarks(epoch)
    after = marks.with_lost([(seq, seq, CONTRACT)])
    if after != marks:
        admission.marks.setdefault(stream, {})[epoch] = after
        admission.refused += 1


def outlined(message: Incoming, site: str) -> tuple[StreamKey, int, int] | None:
    """Stream, epoch and number of a message of which nothing else can be relied on; None if it does not say them."""
    topic = message.topic
    frame, late, event = FRAME.parse(topic), BACKFILL.parse(topic), EVENT.parse(topic)
    levels = frame or late or event
    if not levels or levels["site"] != site or len(message.payload) > MAX_BYTES:
        return None
    try:
        outline = _OUTLINE.decode(message.payload)
    except NO_MESSAGE:
        return None
    if frame:
        stream = StreamKey(FRAMES, levels["device"], levels["group"])
    elif late and (late["kind"] == FRAMES or (late["kind"] == EVENTS and outline.owner == late["owner"])):
        stream = StreamKey(levels["kind"], levels["owner"], levels["stream"])
    elif event and outline.owner is not None:
        stream = StreamKey(EVENTS, outline.owner, EVENT_STREAM)
    else:
        return None
    return stream, outline.epoch, outline.seq


def _place(admission: Admission, placed: _Placed, message: Incoming, known: StreamMarks, gaps: Gaps) -> None:
    stream, header = placed.stream, placed.header
    here = admission.marks.get(stream, {})
    arrival = arrive({**_relevant(known, header), **here}, header)
    if arrival.duplicate:
        admission.repeated[stream] += 1
        if not placed.live:
            admission.known.setdefault(stream, set()).add(header.epoch)
        return
    admission.marks.setdefault(stream, {}).update({marks.epoch: marks for marks in arrival.changed})
    if arrival.missing:
        announced = admission.announced.get(stream, gaps.announced(stream))
        admission.missing += [
            (stream, Missing(one.epoch, first, last))
            for one in arrival.missing
            for first, last in unannounced(announced, one.epoch, [(one.first, one.last)])
        ]
    admission.late += not placed.live
    if placed.events is not None:
        admission.events.append(Delivered(stream, placed.events))
    else:
        admission.kept.append(Kept(stream, header.epoch, header.seq, message.topic, message.payload))
        admission.bytes += len(message.payload)


def _relevant(known: StreamMarks, header: HeaderStruct) -> StreamMarks:
    """The epochs that a frame can change; a stream may have thousands."""
    epochs = (header.epoch,) if header.prev is None else (header.epoch, header.prev.epoch)
    return {epoch: known[epoch] for epoch in epochs if epoch in known}


def _placed(message: Incoming, site: str) -> _Placed:
    topic = message.topic
    if levels := FRAME.parse(topic):
        header = decode_header(message.payload, topic=topic)
        placed = _Placed(StreamKey(FRAMES, levels["device"], levels["group"]), header, live=True)
    elif levels := BACKFILL.parse(topic):
        placed = _backfilled(message, StreamKey(levels["kind"], levels["owner"], levels["stream"]))
    elif levels := EVENT.parse(topic):
        events = decode_events(message.payload, topic=topic)
        placed = _Placed(StreamKey(EVENTS, events.owner, EVENT_STREAM), _header(events), live=True, events=events)
    if not levels or levels["site"] != site:
        raise ContractError(f"{topic[:_LONGEST_TOPIC]}: not a topic of frames or events of {site}")
    return placed


def _backfilled(message: Incoming, stream: StreamKey) -> _Placed:
    if stream.kind == FRAMES:
        return _Placed(stream, decode_header(message.payload, topic=message.topic), live=False)
    if stream.kind == EVENTS:
        events = decode_events(message.payload, topic=message.topic)
        if events.owner == stream.owner and stream.name == EVENT_STREAM:
            return _Placed(stream, _header(events), live=False, events=events)
    raise ContractError(f"{message.topic}: not a stream of its owner")


def _header(events: EventsStruct) -> HeaderStruct:
    return HeaderStruct(epoch=events.epoch, seq=events.seq, prev=events.prev, closed=events.closed)
