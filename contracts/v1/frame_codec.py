"""The fast way from and to the JSON of a Frame.

A frame of 500 values costs pydantic five times as much to encode and three times as much to decode as msgspec; frames
are the one message for which that decides what the box can carry (bench/RESULTS.md). contracts/v1/frame.py stays the
contract: a property test holds this codec to it.
"""

from typing import Annotated

import msgspec

from contracts.codec import MAX_BYTES, ContractError, check_size
from contracts.v1.message import LAST_SAFE_INTEGER

WireValue = bool | int | float | str | list[int | float] | None
Positive = Annotated[int, msgspec.Meta(ge=1, le=LAST_SAFE_INTEGER)]
NotNegative = Annotated[int, msgspec.Meta(ge=0, le=LAST_SAFE_INTEGER)]


class QualityStruct(msgspec.Struct, frozen=True, omit_defaults=True):
    """See contracts.v1.frame.Quality."""

    q: Annotated[int, msgspec.Meta(ge=0, le=255)]
    cause: str
    code: int | None = None


class SampleStruct(msgspec.Struct, frozen=True, omit_defaults=True):
    """See contracts.v1.frame.Sample."""

    t: NotNegative
    v: dict[str, WireValue]
    q: dict[str, QualityStruct] | None = None
    dt: dict[str, int] | None = None
    big: list[str] | None = None


class PreviousStruct(msgspec.Struct, frozen=True, omit_defaults=True):
    """See contracts.v1.frame.Previous."""

    epoch: Positive
    last_seq: NotNegative


class FrameStruct(msgspec.Struct, frozen=True, omit_defaults=True):
    """See contracts.v1.frame.Frame."""

    epoch: Positive
    seq: Positive
    rev: str
    samples: list[SampleStruct]
    prev: PreviousStruct | None = None
    closed: bool | None = None
    backlog: list[tuple[Positive, Positive, Positive]] | None = None


class HeaderStruct(msgspec.Struct, frozen=True, omit_defaults=True):
    """What places a frame in its stream; reading it alone costs a quarter of reading the frame. Events have it too."""

    epoch: Positive
    seq: Positive
    prev: PreviousStruct | None = None
    closed: bool | None = None
    backlog: list[tuple[Positive, Positive, Positive]] | None = None


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(FrameStruct)
_HEADER_DECODER = msgspec.json.Decoder(HeaderStruct)
NO_MESSAGE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises of bytes that are no message; the last for a field nested a thousand levels deep."""


def encode_frame(frame: FrameStruct, *, topic: str) -> bytes:
    """The frame as UTF-8 JSON. The caller has put no NaN or infinity in it: they would arrive as null without quality.

    Raises ContractError beyond the size bound.
    """
    data = _ENCODER.encode(frame)
    check_size(data, topic=topic, max_bytes=MAX_BYTES)
    return data


def decode_frame(data: bytes, *, topic: str) -> FrameStruct:
    """The frame in `data`. Raises ContractError that names the topic and the place."""
    check_size(data, topic=topic, max_bytes=MAX_BYTES)
    try:
        return _DECODER.decode(data)
    except NO_MESSAGE as error:
        raise ContractError(f"{topic}: {error}") from None


def decode_header(data: bytes, *, topic: str) -> HeaderStruct:
    """The header of the frame in `data`; of the samples it only sees that they are JSON. Raises ContractError."""
    check_size(data, topic=topic, max_bytes=MAX_BYTES)
    try:
        return _HEADER_DECODER.decode(data)
    except NO_MESSAGE as error:
        raise ContractError(f"{topic}: {error}") from None


def wire_integer(value: int) -> int | str:
    """The integer as it travels: as a string beyond 2^53 - 1, where JavaScript would round it."""
    return value if -LAST_SAFE_INTEGER <= value <= LAST_SAFE_INTEGER else str(value)
