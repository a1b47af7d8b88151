"""The fast way from and to the JSON of Events.

To read an event takes pydantic 12 µs, this 3: a recorder takes in thousands a second. To write four in a message takes
pydantic five times as long, which was a twentieth of a write to a machine. contracts/v1/event.py stays the
contract: a property test holds this codec to it.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from pydantic_core import from_json, to_json

from contracts.codec import MAX_BYTES, ContractError, check_nesting, check_size
from contracts.topic import LEVEL_PATTERN
from contracts.v1.event import TYPE_LENGTH, TYPE_PATTERN
from contracts.v1.frame_codec import NO_MESSAGE, PreviousStruct
from contracts.v1.message import LAST_SAFE_INTEGER

Positive = Annotated[int, msgspec.Meta(ge=1, le=LAST_SAFE_INTEGER)]
# \Z: in Python's patterns, as msgspec takes them, $ lets a line end follow.
Name = Annotated[str, msgspec.Meta(pattern=rf"^{LEVEL_PATTERN}\Z", max_length=63)]


class EventStruct(msgspec.Struct, frozen=True, omit_defaults=True):
    """See contracts.v1.event.Event. data: its JSON, an object."""

    id: str
    aggregate: Name
    aggregate_id: Name
    scope: Name
    version: Positive
    type: Annotated[str, msgspec.Meta(pattern=rf"^{TYPE_PATTERN}\Z", max_length=TYPE_LENGTH)]
    t: Annotated[int, msgspec.Meta(ge=0, le=LAST_SAFE_INTEGER)]
    user: Name | None = None
    cause: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"{}")


class EventsStruct(msgspec.Struct, frozen=True, omit_defaults=True):
    """See contracts.v1.event.Events."""

    owner: Name
    epoch: Positive
    seq: Positive
    events: list[EventStruct]
    prev: PreviousStruct | None = None
    closed: bool | None = None


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(EventsStruct)


def decode_events(data: bytes, *, topic: str) -> EventsStruct:
    """The message in `data`; no number in it is beyond 2^53 - 1 but those in the events' data. Raises ContractError."""
    check_size(data, topic=topic, max_bytes=MAX_BYTES)
    check_nesting(data, topic=topic)
    try:
        message = _DECODER.decode(data)
    except NO_MESSAGE as error:
        raise ContractError(f"{topic}: {error}") from None
    for at, event in enumerate(message.events):
        _check_data(event.data, place=f"{topic}: $.events[{at}].data")
    return message


def event_data(data: Mapping[str, Any]) -> msgspec.Raw:
    """An event's data as JSON; an infinity or NaN in it becomes null. Raises ValueError: something in it is none."""
    return msgspec.Raw(to_json(data, inf_nan_mode="null"))


def encode_events(message: EventsStruct, *, topic: str) -> bytes:
    """The message as UTF-8 JSON; its names and numbers are not checked. Raises ContractError beyond a bound."""
    data = _ENCODER.encode(message)
    check_size(data, topic=topic, max_bytes=MAX_BYTES)
    check_nesting(data, topic=topic)
    return data


def _check_data(data: msgspec.Raw, *, place: str) -> None:
    """By the parser that pydantic has: of a field that it skips, msgspec sees the outlines alone."""
    try:
        content = from_json(bytes(data))
    except ValueError as error:
        raise ContractError(f"{place}: {error}") from None
    if not isinstance(content, dict):
        raise ContractError(f"{place}: not an object")
