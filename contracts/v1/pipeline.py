"""Pipelines on the wire: what there is, and the commands that change, start and try them.

The owner is the orchestrator. Every save makes a new version, which never changes; one of them is live, and one may run
as its shadow.
"""

from typing import Annotated, Any

from pydantic import Field, JsonValue

from contracts.topic import Topic
from contracts.v1.command import ANY_SCOPE, Command, command
from contracts.v1.definition import Definition
from contracts.v1.message import CommandMessage, Count, Level, Message, Millis, Ordinal, is_absent
from contracts.v1.policy import Role
from contracts.v1.run import RunStatus

WORKSPACE = "main"
"""The scope of pipelines that come from a folder, unless settings name another."""
ALL_PIPELINES = "all"
"""What stands in the topic of a list in place of a pipeline's name."""
MAX_TEXT = 1 << 18
"""Characters of a definition's text."""

Version = Ordinal


class PipelineInfo(Message):
    """The live version of a pipeline. scope: its workspace. rev: of the definition, see definition.revision().

    saved_by: in whose name it writes. nodes: how many, those in loops among them. triggers: for people to read.
    functions: of the compute service that it needs. shadow: the version that runs beside it with its writes held back.
    problem: why its triggers do not start it though it is enabled.
    """

    pipeline: Level
    scope: Level
    version: Version
    title: str | None = Field(default=None, exclude_if=is_absent)
    enabled: bool
    saved_by: Level
    saved_at: Millis
    rev: str
    nodes: Ordinal
    triggers: list[str] = Field(default_factory=list)
    functions: list[Level] = Field(default_factory=list)
    shadow: Version | None = Field(default=None, exclude_if=is_absent)
    problem: str | None = Field(default=None, exclude_if=is_absent)
    definition: Definition


class SavePipeline(CommandMessage):
    """Verb `save`: the definition becomes the pipeline's next version, and live; refused with every fault it has.

    definition: YAML or JSON text. expect_version: the live version that it replaces, 0 for a new pipeline; another is a
    `conflict`. shadow: the version does not go live but runs beside the live one, its writes recorded and not sent.
    """

    definition: Annotated[str, Field(max_length=MAX_TEXT)]
    expect_version: Count | None = Field(default=None, exclude_if=is_absent)
    shadow: bool = False


class PipelineSaved(Message):
    """The version that is live, or with shadow: true runs as the shadow, from now on."""

    pipeline: Level
    version: Version
    rev: str
    shadow: bool | None = Field(default=None, exclude_if=is_absent)


class GetPipeline(CommandMessage):
    """Verb `get`: a pipeline with its definition. version: absent means the live one."""

    version: Version | None = Field(default=None, exclude_if=is_absent)


class ListPipelines(CommandMessage):
    """Verb `list`: the pipelines of the workspace."""


class PipelineSummary(Message):
    """A line of the list. As in PipelineInfo."""

    pipeline: Level
    version: Version
    title: str | None = Field(default=None, exclude_if=is_absent)
    enabled: bool
    rev: str


class PipelineList(Message):
    """The pipelines of the workspace, by name."""

    pipelines: list[PipelineSummary]


class DeletePipeline(CommandMessage):
    """Verb `delete`: the pipeline goes; runs under way end as they would. expect_version: as in SavePipeline."""

    expect_version: Version | None = Field(default=None, exclude_if=is_absent)


class PipelineDeleted(Message):
    """The pipeline is gone. version: its last one, which its versions still tell."""

    pipeline: Level
    version: Version


class ListVersions(CommandMessage):
    """Verb `versions`: all versions of the pipeline, the newest first."""


class PipelineVersion(Message):
    """A version. live, shadow: what it is now."""

    version: Version
    rev: str
    saved_by: Level
    saved_at: Millis
    live: bool = False
    shadow: bool = False


class PipelineVersions(Message):
    """All versions of a pipeline, the newest first."""

    pipeline: Level
    versions: list[PipelineVersion]


class RollbackPipeline(CommandMessage):
    """Verb `rollback`: a new version with the content of this one is live from now on; a shadow ends.

    Thus what ran as a shadow goes live too, and what was deleted comes back. expect_version: as in SavePipeline.
    """

    version: Version
    expect_version: Count | None = Field(default=None, exclude_if=is_absent)


class RunPipeline(CommandMessage):
    """Verb `run`: starts a run. inputs: of the pipeline. wait: answer when it has ended, not when it is accepted."""

    inputs: dict[Level, JsonValue] = Field(default_factory=dict)
    wait: bool = False


class RunAccepted(Message):
    """The run, and how it stands. position: in the queue, from 1. expected_wait_s: until it starts, as far as is known.

    outputs: of the run that was waited for.
    """

    run: Level
    state: RunStatus
    position: Ordinal | None = Field(default=None, exclude_if=is_absent)
    expected_wait_s: Annotated[float, Field(ge=0)] | None = Field(default=None, exclude_if=is_absent)
    outputs: dict[Level, JsonValue] | None = Field(default=None, exclude_if=is_absent)


