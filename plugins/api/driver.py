"""What a driver plugin gives to its host, and what the host promises to the driver.

A driver turns one device file into one open device. It plans the device's tags into the fewest requests, reads a group
when asked, and says honestly what it could not read. It never logs progress, counts, retries a write, publishes,
or waits for a poll to fall due: the gateway wraps it for all of that.

Errors: DeviceError is the device's fault (no answer, refused, broken answer). Anything else that a driver raises is a
bug in the driver; the gateway then restarts that device alone and reports the place.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import BaseModel

from contracts.v1.device import ValueType
from contracts.v1.frame_codec import QualityStruct, WireValue
from plugins.api.clock import Clock
from plugins.api.manifest import FunctionManifest

Value = WireValue


class DeviceError(Exception):
    """The device's fault: it did not answer, refused, or answered nonsense.

    cause: the word that stands in the tags' quality: comm, config, device, ...
    code: Modbus exception code or OPC UA status code, where there is one.
    lost: the connection is gone, so that nothing of the device can be asked before it is opened anew.
    """

    def __init__(self, message: str, *, cause: str = "comm", code: int | None = None, lost: bool = False) -> None:
        super().__init__(message)
        self.cause = cause
        self.code = code
        self.lost = lost


class NotSent(DeviceError):
    """A request has waited for as long as it may: nothing was sent, and nothing will be. why: "it waited for ..."."""

    def __init__(self, why: str) -> None:
        super().__init__(why, cause="busy")


@dataclass(frozen=True, slots=True, kw_only=True)
class TagSpec:
    """One tag as the driver sees it.

    type: type of the value that the driver returns, after scaling.
    source: the driver's own fields of the tag, an instance of the plugin's `tag` model.
    """

    name: str
    type: ValueType
    source: Any
    writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSpec:
    """One poll group: its interval in seconds, its tags, and the driver's own fields (the plugin's `group` model)."""

    name: str
    interval_s: float
    tags: tuple[TagSpec, ...]
    options: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionSpec:
    """A function that the device file names: its inputs and outputs, and the driver's own fields of it.

    source: an instance of the driver's `function` model, see NamesFunctions.
    """

    name: str
    ports: FunctionManifest
    source: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSpec:
    """One device: its groups and the driver's own connection fields (the plugin's `connection` model).

    functions: those that the device file names. folder: relative paths in the device file begin there.
    """

    name: str
    groups: tuple[GroupSpec, ...]
    connection: Any
    functions: tuple[FunctionSpec, ...] = ()
    folder: Path = Path()


@dataclass(frozen=True, slots=True)
class Reading:
    """What one read of one group (or one publishing interval of a subscription) gave.

    t: source time in microseconds since 1970 UTC; for a device without a clock, the arrival of its (last) answer.
    values: every tag of the group (of a subscription: every tag that changed), None where there is no usable value.
        A float32 or float64 tag is always a float, an integer tag always an int, never NaN or infinite.
        Integers may be any size here; the gateway turns those beyond 2^53 - 1 into strings.
    quality: the tags that are not good, and no others; a tag whose value is None stands here with q = 0.
    dt: where a tag has its own source time, its offset from t in microseconds.
    """

    t: int
    values: dict[str, Value]
    quality: Mapping[str, QualityStruct] = field(default_factory=dict)
    dt: Mapping[str, int] = field(default_factory=dict)


class Device(Protocol):
    """An open device. The host never calls two methods of one device at the same time; apart from that are subscribe(),
    call(), Lanes and Revises."""

    async def read(self, group: str) -> Reading:
        """All tags of the group, read now. A refused block or node makes its own tags bad in the Reading.

        Raises DeviceError when nothing could be read. Cancellation leaves the connection usable or closed, never
        out of step.
        """
        ...

    async def write(self, tag: str, value: Value) -> None:
        """Writes one tag, once: never repeated by the driver, whatever happens. Raises DeviceError."""
        ...


@runtime_checkable
class Subscribes(Protocol):
    """A device that can push changes."""

    def subscribes(self, group: str) -> bool:
        """Whether this group is to be subscribed to rather than polled."""
        ...

    def subscribe(self, group: str) -> AsyncIterator[Reading]:
        """Changes as they come, coalesced per publishing interval; the first Reading holds every tag of the group.

        Ends with DeviceError when the connection is lost.
        """
        ...


@runtime_checkable
class Lanes(Protocol):
    """A device of parts that fail apart, such as the units behind one Modbus gateway."""

    def lane(self, group: str) -> str:
        """The part that answers for this group, e.g. "unit 3".

        The host reads the groups of one lane one after the other, those of different lanes at the same time, and
        counts the failures of each lane by itself. A write goes by the lane of the tag's group.
        """
        ...


@runtime_checkable
class Queues(Protocol):
    """A device whose requests may have to wait for those of other devices, as on a serial line that they share."""

    async def write_within(self, tag: str, value: Value, *, seconds: float) -> None:
        """As write(), but nothing is sent later than so many seconds from now: then it raises NotSent, at once."""
        ...


@runtime_checkable
class Revises(Protocol):
    """A device whose groups, tags and functions can change while its connection stays."""

    async def revise(self, device: DeviceSpec) -> None:
        """From now on the device is this one: of the same name, folder and `connection`.

        Groups that are equal in both specs keep their lane, may be read and written meanwhile and go on as if nothing
        had happened, as do calls and subscriptions under way; of all others nothing is asked until this returns.
        Raises DeviceError if that cannot be: the host then closes the device and opens it anew.
        """
        ...


@runtime_checkable
class Calls(Protocol):
    """A device with functions: those that plugin.yaml or the device file names, with their inputs and outputs."""

    async def call(self, function: str, inputs: Mapping[str, Value]) -> Mapping[str, Value]:
        """Runs the function to its end, beside whatever else is asked of the device, and returns its outputs.

        inputs: checked by the host against what names the function; an optional one may be absent. Raises DeviceError.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Something that a device offers, and what a device file would say of it.

    path: its own names (browse names), from below where the browsing began. address: where to browse on, in the
    driver's own form. type, unit, range, writable: of a variable, where the device tells them.
    fields: the driver's own fields of the tag, or of the function. ports: inputs and outputs of a method.
    obstacle: why no tag or function can stand for it; empty if one can. note: worth a comment in the file.
    """

    path: tuple[str, ...]
    address: str
    kind: Literal["folder", "variable", "method"]
    type: ValueType | None = None
    unit: str | None = None
    range: tuple[float, float] | None = None
    writable: bool = False
    fields: Mapping[str, Any] = field(default_factory=dict)
    ports: FunctionManifest | None = None
    obstacle: str = ""
    note: str = ""


@runtime_checkable
class Browses(Protocol):
    """A device that can say what it offers."""

    def browse(self, at: str | None, *, depth: int) -> AsyncIterator[Offer]:
        """What lies below an address, level by level, down to this depth (1: the next level only); each thing once.

        at: None is where the device's own part begins. Raises DeviceError, cause config on an address that is none.
        """
        ...


@runtime_checkable
class Remarks(Protocol):
    """A device that has something to say about how it is served that is no failure: the host logs each line once."""

    def remarks(self) -> Sequence[str]:
        """All that there is to say so far, such as an interval that the server has made longer than asked."""
        ...


@dataclass(frozen=True, slots=True)
class Complaint:
    """A fault in a device file that only the driver can see.

    path: where, from the device file's root, e.g. ("groups", "fast", "tags", "level", "address").
    mend: what would be right.
    """

    path: tuple[str | int, ...]
    message: str
    mend: str


@runtime_checkable
class NamesFunctions(Protocol):
    """A driver whose device files may name functions, under `functions`.

    function: the model (unknown keys refused) of the fields that the driver adds to each.
    """

    function: type[BaseModel]


@runtime_checkable
class Shares(Protocol):
    """A driver whose devices share what can be held open only once: a serial port, a gateway that takes one client."""

    def place(self, device: DeviceSpec) -> str:
        """The same for devices that share it: when the driver is reloaded they leave it and come back together."""
        ...


@dataclass(frozen=True, slots=True)
class PollLoad:
    """What one poll of a group takes: so many requests, and so long on the way to the device, in seconds."""

    requests: int
    seconds: float


@runtime_checkable
class Estimates(Protocol):
    """A driver that knows beforehand what its polls will take."""

    def poll_loads(self, device: DeviceSpec, *, answer_s: float) -> Mapping[str, PollLoad]:
        """Of each group that it polls, by name; without connecting. answer_s: for each answer of the device.

        The device has passed check(). Polls of one place (see Shares) take their times one after the other.
        """
        ...


@runtime_checkable
class ShowsCertificates(Protocol):
    """A driver whose devices prove by a certificate who they are."""

    async def certificates(self, url: str, *, timeout_s: float) -> Sequence[bytes]:
        """The certificate of whoever answers there, in DER, and those that it sends along. Raises DeviceError."""
        ...


class Driver(Protocol):
    """The plugin's entry object: three models for the device file, a check across them, and a way to connect.

    connection, group, tag: models (unknown keys refused) of the fields that the driver adds to a device file's
    `connection`, to each group and to each tag.
    """

    connection: type[BaseModel]
    group: type[BaseModel]
    tag: type[BaseModel]

    def value_type(self, tag: BaseModel) -> ValueType | None:
        """The type of the tag's value after scaling; None if the driver leaves it to the file's `type` field."""
        ...

    def check(self, device: DeviceSpec) -> Sequence[Complaint]:
        """Every fault that the models cannot see: an address out of range, a type that does not fit, ..."""
        ...

    def open(self, device: DeviceSpec, *, clock: Clock) -> AbstractAsyncContextManager[Device]:
        """Connects on entry (DeviceError if that fails) and closes on exit. Deadlines are the driver's: each request
        has the connection's own timeout.
        """
        ...
