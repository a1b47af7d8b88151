"""Commands and their replies: request/response over MQTT 5 (OASIS MQTT 5.0, 4.10).

Every command goes to `cmd/{user}/{target}/{scope}/{id}/{verb}/{arg}`: who asks, whom, for what. A verb is one Command
value, which fixes all of these levels but the user and the id (and, for `write`, the tag).
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field, JsonValue, model_validator

from contracts.topic import Topic
from contracts.v1.device import ValueType
from contracts.v1.frame import Quality
from contracts.v1.message import CommandMessage, Level, Message, Micros, Scalar, Value, is_absent
from contracts.v1.policy import Role

DEFAULT_DEADLINE_S = 5
REPLY_EXPIRY_S = 60
PLANT = "plant"
"""The scope of what belongs to no workspace: devices and services."""
ACTING_SERVICES = frozenset({"orchestrator"})
"""Accounts of services that send commands on behalf of users."""
ANY_SCOPE = "{scope}"
"""In a command's pattern: the workspace, which the caller names."""

P = TypeVar("P", bound=BaseModel)
R = TypeVar("R", bound=BaseModel)


class ErrorCode(StrEnum):
    """What went wrong, for a program to act on."""

    INVALID = "invalid"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    FORBIDDEN = "forbidden"
    RATE_LIMITED = "rate_limited"
    TOO_MANY_PIPELINES = "too_many_pipelines"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    DEVICE_UNAVAILABLE = "device_unavailable"
    NOT_WRITABLE = "not_writable"
    OUT_OF_RANGE = "out_of_range"
    PRECONDITION_FAILED = "precondition_failed"
    VERIFY_FAILED = "verify_failed"
    COMPUTE_FAILED = "compute_failed"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


class Failure(Message):
    """Why a command was not done. detail: values that help to mend it, by name."""

    code: ErrorCode
    message: str
    detail: dict[str, Value] = Field(default_factory=dict)


class Reply(Message):
    """The answer to a command: ok with a result, or not ok with an error. result: the verb's result model."""

    ok: bool
    result: dict[str, JsonValue] | None = Field(default=None, exclude_if=is_absent)
    error: Failure | None = Field(default=None, exclude_if=is_absent)


class Read(CommandMessage):
    """Verb `read` of a device: the values as the device gives them now, not as they were last polled.

    group: which poll group; absent means all of them.
    """

    group: Level | None = Field(default=None, exclude_if=is_absent)


class ReadResult(Message):
    """The values of a device by tag, each null where the device gave none, and the time of the oldest reading.

    q: quality of the tags that are not good, and of no others.
    """

    t: Micros
    values: dict[Level, Value]
    q: dict[Level, Quality] | None = Field(default=None, exclude_if=is_absent)


class Write(CommandMessage):
    """Verb `write` of a device; the tag stands in the topic. A bare scalar means {"value": scalar}.

    value: an integer beyond 2^53 - 1 as a string. expect: values that tags of the device must have just before the
    write, else it is refused (`precondition_failed`). on_behalf_of: in whose name; only services may say so.
    """

    value: Scalar
    expect: dict[Level, Scalar] | None = Field(default=None, exclude_if=is_absent)
    on_behalf_of: Level | None = Field(default=None, exclude_if=is_absent)

    @model_validator(mode="before")
    @classmethod
    def _from_scalar(cls, given: object) -> object:
        return {"value": given} if isinstance(given, bool | int | float | str) else given


class WriteResult(Message):
    """The write was done. value: what was written; read_back: what the device then held, t: when it was read."""

    tag: Level
    value: Value
    read_back: Value
    t: Micros


class Call(CommandMessage):
    """Verb `call` of a device: a function that its driver's plugin.yaml names, with its inputs by name.

    on_behalf_of: in whose name; only services may say so.
    """

    function: Level
    inputs: dict[Level, Value] = Field(default_factory=dict)
    on_behalf_of: Level | None = Field(default=None, exclude_if=is_absent)


class CallResult(Message):
    """What the function gave, by name."""

    function: Level
    outputs: dict[Level, Value]


class Browse(CommandMessage):
    """Verb `browse` of a device: what it offers below an address, for example below an OPC UA node.

    at: the address in the driver's own form; absent means the device's root. most: entries at the most.
    """

    at: str | None = Field(default=None, exclude_if=is_absent)
    most: Annotated[int, Field(ge=1, le=5000)] = 1000


class BrowseEntry(Message):
    """Something that a device offers. address: as a device file takes it, and as `at` of a further browse."""

    address: str
    name: str
    kind: Literal["folder", "variable", "method"]
    type: ValueType | None = Field(default=None, exclude_if=is_absent)
    unit: str | None = Field(default=None, exclude_if=is_absent)
    writable: bool | None = Field(default=None, exclude_if=is_absent)