class ValidatePipeline(CommandMessage):
    """Verb `validate`: what would be wrong with this definition, if it were saved. definition: YAML or JSON text."""

    definition: Annotated[str, Field(max_length=MAX_TEXT)]


class DefinitionFault(Message):
    """One fault. path: the field, such as nodes.fft.inputs.x; line: from 1; mend: what would be right."""

    path: str
    line: int | None = Field(default=None, exclude_if=is_absent)
    message: str
    mend: str


class Validation(Message):
    """Every fault at once, in the order of their lines; ok if there is none."""

    ok: bool
    faults: list[DefinitionFault] = Field(default_factory=list)


class DiffPipeline(CommandMessage):
    """Verb `diff`: what the shadow would have done otherwise than the live version, since it was saved."""


class Difference(Message):
    """One thing that was done otherwise. live, shadow: what each did; absent where it did nothing.

    run: the live run. what: such as `state`, `outputs`, `write servo/target`.
    """

    run: Level
    node: Level | None = Field(default=None, exclude_if=is_absent)
    what: str
    live: JsonValue = Field(default=None, exclude_if=is_absent)
    shadow: JsonValue = Field(default=None, exclude_if=is_absent)


class PipelineDiff(Message):
    """version: the live one. runs: how many were compared. more: differences beyond those listed."""

    pipeline: Level
    version: Version
    shadow: Version
    runs: Count
    differences: list[Difference] = Field(default_factory=list)
    more: Count = 0


SAVE_PIPELINE = command(
    "save",
    SavePipeline,
    PipelineSaved,
    target="pipeline",
    scope=ANY_SCOPE,
    name="SAVE_PIPELINE",
    role=Role.ENGINEER,
    about="Saves one.",
)
GET_PIPELINE = command(
    "get",
    GetPipeline,
    PipelineInfo,
    target="pipeline",
    scope=ANY_SCOPE,
    name="GET_PIPELINE",
    role=Role.VIEWER,
    about="Shows one.",
)
LIST_PIPELINES = command(
    "list",
    ListPipelines,
    PipelineList,
    target="pipeline",
    scope=ANY_SCOPE,
    name="LIST_PIPELINES",
    role=Role.VIEWER,
    about="Lists the pipelines of a workspace; `id` is `all`.",
)
DELETE_PIPELINE = command(
    "delete",
    DeletePipeline,
    PipelineDeleted,
    target="pipeline",
    scope=ANY_SCOPE,
    name="DELETE_PIPELINE",
    role=Role.ENGINEER,
    about="Removes one.",
)
LIST_VERSIONS = command(
    "versions",
    ListVersions,
    PipelineVersions,
    target="pipeline",
    scope=ANY_SCOPE,
    name="LIST_VERSIONS",
    role=Role.VIEWER,
    about="Lists the versions of a pipeline.",
)
ROLLBACK_PIPELINE = command(
    "rollback",
    RollbackPipeline,
    PipelineSaved,
    target="pipeline",
    scope=ANY_SCOPE,
    name="ROLLBACK_PIPELINE",
    role=Role.ENGINEER,
    about="Makes a version live.",
)
RUN_PIPELINE = command(
    "run",
    RunPipeline,
    RunAccepted,
    target="pipeline",
    scope=ANY_SCOPE,
    name="RUN_PIPELINE",
    role=Role.OPERATOR,
    about="Starts a run.",
)
VALIDATE_PIPELINE = command(
    "validate",
    ValidatePipeline,
    Validation,
    target="pipeline",
    scope=ANY_SCOPE,
    name="VALIDATE_PIPELINE",
    role=Role.ENGINEER,
    about="Looks for faults in a definition.",
)
DIFF_PIPELINE = command(
    "diff",
    DiffPipeline,
    PipelineDiff,
    target="pipeline",
    scope=ANY_SCOPE,
    name="DIFF_PIPELINE",
    role=Role.ENGINEER,
    about="Compares the shadow with the live version.",
)
PIPELINE_COMMANDS: tuple[Command[Any, Any], ...] = (
    SAVE_PIPELINE,
    GET_PIPELINE,
    LIST_PIPELINES,
    DELETE_PIPELINE,
    LIST_VERSIONS,
    ROLLBACK_PIPELINE,
    RUN_PIPELINE,
    VALIDATE_PIPELINE,
    DIFF_PIPELINE,
)

PIPELINE = Topic(
    name="PIPELINE",
    pattern="pipeline/{scope}/{pipeline}",
    payload=PipelineInfo,
    retain=True,
    writers=("orchestrator",),
    about="A pipeline's live version with its definition.",
)
