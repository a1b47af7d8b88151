"""What lies below nodes: Browse and BrowseNext in as few requests as the server allows (OPC 10000-4, 5.8)."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asyncua import ua

from plugins.api.driver import DeviceError

from .answers import device_errors
from .session import Session
from .values import readable

_NodeId: Any = ua.NodeId
_HIERARCHICAL = _NodeId(ua.ObjectIds.HierarchicalReferences)
_HAS_PROPERTY = _NodeId(ua.ObjectIds.HasProperty)
_CLASSES = int(ua.NodeClass.Object | ua.NodeClass.Variable | ua.NodeClass.Method)
_PER_NODE = 1000
"""References per node and answer; the rest is asked for by BrowseNext."""


@dataclass(frozen=True, slots=True)
class Child:
    """A node below another. name: its browse name without the namespace."""

    node: ua.NodeId
    name: str
    kind: ua.NodeClass

    @property
    def is_object(self) -> bool:
        """Whether it only holds others."""
        return self.kind == ua.NodeClass.Object

    @property
    def is_variable(self) -> bool:
        """Whether it has a value."""
        return self.kind == ua.NodeClass.Variable

    @property
    def is_method(self) -> bool:
        """Whether it can be called."""
        return self.kind == ua.NodeClass.Method


async def children(session: Session, nodes: Sequence[ua.NodeId], *, must_exist: bool = False) -> list[list[Child]]:
    """The components of each node, properties apart. must_exist: a node that is missing is a DeviceError."""
    found = []
    for references in await _browse(session, nodes, _HIERARCHICAL, must_exist=must_exist):
        owned = [one for one in references if one.ReferenceTypeId != _HAS_PROPERTY and _is_here(one.NodeId)]
        found.append([Child(_plain(one.NodeId), readable(str(one.BrowseName.Name)), one.NodeClass) for one in owned])
    return found


async def properties(session: Session, nodes: Sequence[ua.NodeId], names: Collection[str]) -> list[Mapping[str, Any]]:
    """The values of the properties with these browse names, of each node those that it has. Raises DeviceError."""
    wanted: list[tuple[int, str, ua.NodeId]] = []
    for place, references in enumerate(await _browse(session, nodes, _HAS_PROPERTY)):
        wanted += [
            (place, str(one.BrowseName.Name), _plain(one.NodeId)) for one in references if one.BrowseName.Name in names
        ]
    values = await session.attributes([node for *_, node in wanted], ua.AttributeIds.Value)
    found: list[dict[str, Any]] = [{} for _ in nodes]
    for (place, name, _), value in zip(wanted, values, strict=True):
        found[place][name] = value
    return list(found)


async def _browse(
    session: Session, nodes: Sequence[ua.NodeId], reference: ua.NodeId, *, must_exist: bool = False
) -> list[list[ua.ReferenceDescription]]:
    """References of each node; nothing of one that is missing. At most limits.browse nodes go into one request."""

    async def ask(part: Sequence[ua.NodeId]) -> Sequence[list[ua.ReferenceDescription]]:
        """One Browse with its BrowseNexts (OPC 10000-4, 5.8.2 and 5.8.3): each node's references, all of them.

        Raises UaError, and DeviceError, cause config, for a missing node that must exist.
        """
        parameters = ua.BrowseParameters()
        parameters.RequestedMaxReferencesPerNode = ua.UInt32(_PER_NODE)
        parameters.NodesToBrowse = [_description(node, reference) for node in part]
        results = list(await session.client.uaclient.browse(parameters))
        found = [await _all(session, result) for result in results]
        for place, result in enumerate(results):
            # The server had no room left to go on with this one later, beside the others; now it has.
            if result.StatusCode.value == ua.StatusCodes.BadNoContinuationPoints and len(part) > 1:
                (found[place],) = await ask(part[place : place + 1])
            elif must_exist and result.StatusCode.value >> 31:
                told = f"{session.url}: browse {part[place].to_string()}: {result.StatusCode.name}"
                raise DeviceError(told, cause="config", code=int(result.StatusCode.value))
        return found

    with device_errors(f"{session.url}: browse"):
        return await session.limits.in_parts("browse", nodes, ask)


def _description(node: ua.NodeId, reference: ua.NodeId) -> ua.BrowseDescription:
    description = ua.BrowseDescription()
    description.NodeId = node
    description.ReferenceTypeId = reference
    description.IncludeSubtypes = True
    description.NodeClassMask = ua.UInt32(_CLASSES)
    description.ResultMask = ua.UInt32(ua.BrowseResultMask.All)
    return description


async def _all(session: Session, result: ua.BrowseResult) -> list[ua.ReferenceDescription]:
    """The result's references and those that the server holds back behind it. Raises UaError if it cannot go on."""
    references = list(result.References or [])
    while result.ContinuationPoint:
        following = ua.BrowseNextParameters()
        following.ReleaseContinuationPoints = False
        following.ContinuationPoints = [result.ContinuationPoint]
        (result,) = await session.client.uaclient.browse_next(following)
        result.StatusCode.check()
        if not result.References:
            raise ua.UaError("the server says that there is more, and gives nothing")
        references += result.References
    return references


def _is_here(node: ua.NodeId) -> bool:
    """Whether it is a node of this server (OPC 10000-4, 7.16: others have a server index)."""
    return not getattr(node, "ServerIndex", 0)


def _plain(node: ua.NodeId) -> ua.NodeId:
    """An expanded node id of this server as a node id, so that equal ones are equal."""
    plain: ua.NodeId = _NodeId(node.Identifier, node.NamespaceIndex, node.NodeIdType)
    return plain
