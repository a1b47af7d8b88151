"""What goes between the compute service and its workers: one function called with its inputs, and what came of it.

Frames of MessagePack with their length before them, over pipes: a worker is never believed further than its answers can
be decoded.
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from plugins.api.ports import PortLike

LENGTH_BYTES = 4


Fault = Literal["invalid", "compute_failed"]
"""What a worker can find, as the contracts name it: the inputs are to blame, or the function."""


class Port(msgspec.Struct, frozen=True):
    """See contracts.v1.function.PortInfo, which takes too long to import for a worker that is to be there at once."""

    type: str
    items: str | None = None
    unit: str | None = None
    range: tuple[float, float] | None = None
    optional: bool = False


class Ports(msgspec.Struct, frozen=True):
    """What a function takes and gives."""

    inputs: dict[str, Port]
    outputs: dict[str, Port]


class Source(msgspec.Struct, frozen=True):
    """A version of a plugin: its id, the folder that holds exactly this version, and what its manifest says.

    memory_mb: the greatest that one of its functions asks for; 0 if none does.
    """

    plugin: str
    folder: str
    entry: str
    functions: dict[str, Ports]
    memory_mb: int = 0


class Load(msgspec.Struct, frozen=True, tag="load"):
    """The first that a worker hears: what it shall be able to compute, and how long an answer may be.

    most_memory_mb: the greatest memory_mb of a job that it will get.
    """

    sources: tuple[Source, ...]
    most_bytes: int
    most_memory_mb: int


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """The worker is warm. refused: why a plugin could not be loaded, by its id."""

    refused: dict[str, str]


class Job(msgspec.Struct, frozen=True, tag="job"):
    """One call. memory_mb: MiB that the function may take beyond what its process holds."""

    plugin: str
    function: str
    inputs: dict[str, Any]
    memory_mb: int


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """What came of a job, and how many seconds it took.

    outputs: None if it failed; then fault and message say why. spent: the process is to be replaced,
    since the call has left it in a state that could harm the next. fatal: as a crash would have done.
    """

    seconds: float
    outputs: dict[str, Any] | None = None
    fault: Fault | None = None
    message: str = ""
    spent: bool = False
    fatal: bool = False


ToWorker = Load | Job
FromWorker = Loaded | Answer

_ENCODER = msgspec.msgpack.Encoder()
_TO_WORKER: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_FROM_WORKER: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)


def ports(given: Mapping[str, PortLike]) -> dict[str, Port]:
    """The ports of a manifest as a worker gets them."""
    return {name: Port(one.type, one.items, one.unit, one.range, one.optional) for name, one in given.items()}


def packed(message: ToWorker | FromWorker) -> bytes:
    """The message as a frame. Raises OverflowError on an integer beyond 64 bits, TypeError on what is no JSON value."""
    data = _ENCODER.encode(message)
    return len(data).to_bytes(LENGTH_BYTES) + data


def to_worker(data: bytes) -> ToWorker:
    """The message in a frame, without its length. Raises msgspec.DecodeError."""
    return _TO_WORKER.decode(data)


def from_worker(data: bytes) -> FromWorker:
    """The message in a frame, without its length. Raises msgspec.DecodeError."""
    return _FROM_WORKER.decode(data)
