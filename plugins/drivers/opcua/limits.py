"""How much a server takes at once (OPC 10000-5, 6.3.11, OperationLimits)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from asyncua import ua

T = TypeVar("T")

CHUNK = 500
"""What we ask for at once where the server sets no limit: messages stay far below the usual 64 KiB chunks times ten."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Most per request of each kind, as we use them: the server's own, or CHUNK if that is less or it has none."""

    read: int = CHUNK
    write: int = CHUNK
    browse: int = CHUNK
    monitor: int = CHUNK

    @classmethod
    def of(cls, told: Sequence[object]) -> "Limits":
        """From the values of NODES, in their order; 0 or anything else than a number is no limit."""
        return cls(*(min(CHUNK, one) if isinstance(one, int) and one > 0 else CHUNK for one in told))


_NodeId: Any = ua.NodeId
NODES: Sequence[ua.NodeId] = tuple(
    _NodeId(number)
    for number in (
        ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead,
        ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerWrite,
        ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse,
        ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall,
    )
)
"""Where a server tells each field of Limits."""
assert len(NODES) == len(fields(Limits))


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in parts of this size, the last one shorter."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
