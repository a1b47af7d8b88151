"""What is said of a pipeline on the bus. Pure."""

from collections.abc import Callable, Mapping
from typing import Any

from contracts.duration import duration_text
from contracts.v1.definition import (
    CronTrigger,
    Definition,
    EventTrigger,
    EveryTrigger,
    FrameTrigger,
    TagTrigger,
    Trigger,
)
from contracts.v1.node import ComputeNode
from contracts.v1.pipeline import PipelineInfo, PipelineSummary, PipelineVersion
from services.orchestrator.definition.catalogue import Catalogue
from services.orchestrator.definition.level import level_of
from services.orchestrator.pipelines.version import Version


def pipeline_info(version: Version, definition: Definition, *, shadow: Version | None) -> PipelineInfo:
    """The live version, with the number of the one that runs as its shadow."""
    nodes = [node for _, _, node in level_of(definition, Catalogue()).walk()]
    return PipelineInfo(
        pipeline=version.pipeline,
        scope=version.scope,
        version=version.version,
        title=definition.title or None,
        enabled=definition.enabled,
        saved_by=version.saved_by,
        saved_at=version.saved_at,
        rev=version.rev,
        nodes=len(nodes),
        triggers=[trigger_text(trigger) for trigger in definition.triggers],
        functions=sorted({node.function for node in nodes if isinstance(node, ComputeNode)}),
        shadow=shadow.version if shadow else None,
        definition=definition,
    )


def summary_of(info: PipelineInfo) -> PipelineSummary:
    """The pipeline as a line of a list."""
    return PipelineSummary(
        pipeline=info.pipeline, version=info.version, title=info.title, enabled=info.enabled, rev=info.rev
    )


def version_of(version: Version, *, live: bool, shadow: bool) -> PipelineVersion:
    """The version as a line of the list of all versions."""
    return PipelineVersion(
        version=version.version,
        rev=version.rev,
        saved_by=version.saved_by,
        saved_at=version.saved_at,
        live=live,
        shadow=shadow,
    )


def trigger_text(trigger: Trigger) -> str:
    """A trigger in words."""
    return _TEXTS[type(trigger)](trigger)


def _event(trigger: EventTrigger) -> str:
    wanted = trigger.event
    return f"on {wanted.type or 'any event'} of {wanted.aggregate}{f' {wanted.id}' if wanted.id else ''}"


_TEXTS: Mapping[type, Callable[[Any], str]] = {
    EveryTrigger: lambda trigger: f"every {duration_text(trigger.every)}",
    CronTrigger: lambda trigger: f"at {trigger.cron} ({trigger.zone})",
    FrameTrigger: lambda trigger: f"on {trigger.deliver} frame of {trigger.frame}",
    TagTrigger: lambda trigger: f"on {trigger.deliver} change of {trigger.tag}",
    EventTrigger: _event,
}