class BrowseResult(Message):
    """What there is, in the device's order. more: there is more than was asked for."""

    entries: list[BrowseEntry]
    more: bool = False


class Enable(CommandMessage):
    """Verb `enable` of a device: it runs from now on; stored in its file."""


class Disable(CommandMessage):
    """Verb `disable` of a device: it rests from now on; stored in its file."""


class Put(CommandMessage):
    """Verb `put` of a gateway: this device file is added, or takes the place of the one of the same device.

    file: the text of the device file (YAML). expect_rev: the revision that it replaces; another is a `conflict`.
    probe_s: go back to the file before if the device does not answer within so many seconds.
    """

    file: str
    expect_rev: str | None = Field(default=None, exclude_if=is_absent)
    probe_s: Annotated[float, Field(gt=0, le=60)] | None = Field(default=None, exclude_if=is_absent)


class Delete(CommandMessage):
    """Verb `delete` of a gateway: the device and its file are removed. expect_rev: as in Put."""

    device: Level
    expect_rev: str | None = Field(default=None, exclude_if=is_absent)


class Reload(CommandMessage):
    """Verb `reload` of a plugin host: load a plugin anew from its folder. plugin: its id; absent means all in use."""

    plugin: Level | None = Field(default=None, exclude_if=is_absent)


class ReloadResult(Message):
    """The plugins that were loaded anew: their versions by id. One that could not be is told by an error instead."""

    plugins: dict[Level, str]


class DeviceChange(Message):
    """A device file was stored, changed or removed. rev: its revision now; absent once it is removed."""

    device: Level
    enabled: bool
    rev: str | None = Field(default=None, exclude_if=is_absent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(Topic[P], Generic[P, R]):
    """A verb: a topic of requests and the model of the results in their replies.

    target: what kind of thing is asked: device, gateway, service, pipeline, ...
    role: what a user must be at least to ask; None: no user may. senders: the services that may, under their own names.
    within: who executes it looks within what it asks for at the user's rights. own: `id` is the user's own name.
    """

    target: str
    verb: str
    result: type[R]
    role: Role | None
    senders: tuple[str, ...]
    within: bool
    own: bool


def command(
    verb: str,
    payload: type[P],
    result: type[R],
    *,
    target: str,
    about: str,
    name: str | None = None,
    scope: str = PLANT,
    arg: str = "all",
    role: Role | None = None,
    senders: tuple[str, ...] = (),
    within: bool = False,
    own: bool = False,
) -> Command[P, R]:
    """A verb of a target. scope, arg: these levels, or the name in braces of what the caller puts there.

    role, senders, within, own: see Command; without the first two nobody may ask.
    """
    return Command(
        name=name or verb.upper(),
        pattern=f"cmd/{{user}}/{target}/{scope}/{{id}}/{verb}/{arg}",
        payload=payload,
        writers=("users",),
        about=f"{about} Never retained; message expiry is the deadline.",
        target=target,
        verb=verb,
        result=result,
        role=role,
        senders=senders,
        within=within,
        own=own,
    )


READ = command(
    "read", Read, ReadResult, target="device", role=Role.VIEWER, senders=("orchestrator",), about="Reads a device now."
)
WRITE = command(
    "write",
    Write,
    WriteResult,
    target="device",
    arg="{arg}",
    role=Role.OPERATOR,
    senders=("orchestrator",),
    about="Writes the tag that `arg` names.",
)
CALL = command(
    "call",
    Call,
    CallResult,
    target="device",
    role=Role.OPERATOR,
    senders=("orchestrator",),
    about="Runs a function of a device.",
)
BROWSE = command(
    "browse", Browse, BrowseResult, target="device", role=Role.ENGINEER, about="Lists what a device offers."
)
ENABLE = command("enable", Enable, DeviceChange, target="device", role=Role.ENGINEER, about="Lets a device run.")
DISABLE = command("disable", Disable, DeviceChange, target="device", role=Role.ENGINEER, about="Lets a device rest.")
PUT = command("put", Put, DeviceChange, target="gateway", role=Role.ENGINEER, within=True, about="Changes a device.")
DELETE = command("delete", Delete, DeviceChange, target="gateway", role=Role.ENGINEER, within=True, about="Removes it.")
RELOAD = command(
    "reload", Reload, ReloadResult, target="plugin", role=Role.ENGINEER, about="Loads plugins of a service anew."
)
PLANT_COMMANDS: tuple[Command[Any, Any], ...] = (READ, WRITE, CALL, BROWSE, ENABLE, DISABLE, PUT, DELETE, RELOAD)

REPLY = Topic(
    name="REPLY",
    pattern="reply/{user}/{client}",
    payload=Reply,
    expiry_s=REPLY_EXPIRY_S,
    writers=("gateway", "recorder", "orchestrator", "compute", "identity"),
    about="The answer to a command, to the sender's own reply topic.",
)
