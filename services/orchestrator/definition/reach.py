"""What a pipeline reaches beyond itself, held against the rights of who saves it. Pure.

Its runs read and listen as the orchestrator, which may all: so who is narrowed saves nothing that reaches further.
"""

from collections.abc import Iterator, Mapping

from contracts.policy import is_whole, missing, missing_of_device, missing_of_events
from contracts.v1.command import CALL, PLANT, WRITE
from contracts.v1.definition import Definition, EventFilter, EventTrigger, FrameTrigger, TagTrigger
from contracts.v1.node import (
    CallNode,
    DeriveNode,
    ForEachNode,
    Node,
    PipelineNode,
    ReadNode,
    WhileNode,
    WriteNode,
)
from contracts.v1.policy import Rights

_DEVICE = "device"


def all_nodes(nodes: Mapping[str, Node]) -> Iterator[Node]:
    """All nodes, those in loops among them."""
    for node in nodes.values():
        yield node
        if isinstance(node, ForEachNode | WhileNode):
            yield from all_nodes(node.nodes)


def beyond(definition: Definition, rights: Rights) -> str | None:
    """What these rights lack for the pipeline, as the end of `USER ...`; None if nothing."""
    return next((told for told in _lacks(definition, rights) if told is not None), None)


def _lacks(definition: Definition, rights: Rights) -> Iterator[str | None]:
    for node in all_nodes(definition.nodes):
        if isinstance(node, ReadNode | DeriveNode):
            yield missing_of_device(rights, _device_of(node.tag))
        elif isinstance(node, WriteNode):
            device, _, tag = node.tag.partition("/")
            yield missing(rights, WRITE, {"id": device, "arg": tag})
        elif isinstance(node, CallNode):
            yield missing(rights, CALL, {"id": node.device})
        elif isinstance(node, PipelineNode) and node.version is not None:
            yield _missing_of_version(rights)
    for trigger in definition.triggers:
        if isinstance(trigger, FrameTrigger):
            yield missing_of_device(rights, _device_of(trigger.frame))
        elif isinstance(trigger, TagTrigger):
            yield missing_of_device(rights, _device_of(trigger.tag))
        elif isinstance(trigger, EventTrigger):
            yield _missing_of_filter(rights, trigger.event)


def _missing_of_version(rights: Rights) -> str | None:
    """An old version acts in the name of who saved it then: nobody narrowed may roll back to it, or run it so."""
    told = "has rights to a part of the site: name pipelines without `version`, so that the live one runs"
    return None if is_whole(rights) else told


def _missing_of_filter(rights: Rights, event: EventFilter) -> str | None:
    """A filter that leaves open what the rights narrow lets through more than they do."""
    scope = event.scope or (PLANT if event.aggregate == _DEVICE else None)
    if scope is None:
        return None if rights.workspaces is None else "has rights to some workspaces: name one as `scope` of the event"
    if scope == PLANT and event.aggregate == _DEVICE and event.id is None:
        return None if rights.devices is None else "has rights to some devices: name one as `id` of the event"
    return missing_of_events(rights, scope, event.aggregate, event.id or "")


def _device_of(path: str) -> str:
    return path.partition("/")[0]
