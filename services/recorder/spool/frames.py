"""Frames as the writer reads them from the spool: decoded, held to their contract, large integers made whole. Pure."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from contracts.codec import ContractError
from contracts.topic import LEVEL_PATTERN
from contracts.v1.frame_codec import FrameStruct, SampleStruct, decode_frame, wire_integer
from contracts.v1.message import LAST_SAFE_INTEGER
from services.recorder.spool.deadletters import DeadLetter

_LEVEL = re.compile(LEVEL_PATTERN)
_INTEGER = re.compile(r"-?[0-9]{1,1000}")
_MOST_NAMES = 200_000


@dataclass(frozen=True, slots=True)
class Spooled:
    """A message as it stands in the spool. id: its place there. topic: for people only."""

    id: int
    device: str
    group: str
    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class DeviceFrame:
    """A frame, and the stream (device, group) that it belongs to."""

    device: str
    group: str
    frame: FrameStruct

    @property
    def values(self) -> int:
        """The number of values in it, those without a usable one among them."""
        return sum(len(sample.v) for sample in self.frame.samples)


class FrameReader:
    """Decodes frames and remembers which names it has held to the grammar, since they repeat in every frame."""

    def __init__(self) -> None:
        self._names: set[str] = set()

    def read_all(self, rows: Iterable[Spooled], dead: list[DeadLetter]) -> Iterator[DeviceFrame]:
        """The frames in order, each decoded when it is asked for. dead: gets a letter for each message that keeps no
        contract.
        """
        for row in rows:
            try:
                yield self.read(row)
            except ContractError as error:
                dead.append(DeadLetter("contract", str(error), row.topic, row.payload, row.id))

    def read(self, row: Spooled) -> DeviceFrame:
        """The frame; tags named in `big` hold integers in it. Raises ContractError that names topic and place."""
        frame = decode_frame(row.payload, topic=row.topic)
        for at, sample in enumerate(frame.samples):
            fault = self._fault(sample)
            if fault:
                raise ContractError(f"{row.topic}: $.samples[{at}]{fault}")
        return DeviceFrame(row.device, row.group, frame)

    def _fault(self, sample: SampleStruct) -> str | None:
        if not self._names.issuperset(sample.v):
            for name in sample.v:
                if not _LEVEL.fullmatch(name):
                    return f".v: {name!r} is no tag name"
            if len(self._names) > _MOST_NAMES:
                self._names.clear()
            self._names.update(sample.v)
        offsets = sample.dt.values() if sample.dt else (0,)
        if sample.t + min(offsets, default=0) < 0 or sample.t + max(offsets, default=0) > LAST_SAFE_INTEGER:
            return ".t: outside the microseconds that travel exactly"
        return _enlarge(sample)


def single(frame: FrameStruct, at: int) -> FrameStruct:
    """The frame with nothing but its value at this place, counted over all samples, as it travels."""
    for sample in frame.samples:
        if at < len(sample.v):
            tag = [*sample.v][at]
            value, qualities, offsets = sample.v[tag], sample.q or {}, sample.dt or {}
            wire = wire_integer(value) if type(value) is int else value
            alone = SampleStruct(
                t=sample.t,
                v={tag: wire},
                q={tag: qualities[tag]} if tag in qualities else None,
                dt={tag: offsets[tag]} if tag in offsets else None,
                big=[tag] if wire is not value else None,
            )
            return FrameStruct(epoch=frame.epoch, seq=frame.seq, rev=frame.rev, samples=[alone])
        at -= len(sample.v)
    raise IndexError(at)


def _enlarge(sample: SampleStruct) -> str | None:
    for tag in sample.big or ():
        value = sample.v.get(tag)
        if value is None:
            continue
        if not isinstance(value, str) or not _INTEGER.fullmatch(value):
            return f".big: {tag!r} holds no integer as a string"
        sample.v[tag] = int(value)
    return None
