"""Commands and their replies: request/response over MQTT 5 (OASIS MQTT 5.0, 4.10)."""

from enum import StrEnum

from pydantic import Field

from contracts.topic import Topic
from contracts.v1.message import CommandMessage, Level, Message, Micros, Value, is_absent

DEFAULT_DEADLINE_S = 5
REPLY_EXPIRY_S = 60


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


class Read(CommandMessage):
    """Verb `read` of a device: the values as the device gives them now, not as they were last polled.

    group: which poll group; absent means all of them.
    """

    group: Level | None = Field(default=None, exclude_if=is_absent)


class ReadResult(Message):
    """The values of a device by tag, each null where the device gave none, and the time of the oldest reading."""

    t: Micros
    values: dict[Level, Value]


class Reply(Message):
    """The answer to a command: ok with a result, or not ok with an error."""

    ok: bool
    result: ReadResult | None = Field(default=None, exclude_if=is_absent)
    error: Failure | None = Field(default=None, exclude_if=is_absent)


COMMAND = Topic(
    name="COMMAND",
    pattern="cmd/{user}/{target}/{scope}/{id}/{verb}/{arg}",
    payload=Read,
    writers=("users",),
    about="A request to the service that owns the target; never retained; message expiry is the deadline.",
)
REPLY = Topic(
    name="REPLY",
    pattern="reply/{user}/{client}",
    payload=Reply,
    expiry_s=REPLY_EXPIRY_S,
    writers=("gateway", "recorder"),
    about="The answer to a command, to the sender's own reply topic.",
)
