"""A real OPC UA server whose variables tests and the demo plant set; on loopback, and without security, by default."""

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from asyncua import Node, Server, ua
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.user_managers import UserManager

from plugins.api.served import Served

NAMESPACE = "urn:dinrail:simulator"
Scalar: TypeAlias = bool | int | float | str
Held: TypeAlias = Scalar | list[Scalar] | list[float] | list[int]

# asyncua reports each refused request and each client that goes; here both are what is simulated.
logging.getLogger("asyncua").setLevel(logging.CRITICAL)


SERVER_URI = "urn:dinrail:simulator:server"
_POLICIES = [policy for policy in ua.SecurityPolicyType if policy.name.startswith(("Basic256Sha256", "Aes"))]


@dataclass(frozen=True, slots=True)
class Protection:
    """How the server protects itself: its certificate and key, and who may come.

    users: passwords by name. user_certificates: DER of users known by one. With either, nobody else is let in.
    uri: what the server says that it is. clear: whether it also talks without security.
    """

    certificate: Path
    key: Path
    users: Mapping[str, str] = field(default_factory=dict)
    user_certificates: frozenset[bytes] = frozenset()
    uri: str = SERVER_URI
    clear: bool = False


class _Users(UserManager):
    def __init__(self, protection: Protection) -> None:
        self._known = protection

    def get_user(
        self, iserver: object, username: str | None = None, password: str | None = None, certificate: object = None
    ) -> User | None:
        """See asyncua's UserManager; None is nobody."""
        known = self._known
        if not known.users and not known.user_certificates:
            return User(role=UserRole.User)
        by_name = username is not None and known.users.get(username) == password
        return User(role=UserRole.User) if by_name or certificate in known.user_certificates else None


class OpcUaSimulator(Served):
    """A server with one folder of variables.

    nodes: first value of each variable by name; the node id is nsu=NAMESPACE;s=NAME. A Python float is a Double, an
    int an Int64, unless `types` says another variant type. Every variable may be written by clients.
    earlier_namespaces: URIs that take the indexes before the variables' own, as another program in the PLC may.
    protection: None lets everybody in, in clear. build: adds more to the server's own folder before it starts.
    """

    def __init__(
        self,
        *,
        nodes: Mapping[str, Held],
        types: Mapping[str, ua.VariantType] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        namespace_uri: str = NAMESPACE,
        earlier_namespaces: Sequence[str] = (),
        protection: Protection | None = None,
        build: Callable[[Server, Node, int], Any] | None = None,
    ) -> None:
        self.namespace_uri = namespace_uri
        self._earlier_namespaces = tuple(earlier_namespaces)
        self._protection = protection
        self._build = build
        self._first = dict(nodes)
        self._types = dict(types or {})
        self._host = host
        self._port = port
        self._server: Server | None = None
        self._nodes: dict[str, Node] = {}

    @property
    def url(self) -> str:
        """The endpoint, once entered."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"opc.tcp://{host}:{self._port}/dinrail"

    async def start(self) -> None:
        """Listens; again on the same port after stop()."""
        server = Server(user_manager=_Users(self._protection) if self._protection else None)
        await server.init()
        await self._protect(server)
        server.set_server_name("dinrail simulator")
        for uri in self._earlier_namespaces:
            await server.register_namespace(uri)
        space = await server.register_namespace(self.namespace_uri)
        self._space = space
        self._folder: Node = await server.nodes.objects.add_folder(space, "Simulator")
        for name, value in self._first.items():
            await self.add(name, value)
        if self._build is not None:
            await self._build(server, self._folder, space)
        if not self._port:
            self._port = _free_port(self._host)  # as late as may be: whoever connects somewhere may be given it too
        server.set_endpoint(self.url)
        await server.start()
        self._server = server

    async def _protect(self, server: Server) -> None:
        known = self._protection
        if known is None:
            server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
            return
        await server.set_application_uri(known.uri)
        await server.load_certificate(known.certificate)
        await server.load_private_key(known.key)
        policies = [*([ua.SecurityPolicyType.NoSecurity] if known.clear else []), *_POLICIES]
        server.set_security_policy(policies)

    async def stop(self) -> None:
        """Ends the server; its clients' connections drop."""
        if self._server is not None:
            server, self._server = self._server, None
            await stop_quickly(server)

    async def set(self, name: str, value: Held, *, status: int = 0, source_time: datetime | None = None) -> None:
        """Sets a variable, with a status code other than good if given, and a source time (default: now)."""
        await self.set_many({name: value}, status=status, source_time=source_time)

    async def set_many(
        self, values: Mapping[str, Held], *, status: int = 0, source_time: datetime | None = None
    ) -> None:
        """Sets several variables at one source time."""
        server = self._running()
        time: Any = source_time or datetime.now(UTC)
        for name, value in values.items():
            node = self._nodes[name]
            data = ua.DataValue(
                ua.Variant(value, await self._variant_type(name)),
                ua.StatusCode(ua.UInt32(status)),
                SourceTimestamp=time,
            )
            await server.write_attribute_value(node.nodeid, data)

    async def add(self, name: str, value: Held) -> None:
        """Adds a variable, as a changed PLC program would."""
        node = await self._folder.add_variable(
            ua.NodeId(ua.String(name), ua.Int16(self._space)), name, value, self._types.get(name)
        )
        await node.set_writable()
        self._nodes[name] = node

    async def get(self, name: str) -> Held:
        """The variable's value."""
        held: Held = await self._nodes[name].read_value()
        return held

    async def remove(self, name: str) -> None:
        """Deletes the variable, as a changed PLC program would."""
        await self._running().delete_nodes([self._nodes[name]])

    async def _variant_type(self, name: str) -> ua.VariantType:
        if name not in self._types:
            self._types[name] = await self._nodes[name].read_data_type_as_variant_type()
        return self._types[name]

    def _running(self) -> Server:
        if self._server is None:
            raise RuntimeError("the simulator is not running")
        return self._server


async def stop_quickly(server: Server) -> None:
    """Ends the server without waiting for its clock, which asyncua lets sleep out its second."""
    clock, server.iserver.time_task = server.iserver.time_task, None
    if clock is not None:
        clock.cancel()
        await asyncio.wait([clock])
    await server.stop()


def _free_port(host: str) -> int:
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        return int(probe.getsockname()[1])
