"""The connection to an OPC UA server: asyncua's client with every wait bounded and every error told as the device's."""

import asyncio
import logging
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from asyncua import Client, ua
from asyncua.common.ua_utils import data_type_to_variant_type
from asyncua.ua.ua_binary import struct_from_binary
from asyncua.ua.uaerrors import UaError

from plugins.api.driver import DeviceError

from .answers import ask, device_errors, within
from .config import STANDARD_NAMESPACE, Connection, NodeAddress
from .publisher import Publisher
from .values import item_of
from .wire import Item, read_items

CHUNK = 500
"""Nodes per request: servers limit it, 1000 being a usual limit (OPC 10000-5, 6.3.11)."""
# asyncua tells of every broken connection several times, with tracebacks; we tell it once, as DeviceError.
logging.getLogger("asyncua").setLevel(logging.CRITICAL)

_FAREWELL_S = 1.0
_SESSION_S = 60.0
"""A server frees the session of a client that died after this; asyncua's own hour would exhaust a PLC's sessions."""


class Session:
    """An open session."""

    def __init__(self, client: Client, connection: Connection) -> None:
        self.client = client
        self.timeout_s = connection.timeout
        self.url = connection.url
        self.publisher = Publisher(client, url=connection.url)
        self._namespaces: Mapping[str, int] = {}

    async def read_namespaces(self) -> None:
        """Learns the index of each namespace (OPC 10000-5, NamespaceArray), which holds until the session ends."""
        with device_errors(f"{self.url}: namespaces"):
            uris = await self.client.get_namespace_array()
        self._namespaces = {uri: index for index, uri in enumerate(uris)}

    def node_id(self, address: NodeAddress) -> ua.NodeId:
        """The node id with today's namespace index. Raises DeviceError, cause config, if the server lacks the URI."""
        index = 0 if address.uri == STANDARD_NAMESPACE else self._namespaces.get(address.uri)
        if index is None:
            known = ", ".join(sorted(self._namespaces)) or "none"
            raise DeviceError(f"{self.url} has no namespace {address.uri!r}; it has: {known}", cause="config")
        try:
            return _NODE_IDS[address.kind](address.identifier, index)
        except (ValueError, Base64Error) as error:
            raise DeviceError(f"{address} is no node id: {error}", cause="config") from error

    async def read(self, nodes: Sequence[ua.NodeId]) -> list[Item]:
        """The value of each node with its status and time; its handle is its place. In chunks. Raises DeviceError."""
        found: list[Item] = []
        with device_errors(f"{self.url}: read"):
            for start in range(0, len(nodes), CHUNK):
                found += await self._read(nodes[start : start + CHUNK], start)
        if len(found) != len(nodes):
            raise DeviceError(f"{self.url}: read: {len(found)} values for {len(nodes)} nodes", cause="device")
        return found

    async def _read(self, nodes: Sequence[ua.NodeId], first: int) -> list[Item]:
        request = ua.ReadRequest()
        request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
        request.Parameters.NodesToRead = [_VALUE_OF(NodeId=node, AttributeId=ua.AttributeIds.Value) for node in nodes]
        answer = await ask(self.client, request)
        found = read_items(bytes(answer), first=first)
        if found is None:
            results = struct_from_binary(ua.ReadResponse, answer).Results
            found = [item_of(place, data) for place, data in enumerate(results, start=first)]
        return found

    async def node_types(self, nodes: Sequence[ua.NodeId]) -> list[ua.VariantType | None]:
        """The built-in type of each variable's value; None: no such variable, or its type is unknown to the server.

        Raises DeviceError.
        """
        data: list[ua.DataValue] = []
        with device_errors(f"{self.url}: data types"):
            for start in range(0, len(nodes), CHUNK):
                part = list(nodes[start : start + CHUNK])
                data += await self.client.uaclient.read_attributes(part, ua.AttributeIds.DataType)
        declared = [one.Value.Value if one.Value is not None else None for one in data]
        built_in: dict[ua.NodeId | None, ua.VariantType | None] = {None: None}
        for data_type in {one for one in declared if one is not None}:
            built_in[data_type] = await self._built_in(data_type)
        return [built_in[one] for one in declared]

    async def _built_in(self, data_type: ua.NodeId) -> ua.VariantType | None:
        with device_errors(f"{self.url}: data type {data_type}"):
            async with within(self.timeout_s):
                try:
                    return await data_type_to_variant_type(self.client.get_node(data_type))
                except UaError:
                    return None  # an answer that helps no further; the other nodes' types are still to be had


# asyncua takes plain Python values here, whatever its annotations say.
_NodeId: Any = ua.NodeId
_VALUE_OF: Any = ua.ReadValueId
_NODE_IDS: Mapping[str, Callable[[str, int], ua.NodeId]] = {
    "i": lambda text, index: _NodeId(int(text), index),
    "s": _NodeId,
    "g": lambda text, index: _NodeId(UUID(text), index),
    "b": lambda text, index: _NodeId(b64decode(text, validate=True), index),
}


@asynccontextmanager
async def open_session(connection: Connection) -> AsyncIterator[Session]:
    """Connects on entry (DeviceError if that fails) and closes on exit, both within the connection's timeout."""
    # asyncua's own reconnecting is off: it forgets monitored items whose node is missing when the server comes back.
    limit_s = connection.timeout
    client = Client(connection.url, timeout=limit_s, watchdog_intervall=limit_s, auto_reconnect=False)
    client.name = client.description = "dinrail"
    client.session_timeout = int(_SESSION_S * 1000)
    session = Session(client, connection)

    async def on_lost(_error: Exception) -> None:
        # asyncua's watchdog has had no answer for twice the timeout. Whoever waits for one is told at once.
        _break_off(client)

    client.connection_lost_callback = on_lost
    publishing: asyncio.Task[None] | None = None
    try:
        with device_errors(f"{connection.url}: connect"):
            async with within(connection.timeout):
                await client.connect()
        await session.read_namespaces()
        publishing = asyncio.create_task(session.publisher.run(), name="opcua publisher")
        yield session
    finally:
        if publishing is not None:
            publishing.cancel()
            await asyncio.wait({publishing})
        await _close(client, connection.timeout)


async def _close(client: Client, timeout_s: float) -> None:
    try:
        async with within(min(timeout_s, _FAREWELL_S)):
            await client.disconnect()
    except (UaError, OSError, TimeoutError):
        # The server is gone; what it still holds of the session ends with the session's own timeout.
        return
    finally:
        _break_off(client)


def _break_off(client: Client) -> None:
    """Closes the socket without a word, which asyncua leaves open where it has given a connection up by itself."""
    protocol = client.uaclient.protocol
    if protocol is not None and protocol.transport is not None and not protocol.transport.is_closing():
        protocol.transport.abort()
