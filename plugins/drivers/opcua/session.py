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
_SERVER_STATE = _NodeId(ua.ObjectIds.Server_ServerStatus_State)
_NODE_IDS: Mapping[str, Callable[[str, int], ua.NodeId]] = {
    "i": lambda text, index: _NodeId(int(text), index),
    "s": _NodeId,
    "g": lambda text, index: _NodeId(UUID(text), index),
    "b": lambda text, index: _NodeId(b64decode(text, validate=True), index),
}


@asynccontextmanager
async def open_session(connection: Connection, *, renew_after: float = 0.75) -> AsyncIterator[Session]:
    """Connects on entry (DeviceError if that fails) and closes on exit, both within the connection's timeout.

    renew_after: the share of the secure channel's lifetime after which it is renewed (OPC 10000-4, 5.5.2.1).
    """
    client = Client(connection.url, timeout=connection.timeout)
    client.name = client.description = "dinrail"
    client.session_timeout = int(_SESSION_S * 1000)
    session = Session(client, connection)
    tasks: list[asyncio.Task[None]] = []
    try:
        with device_errors(f"{connection.url}: connect"):
            async with within(connection.timeout):
                await _connect(client)
        await session.read_namespaces()
        tasks.append(asyncio.create_task(session.publisher.run(), name="opcua publisher"))
        renew_s = renew_after * client.secure_channel_timeout / 1000
        pause_s = min(connection.timeout, client.session_timeout / 1000 / 3, renew_s)
        tasks.append(asyncio.create_task(_keep_alive(client, pause_s, renew_s), name="opcua keep-alive"))
        yield session
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await _close(client, connection.timeout)


async def _connect(client: Client) -> None:
    """Opens socket, channel and session (OPC 10000-4, 5.5.2, 5.6.2 and 5.6.3).

    Not by Client.connect(): the tasks that it leaves behind forget monitored items whose node is missing when the
    server comes back, and where a broken connection and the cancellation meet they live on for ever.
    """
    await client.connect_socket()
    await client.send_hello()
    await client.open_secure_channel()
    await client.create_session()
    await client.activate_session()


async def _keep_alive(client: Client, pause_s: float, renew_s: float) -> None:
    """Keeps session and channel from running out, and breaks off where the server does not answer any more.

    Whoever waits for an answer is then told at once.
    """
    now = asyncio.get_running_loop().time
    opened = now()
    try:
        with device_errors("keep-alive"):
            while True:
                await asyncio.sleep(pause_s)
                if now() - opened < renew_s:
                    await client.uaclient.read_attributes([_SERVER_STATE], ua.AttributeIds.Value)
                else:
                    await client.open_secure_channel(renew=True)
                    client.uaclient.revolve_security_token()
                    opened = now()
    except DeviceError:
        _break_off(client)


async def _close(client: Client, timeout_s: float) -> None:
    """Says farewell to a server that listens; what a silent one holds of the session ends with its own timeout."""
    try:
        async with within(min(timeout_s, _FAREWELL_S)):
            await client.uaclient.close_session(True)
            await client.close_secure_channel()
            client.disconnect_socket()
    except (UaError, OSError, TimeoutError):
        return
    finally:
        _break_off(client)


def _break_off(client: Client) -> None:
    """Closes the socket without a word, which asyncua leaves open where it has given a connection up by itself."""
    protocol = client.uaclient.protocol
    if protocol is not None and protocol.transport is not None and not protocol.transport.is_closing():
        protocol.transport.abort()
