"""Tasks: one execution of a compute function, asked by the orchestrator and shared among the compute services.

The asker names a response topic and correlation data (OASIS MQTT 5.0, 4.10). One of the compute services gets the task
by `$share/compute/...` and answers with Replies whose result is a TaskReport: `taken` within a second or `unavailable`
at once; later `done`, `failed` or `cancelled`.
"""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, JsonValue

from contracts.topic import Topic
from contracts.v1.command import ANY_SCOPE, Command, Failure, command
from contracts.v1.message import CommandMessage, Level, Message, Millis, Ordinal, is_absent
from contracts.v1.policy import Role

COMPUTE_GROUP = "compute"
"""The share name of the compute services' subscription."""
TAKEN_WITHIN_S = 1.0


class Task(Message):
    """One execution. version: absent means whichever is loaded. attempt: from 1; a task is published again when nobody
    took it, or when the one who did has died and the function is pure.

    cache_s: how old an answer may be that was computed before for equal inputs; absent means as the service is set up.
    """

    task: Level
    function: Level
    version: str | None = Field(default=None, exclude_if=is_absent)
    inputs: dict[Level, JsonValue]
    attempt: Ordinal
    deadline: Millis
    cache_s: Annotated[float, Field(gt=0)] | None = Field(default=None, exclude_if=is_absent)


class TaskStatus(StrEnum):
    """What a compute service says of a task."""

    TAKEN = "taken"
    UNAVAILABLE = "unavailable"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class TaskReport(Message):
    """The result in a Reply to a task; it is there though the reply is not ok, which all but taken and done are.

    instance: the compute service that says so. outputs, seconds (of execution), cached: of a task that is done.
    error: the reply's, of one that failed.
    """

    task: Level
    state: TaskStatus
    instance: Level
    attempt: Ordinal
    outputs: dict[Level, JsonValue] | None = Field(default=None, exclude_if=is_absent)
    error: Failure | None = Field(default=None, exclude_if=is_absent)
    seconds: Annotated[float, Field(ge=0)] | None = Field(default=None, exclude_if=is_absent)
    cached: bool | None = Field(default=None, exclude_if=is_absent)


class CancelTask(CommandMessage):
    """Verb `cancel` of a task: its worker is stopped. Only the service that has it answers."""


class CallFunction(CommandMessage):
    """Verb `call` of a compute function, through the orchestrator. inputs: by port."""

    inputs: dict[Level, JsonValue] = Field(default_factory=dict)
    version: str | None = Field(default=None, exclude_if=is_absent)


class FunctionResult(Message):
    """What the function gave, by port; seconds of execution; cached: it was known already."""

    function: Level
    outputs: dict[Level, JsonValue]
    seconds: Annotated[float, Field(ge=0)]
    cached: bool = False


CANCEL_TASK = command(
    "cancel",
    CancelTask,
    TaskReport,
    target="task",
    name="CANCEL_TASK",
    senders=("orchestrator",),
    about="Stops a task that was taken.",
)
CALL_FUNCTION = command(
    "call",
    CallFunction,
    FunctionResult,
    target="function",
    scope=ANY_SCOPE,
    name="CALL_FUNCTION",
    role=Role.ENGINEER,
    about="Runs a compute function.",
)
TASK_COMMANDS: tuple[Command[Any, Any], ...] = (CANCEL_TASK, CALL_FUNCTION)

TASK = Topic(
    name="TASK",
    pattern="task/{function}",
    payload=Task,
    writers=("orchestrator",),
    about="One execution of a compute function; message expiry is the deadline.",
)
