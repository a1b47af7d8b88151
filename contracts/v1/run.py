"""Runs: where each stands, and the commands that stop, show and repeat them."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue

from contracts.topic import Topic
from contracts.v1.command import ANY_SCOPE, Command, Failure, command
from contracts.v1.message import CommandMessage, Count, Level, Message, Micros, Millis, Ordinal, is_absent
from contracts.v1.policy import Role

RUN_EXPIRY_S = 3600
MAX_OUTPUT_BYTES = 2000
"""A node's output beyond this is told by its size alone."""
MAX_RATE_HZ = 5
"""So often a second, at most, is a run's state published."""


class RunStatus(StrEnum):
    """Where a run is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class NodeStatus(StrEnum):
    """Where a node of a run is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


class NodeState(Message):
    """How a node stands. tries: so far. output: by port; null if it is longer than 2 kB, then size tells its bytes.

    error: why the last try failed, or why it was skipped though it had to be done.
    """

    state: NodeStatus
    started: Millis | None = Field(default=None, exclude_if=is_absent)
    ended: Millis | None = Field(default=None, exclude_if=is_absent)
    tries: Count = 0
    output: dict[Level, JsonValue] | None = Field(default=None, exclude_if=is_absent)
    size: Count | None = Field(default=None, exclude_if=is_absent)
    error: Failure | None = Field(default=None, exclude_if=is_absent)


class RunTrigger(Message):
    """What started a run. by: the tag, group, event, cron line or run; t: source time of the value that did.

    epoch, seq: of the frame that did: two runs that name the same frame are a repetition after a kill.
    """

    kind: Literal["command", "every", "cron", "frame", "tag", "event", "pipeline", "shadow", "replay"]
    by: str | None = Field(default=None, exclude_if=is_absent)
    t: Micros | None = Field(default=None, exclude_if=is_absent)
    epoch: Ordinal | None = Field(default=None, exclude_if=is_absent)
    seq: Ordinal | None = Field(default=None, exclude_if=is_absent)


class RunState(Message):
    """A run of one version of a pipeline; retained while it is fresh. rev: grows with each message of the run.

    since: when the present state began. user: who asked for the run; absent if a trigger did. position: in the queue,
    from 1; expected_wait_s: until it starts, as far as is known.
    nodes: of the pipeline itself; those inside a loop are told by the loop's output.
    """

    run: Level
    pipeline: Level
    scope: Level
    version: Ordinal
    state: RunStatus
    since: Millis
    started: Millis | None = Field(default=None, exclude_if=is_absent)
    ended: Millis | None = Field(default=None, exclude_if=is_absent)
    trigger: RunTrigger
    user: Level | None = Field(default=None, exclude_if=is_absent)
    position: Ordinal | None = Field(default=None, exclude_if=is_absent)
    expected_wait_s: Annotated[float, Field(ge=0)] | None = Field(default=None, exclude_if=is_absent)
    nodes: dict[Level, NodeState] = Field(default_factory=dict)
    outputs: dict[Level, JsonValue] | None = Field(default=None, exclude_if=is_absent)
    error: Failure | None = Field(default=None, exclude_if=is_absent)
    shadow: bool | None = Field(default=None, exclude_if=is_absent)
    rev: Ordinal


class CancelRun(CommandMessage):
    """Verb `cancel` of a run: it ends now, its nodes and compute tasks with it. reason: for people."""

    reason: Annotated[str, Field(max_length=200)] = ""


class GetRun(CommandMessage):
    """Verb `get` of a run: how it stands."""


class ReplayRun(CommandMessage):
    """Verb `replay` of a run: executes it again from its recorded events, and sends nothing to any device."""


class ReplayDifference(Message):
    """One difference. recorded, replayed: what each gave; absent where there was nothing."""

    node: Level | None = Field(default=None, exclude_if=is_absent)
    what: str
    recorded: JsonValue = Field(default=None, exclude_if=is_absent)
    replayed: JsonValue = Field(default=None, exclude_if=is_absent)


class ReplayResult(Message):
    """What came of it; same if nothing differs. events: how many were read."""

    run: Level
    same: bool
    events: Count
    differences: list[ReplayDifference] = Field(default_factory=list)


CANCEL_RUN = command(
    "cancel",
    CancelRun,
    RunState,
    target="run",
    scope=ANY_SCOPE,
    name="CANCEL_RUN",
    role=Role.OPERATOR,
    about="Stops a run.",
)
GET_RUN = command(
    "get", GetRun, RunState, target="run", scope=ANY_SCOPE, name="GET_RUN", role=Role.VIEWER, about="Shows a run."
)
REPLAY_RUN = command(
    "replay",
    ReplayRun,
    ReplayResult,
    target="run",
    scope=ANY_SCOPE,
    name="REPLAY_RUN",
    role=Role.ENGINEER,
    about="Repeats a recorded run.",
)
RUN_COMMANDS: tuple[Command[Any, Any], ...] = (CANCEL_RUN, GET_RUN, REPLAY_RUN)

RUN = Topic(
    name="RUN",
    pattern="run/{scope}/{pipeline}/{run}",
    payload=RunState,
    retain=True,
    expiry_s=RUN_EXPIRY_S,
    writers=("orchestrator",),
    about="How a run and each of its nodes stand; at most five messages a second.",
)
