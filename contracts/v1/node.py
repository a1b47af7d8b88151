"""The nodes of a pipeline: what one step does, what it needs, and what happens when it fails.

A node's inputs are named, and each is a reference to what another node gives: `inputs: {x: level.value}`. Fixed values
stand in `constants`. Both together are what the node works with.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from contracts.duration import Duration
from contracts.topic import LEVEL_PATTERN
from contracts.v1.message import Level, Number, Ordinal, Scalar, is_absent

INPUTS, TRIGGER, ITEM, STATE, OUTER = "inputs", "trigger", "item", "state", "outer"
RESERVED = frozenset({INPUTS, TRIGGER, ITEM, STATE, OUTER})
"""First words of a reference that are no node's name: the run's inputs and trigger, and what a loop gives its nodes."""

Reference = Annotated[
    str,
    Field(
        pattern=f"^{LEVEL_PATTERN}\\.{LEVEL_PATTERN}$",
        examples=["level.value", "inputs.speed", "trigger.value", "item.value", "state.n", "outer.k"],
    ),
]
"""`node.port`; or a reserved word and a name: `inputs.speed`, `trigger.value`, and inside a loop `item.value`,
`item.index` (for_each), `state.n` (while), `outer.k` (an input of the loop)."""

Predecessor = Annotated[str, Field(pattern=f"^{LEVEL_PATTERN}(\\.(then|else))?$", examples=["home", "high.then"])]
"""A node, or a branch of a condition: `high.then`, `high.else`."""

TagPath = Annotated[str, Field(pattern=f"^{LEVEL_PATTERN}/{LEVEL_PATTERN}$", examples=["filler-plc/tank-level"])]
"""`device/tag`."""

Expression = Annotated[str, Field(min_length=1, max_length=1000)]
"""A formula over the node's inputs and constants; docs/pipelines.md tells the language."""

Positive = Annotated[Duration, Field(gt=0, le=86400)]
Names = dict[Level, Reference]
Constants = dict[Level, JsonValue]

DEFAULT_TIMEOUT_S = 30.0
CALL_TIMEOUT_S = 60.0


