"""How much a server takes at once (OPC 10000-5, 6.3.11, OperationLimits), as it tells and as it shows."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar

from asyncua import ua
from asyncua.ua.uaerrors import UaStatusCodeError

T = TypeVar("T")
R = TypeVar("R")
Kind = Literal["read", "browse", "monitor"]

CHUNK = 500
"""What we ask for at once where the server sets no limit: messages stay far below the usual 64 KiB chunks times ten."""
_NODE_BYTES = 256
"""What a node takes in a request: the larger of our requests with a node id of some 150 characters."""
_TOO_MUCH = frozenset(
    {
        ua.StatusCodes.BadTooManyOperations,
        ua.StatusCodes.BadRequestTooLarge,
        ua.StatusCodes.BadResponseTooLarge,
        ua.StatusCodes.BadEncodingLimitsExceeded,
        ua.StatusCodes.BadTcpMessageTooLarge,
    }
)
"""How a server refuses a request for its size alone: many have limits that they do not tell."""


@dataclass(slots=True)
class Limits:
    """Most nodes per request of each kind: the server's own limits, or CHUNK if that is less or it has none."""

    read: int = CHUNK
    browse: int = CHUNK
    monitor: int = CHUNK

    @classmethod
    def of(cls, told: Sequence[object], *, request_bytes: int = 0) -> "Limits":
        """From the values of NODES, in their order; 0 or anything else than a number is no limit.

        request_bytes: the largest message that the server takes; 0 is no limit.
        """
        most = max(1, min(CHUNK, request_bytes // _NODE_BYTES)) if request_bytes else CHUNK
        return cls(*(min(most, one) if isinstance(one, int) and one > 0 else most for one in told))

    async def in_parts(
        self, kind: Kind, items: Sequence[T], ask: Callable[[Sequence[T]], Awaitable[Sequence[R]]]
    ) -> list[R]:
        """What ask() gives for each item, asked in parts of this limit; a part that is refused as too large is halved.

        Raises what ask() raises, and ValueError where it gives more or fewer results than it was asked for.
        """
        found: list[R] = []
        while len(found) < len(items):
            part = items[len(found) : len(found) + getattr(self, kind)]
            try:
                results = await ask(part)
            except UaStatusCodeError as error:
                if error.code not in _TOO_MUCH or len(part) == 1:
                    raise
                setattr(self, kind, len(part) // 2)
                continue
            if results is None or len(results) != len(part):
                raise ValueError(f"{len(results or ())} results for {len(part)} nodes")
            found += results
        return found


_NodeId: Any = ua.NodeId
NODES: Sequence[ua.NodeId] = tuple(
    _NodeId(number)
    for number in (
        ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead,
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
