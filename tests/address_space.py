"""OPC UA's own 6000 nodes, made once a process: asyncua makes them for each server, a second of the processor."""

import asyncio
import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from asyncua.server.address_space import AddressSpace, NodeData, NodeManagementService
from asyncua.server.internal_server import InternalServer
from asyncua.server.standard_address_space.standard_address_space import fill_address_space


@contextmanager
def made_once() -> Iterator[None]:
    """Meanwhile every server of this process begins with copies of the same standard nodes."""

    async def load(server: InternalServer, _shelf: Path | None = None) -> None:
        server.aspace._nodes = _Copies(await asyncio.to_thread(_standard_nodes))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InternalServer, "load_standard_address_space", load)
        yield


class _Copies(dict[ua.NodeId, NodeData]):
    """A server's nodes; one of the standard is copied when it is first asked for."""

    def __init__(self, standard: Mapping[ua.NodeId, NodeData]) -> None:
        super().__init__()
        self._standard = standard

    def __missing__(self, key: ua.NodeId) -> NodeData:
        node = self[key] = deepcopy(self._standard[key])
        return node

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or key in self._standard

    def get(self, key: ua.NodeId, default: Any = None) -> Any:
        try:
            return self[key]
        except KeyError:
            return default


@cache
def _standard_nodes() -> Mapping[ua.NodeId, NodeData]:
    space = AddressSpace()
    fill_address_space(NodeManagementService(space))
    gc.collect()
    gc.freeze()  # they stay to the end: no later collection need walk through them
    return space._nodes