class DefinitionPart(BaseModel):
    """A part of a definition: an unknown key is refused, since to ignore it could do harm."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Retry(DefinitionPart):
    """How often a node is tried in all, and how long it waits in between: `first`, then each time `factor` times that.

    No wait is longer than a minute.
    """

    tries: Annotated[int, Field(ge=1, le=20)] = 3
    first: Positive = 1.0
    factor: Annotated[Number, Field(ge=1, le=10)] = 2


ONCE = Retry(tries=1)


class NodeFields(DefinitionPart):
    """What every node has.

    title: for people. after: nodes (or branches of conditions) that must be done first though they give no value.
    join: `all`: the node is skipped as soon as one of those it needs was skipped or is a branch not taken. `any`: it
        runs once all of them are settled and at least one is done; an input that is missing then is null.
    timeout: of one try. retry: absent means three tries for read and compute, and one for all others: a write or a call
        is never repeated unless the pipeline says so.
    on_error: when the last try has failed: `fail` the run, `skip` the node (and what needs it), or go on with the
        values of `default`, which then names every output that something uses.
    cache: outputs are used again for so long while the inputs are the same; for read, call and compute.
    """

    default_timeout_s: ClassVar[float | None] = DEFAULT_TIMEOUT_S
    default_retry: ClassVar[Retry] = ONCE

    title: str = ""
    after: list[Predecessor] = Field(default_factory=list)
    join: Literal["all", "any"] = "all"
    timeout: Positive | None = Field(default=None, exclude_if=is_absent)
    retry: Retry | None = Field(default=None, exclude_if=is_absent)
    on_error: Literal["fail", "skip", "default"] = "fail"
    default: Constants | None = Field(default=None, exclude_if=is_absent)
    cache: Positive | None = Field(default=None, exclude_if=is_absent)

    @property
    def timeout_s(self) -> float | None:
        """Seconds that one try may take; None: as long as the run may."""
        return self.default_timeout_s if self.timeout is None else self.timeout

    @property
    def retries(self) -> Retry:
        """How often it is tried."""
        return self.retry or self.default_retry


class FedNode(NodeFields):
    """A node that works with values. inputs: from other nodes; constants: fixed ones; a name stands in one of both."""

    inputs: Names = Field(default_factory=dict)
    constants: Constants = Field(default_factory=dict)


class ReadNode(NodeFields):
    """The value of a tag. source: `last` known one (from the tag's topic), or asked of the `device` now.

    Gives: value (null while its quality is bad), q (192 good, 64 uncertain, 0 bad), t (microseconds since 1970 UTC).
    """

    default_retry: ClassVar[Retry] = Retry()

    type: Literal["read"]
    tag: TagPath
    source: Literal["last", "device"] = "last"


class WriteNode(FedNode):
    """Writes `value` (an input or a constant) to a tag. The gateway checks range and right, and reads it back.

    expect: what tags of the same device must be just before, else nothing is written.
    Gives: value (what was written), read_back (what the device then held).
    """

    type: Literal["write"]
    tag: TagPath
    expect: dict[Level, Scalar] | None = Field(default=None, exclude_if=is_absent)


class CallNode(FedNode):
    """Runs a function of a device, such as `home` of a servo axis; inputs and outputs are the function's ports."""

    default_timeout_s: ClassVar[float | None] = CALL_TIMEOUT_S

    type: Literal["call"]
    device: Level
    function: Level


class ComputeNode(FedNode):
    """Runs a function of the compute service, such as `fft`; inputs and outputs are the function's ports.

    version: absent means the one that is loaded.
    """

    default_retry: ClassVar[Retry] = Retry()

    type: Literal["compute"]
    function: Level
    version: str | None = Field(default=None, exclude_if=is_absent)


class ExpressionNode(FedNode):
    """Calculates a value. Gives: value."""

    type: Literal["expression"]
    expression: Expression


class ConditionNode(FedNode):
    """A fork: nodes `after: [name.then]` run if `when` is true, nodes `after: [name.else]` if it is not."""

    type: Literal["condition"]
    when: Expression


class DeriveNode(FedNode):
    """Publishes `value` (an input or a constant) as a tag of its own, which HMIs read like any other.

    tag: its device is a name that no gateway's device has; no other node may give the same tag.
    q: an input or a constant named `q` is its quality; without it the value is good.
    Gives: value.
    """

    type: Literal["derive"]
    tag: TagPath
    unit: str | None = Field(default=None, exclude_if=is_absent)


class AlarmNode(FedNode):
    """Raises an alarm when `when` has been true for `delay`, and clears it when `clear` is true.

    alarm: its name in the workspace. priority: 1 (act at once) to 4 (to know). clear: absent means `when` is false;
    another limit keeps the alarm from coming and going. text: what the operator reads. limit: shown beside the value;
    the value shown is the first of the inputs. An alarm that has cleared stays until it is acknowledged.
    Gives: active (whether it is raised now).
    """

    type: Literal["alarm"]
    alarm: Level
    priority: Annotated[int, Field(ge=1, le=4)] = 3
    when: Expression
    clear: Expression | None = Field(default=None, exclude_if=is_absent)
    delay: Annotated[Duration, Field(ge=0, le=86400)] = 0.0
    text: Annotated[str, Field(min_length=1, max_length=200)]
    limit: Number | None = Field(default=None, exclude_if=is_absent)


class DelayNode(NodeFields):
    """Waits. Gives nothing: what is to wait stands `after` it."""

    default_timeout_s: ClassVar[float | None] = None

    type: Literal["delay"]
    duration: Positive


class PipelineNode(FedNode):
    """Runs another pipeline of the workspace and waits for its end. inputs: those of that pipeline.

    version: absent means the one that is live. Gives: run (its name), and the outputs of that pipeline.
    """

    default_timeout_s: ClassVar[float | None] = None

    type: Literal["pipeline"]
    pipeline: Level
    version: Ordinal | None = Field(default=None, exclude_if=is_absent)


class ForEachNode(FedNode):
    """Runs its own `nodes` once for each of `items`.

    concurrency: how many of them at the same time. most: more items than this fail the node. output: what each of them
    gives; without it nothing is collected. Inside: item.value, item.index (from 0), outer.NAME (an input or constant).
    Gives: values (in the order of the items; null where it was skipped), count.
    """

    default_timeout_s: ClassVar[float | None] = None

    type: Literal["for_each"]
    items: Reference
    concurrency: Annotated[int, Field(ge=1, le=100)] = 4
    most: Annotated[int, Field(ge=1, le=10_000)] = 1000
    nodes: "Nodes"
    output: Reference | None = Field(default=None, exclude_if=is_absent)


class WhileNode(FedNode):
    """Runs its own `nodes` again and again while `when` is true.

    state: values that last from round to round, with their first value. when: over the state and the inputs, looked at
    before each round. next: what becomes of the state after a round; what is not named stays. most: rounds; the node
    fails if `when` is still true after them. Inside: state.NAME, outer.NAME for an input or constant.
    Gives: the state by its names, rounds (how many there were).
    """

    default_timeout_s: ClassVar[float | None] = None

    type: Literal["while"]
    when: Expression
    most: Annotated[int, Field(ge=1, le=10_000)] = 100
    state: Constants = Field(default_factory=dict)
    nodes: "Nodes"
    next: Names = Field(default_factory=dict)


Node = Annotated[
    ReadNode
    | WriteNode
    | CallNode
    | ComputeNode
    | ExpressionNode
    | ConditionNode
    | DeriveNode
    | AlarmNode
    | DelayNode
    | PipelineNode
    | ForEachNode
    | WhileNode,
    Field(discriminator="type"),
]
Nodes = Annotated[dict[Level, Node], Field(min_length=1)]

ForEachNode.model_rebuild()
WhileNode.model_rebuild()
