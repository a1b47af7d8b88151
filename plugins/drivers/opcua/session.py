"""The connection to an OPC UA server: asyncua's client with every wait bounded and every error told as the device's."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from asyncua import Client, ua
from asyncua.common.ua_utils import data_type_to_variant_type
from asyncua.ua.uaerrors import UaError

from plugins.api.driver import DeviceError

from .answers import ask, decoded, device_errors, farewell, within
from .chunks import refuse_long_chunks
from .config import Connection, NodeAddress
from .kinds import NodeKind
from .limits import NODES, Limits
from .login import LoginClient, log_in
from .nodes import AddressBook
from .publisher import Publisher
from .values import item_of, readable
from .wire import Item, read_items

_LEAST_PAUSE_S = 0.05
"""However short a lifetime the server gives."""
_SESSION_S = 60.0
"""A server frees the session of a client that died after this; asyncua's own hour would exhaust a PLC's sessions."""


class Session:
    """An open session. limits: what the server takes at once. remarks: what is worth telling though nothing fails.

    time: what the server's clock said when the session was opened, as a tag would show it; None if it does not tell.
    """

    def __init__(self, client: LoginClient, connection: Connection) -> None:
        self.client = client
        self.timeout_s = connection.timeout
        self.url = connection.url
        self.publisher = Publisher(client, url=connection.url)
        self.limits = Limits()
        self.remarks: dict[str, None] = {}
        self.namespaces: Sequence[str] = ()
        self.time: object = None

    async def learn(self) -> None:
        """Learns the namespaces, the limits and the time of the server. Raises DeviceError."""
        await self.read_namespaces()
        answers = await self.read([*NODES, _SERVER_TIME])
        *told, self.time = [None if code >> 31 else value for _, value, code, _ in answers]
        self.limits = Limits.of(told, request_bytes=self.client.request_bytes)

    def remark(self, line: str) -> None:
        """Something to tell once, see plugins.api.driver.Remarks."""
        self.remarks[line] = None

    async def read_namespaces(self) -> Sequence[str]:
        """The URI of each namespace, by index (OPC 10000-5, NamespaceArray). Raises DeviceError."""
        with device_errors(f"{self.url}: namespaces"):
            namespaces = await self.client.get_namespace_array()
            if not isinstance(namespaces, list):
                raise DeviceError(f"{self.url}: the server tells no namespaces", cause="device")
            # Servers leave the place of a namespace that they have dropped empty: null, or no text.
            self.namespaces = [readable(one) if isinstance(one, str) else "" for one in namespaces]
        return self.namespaces

    def address_book(self, addresses: Mapping[str, NodeAddress]) -> AddressBook:
        """The node ids of these. Raises DeviceError, cause config, if the server has none of their namespaces."""
        return AddressBook(addresses, url=self.url, namespaces=self.namespaces, read_namespaces=self.read_namespaces)

    async def read(self, nodes: Sequence[ua.NodeId]) -> list[Item]:
        """The value of each node with its status and time; its handle is its place. In chunks. Raises DeviceError."""
        return await self.read_again(values_of(nodes))

    async def read_again(self, wanted: Sequence[ua.ReadValueId]) -> list[Item]:
        """As read(), for a caller that keeps what values_of() gives: to make it costs more than to send it."""
        numbered = list(enumerate(wanted))
        with device_errors(f"{self.url}: read"):
            return await self.limits.in_parts("read", numbered, self._read)

    async def _read(self, numbered: Sequence[tuple[int, ua.ReadValueId]]) -> list[Item]:
        first = numbered[0][0]
        request = ua.ReadRequest()
        request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
        request.Parameters.NodesToRead = [one for _, one in numbered]
        answer = await ask(self.client, request)
        found = read_items(bytes(answer), first=first)
        if found is None:
            results = decoded(ua.ReadResponse, answer).Results
            found = [item_of(place, data) for place, data in enumerate(results, start=first)]
        return found

    async def attributes(self, nodes: Sequence[ua.NodeId], attribute: ua.AttributeIds) -> list[Any]:
        """This attribute of each node as asyncua decodes it; None where the server tells none. Raises DeviceError."""
        return [None if one is None else one.Value for one in await self._variants(nodes, attribute)]

    async def variants(self, nodes: Sequence[ua.NodeId]) -> list[ua.Variant | None]:
        """The value of each node with its type, structures decoded; None where there is none. Raises DeviceError."""
        return await self._variants(nodes, ua.AttributeIds.Value)

    async def _variants(self, nodes: Sequence[ua.NodeId], attribute: ua.AttributeIds) -> list[ua.Variant | None]:
        async def ask_for(part: Sequence[ua.NodeId]) -> Sequence[ua.DataValue]:
            """One Read (OPC 10000-4, 5.10.2), whose answer has a value or a code for each. Raises UaError."""
            return await self.client.uaclient.read_attributes(list(part), attribute)

        with device_errors(f"{self.url}: {attribute.name}"):
            return [None if _bad(one) else one.Value for one in await self.limits.in_parts("read", nodes, ask_for)]

    async def node_kinds(self, nodes: Sequence[ua.NodeId]) -> list[NodeKind | None]:
        """What each variable holds; None: no such variable, or the server knows not its type. Raises DeviceError."""
        told = await self.attributes(nodes, ua.AttributeIds.DataType)
        declared = [one if isinstance(one, ua.NodeId) else None for one in told]
        ranks = await self.attributes(nodes, ua.AttributeIds.ValueRank)
        built_in: dict[ua.NodeId | None, ua.VariantType | None] = {None: None}
        for data_type in {one for one in declared if one is not None}:
            built_in[data_type] = await self.built_in(data_type)
        return [NodeKind.of(built_in[one], rank) for one, rank in zip(declared, ranks, strict=True)]

    async def built_in(self, data_type: ua.NodeId) -> ua.VariantType | None:
        """The built-in type that values of this data type travel in; None if the server does not tell."""
        with device_errors(f"{self.url}: data type {data_type}"):
            async with within(self.timeout_s):
                try:
                    return await data_type_to_variant_type(self.client.get_node(data_type))
                except UaError:
                    return None  # an answer that helps no further; the other nodes' types are still to be had


def values_of(nodes: Sequence[ua.NodeId]) -> Sequence[ua.ReadValueId]:
    """What is to be read of these nodes: their values."""
    return [_VALUE_OF(NodeId=node, AttributeId=ua.AttributeIds.Value) for node in nodes]


def _bad(data: ua.DataValue) -> bool:
    return data.StatusCode is not None and bool(data.StatusCode.value >> 31)


# asyncua takes plain Python values here, whatever its annotations say.
_NodeId: Any = ua.NodeId
_VALUE_OF: Any = ua.ReadValueId
_SERVER_STATE = _NodeId(ua.ObjectIds.Server_ServerStatus_State)
_SERVER_TIME = _NodeId(ua.ObjectIds.Server_ServerStatus_CurrentTime)


@asynccontextmanager
async def open_session(
    connection: Connection, *, folder: Path = Path(), renew_after: float = 0.75
) -> AsyncIterator[Session]:
    """Connects on entry (DeviceError if that fails) and closes on exit, both within the connection's timeout.

    folder: where the connection's relative paths begin. renew_after: the share of the secure channel's lifetime after
    which it is renewed (OPC 10000-4, 5.5.2.1).
    """
    _quieten()
    client = LoginClient(connection.url, timeout=connection.timeout)
    refuse_long_chunks(client)
    client.name = client.description = "dinrail"
    client.session_timeout = int(_SESSION_S * 1000)
    session = Session(client, connection)
    tasks: list[asyncio.Task[None]] = []
    try:
        with device_errors(f"{connection.url}: connect"):
            async with within(connection.timeout):
                for line in await log_in(client, connection, folder):
                    session.remark(line)
        await session.learn()
        tasks.append(asyncio.create_task(session.publisher.run(), name="opcua publisher"))
        keeping = _keep_alive(client, connection.timeout, renew_after)
        tasks.append(asyncio.create_task(keeping, name="opcua keep-alive"))
        yield session
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await _close(client, connection.timeout)


async def _keep_alive(client: Client, timeout_s: float, renew_after: float) -> None:
    """Keeps session and channel from running out, and breaks off where the server does not answer any more.

    Whoever waits for an answer is then told at once. timeout_s: so often the server is asked, at least.
    """
    now = asyncio.get_running_loop().time
    opened = now()
    try:
        with device_errors("keep-alive"):
            while True:
                # Both times are what the server makes of ours; each renewal may give the channel another.
                renew_s = renew_after * client.secure_channel_timeout / 1000
                pause_s = min(timeout_s, client.session_timeout / 1000 / 3, renew_s)
                await asyncio.sleep(max(pause_s, _LEAST_PAUSE_S))
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
        async with farewell(timeout_s):
            await client.uaclient.close_session(True)
            await client.close_secure_channel()
            client.disconnect_socket()
    finally:
        _break_off(client)


def _quieten() -> None:
    """asyncua tells of every broken connection several times, with tracebacks; we tell it once, as DeviceError.

    Whoever has given its logger a level wants to read that, and does.
    """
    logger = logging.getLogger("asyncua")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL + 1)  # an error that the server sends is CRITICAL to it


def _break_off(client: Client) -> None:
    """Closes the socket without a word, which asyncua leaves open where it has given a connection up by itself."""
    protocol = client.uaclient.protocol
    if protocol is not None and protocol.transport is not None and not protocol.transport.is_closing():
        protocol.transport.abort()
