"""The OPC UA driver: resolves every tag's node once per connection, then polls groups or subscribes to them."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

from asyncua import ua
from pydantic import BaseModel

from contracts.v1.device import ValueType
from plugins.api.clock import Clock
from plugins.api.driver import Complaint, Device, DeviceError, DeviceSpec, GroupSpec, Offer, Reading, TagSpec, Value

from .answers import effect_errors, within
from .browsing import Browsing
from .complaints import complaints
from .config import Connection, Function, Group, Tag
from .kinds import NodeKind
from .login import server_certificates
from .methods import Methods
from .readings import readings_of
from .server_clock import clock_remark
from .session import Session, open_session, values_of
from .subscription import Subscription
from .values import NODE_TYPES, argument_value, variant


class OpcUaDevice:
    """An open OPC UA server. See plugins.api.driver.Device, Subscribes, Revises, Calls, Browses and Remarks."""

    def __init__(self, *, session: Session, spec: DeviceSpec, clock: Clock, retry_s: float, audit_s: float) -> None:
        self._session = session
        self._kinds: dict[str, NodeKind] = {}
        self._clock = clock
        self._retry_s = retry_s
        self._audit_s = audit_s
        self._again_at = clock.monotonic() + retry_s
        self._follow(spec)

    def _follow(self, spec: DeviceSpec) -> None:
        """Raises DeviceError, cause config, if the server has none of the namespaces."""
        tags = {tag.name: tag for group in spec.groups for tag in group.tags}
        self._book = self._session.address_book({name: tag.source.node for name, tag in tags.items()})
        self._tags: Mapping[str, TagSpec] = tags
        self._groups: Mapping[str, GroupSpec] = {group.name: group for group in spec.groups}
        self._methods = Methods(self._session, spec.functions)
        self._polled: dict[str, tuple[int, Sequence[ua.ReadValueId]]] = {}

    async def revise(self, device: DeviceSpec) -> None:
        """Goes by this spec from now on, in the same session; subscriptions that are open go on. Raises DeviceError."""
        before = self._tags
        self._follow(device)
        kept = {name for name, tag in self._tags.items() if before.get(name) == tag}
        self._kinds = {name: kind for name, kind in self._kinds.items() if name in kept}
        await self.learn_types([name for name in self._tags if name not in kept])

    def subscribes(self, group: str) -> bool:
        """Whether the group's mode is subscribe."""
        return bool(self._groups[group].options.mode == "subscribe")

    async def read(self, group: str) -> Reading:
        """All tags of the group, each with its own status and source time. Raises DeviceError if the read failed."""
        if self._book.missing and self._clock.monotonic() >= self._again_at:
            await self._book.look_again()
            self._again_at = self._clock.monotonic() + self._retry_s
        tags = self._groups[group].tags
        known, wanted = self._polled.get(group, (-1, ()))
        if known != self._book.looked:
            wanted = values_of([self._book[tag.name] for tag in tags])
            self._polled[group] = self._book.looked, wanted
        items = await self._session.read_again(wanted)
        (reading,) = readings_of(items, dict(enumerate(tags)), now=self._clock.now_us())
        return reading

    def subscribe(self, group: str) -> AsyncGenerator[Reading, None]:
        """Changes as the server publishes them; the first Reading holds every tag."""
        return Subscription(
            session=self._session,
            group=self._groups[group],
            book=self._book,
            clock=self._clock,
            retry_s=self._retry_s,
            audit_s=self._audit_s,
            read=partial(self.read, group),
        ).readings()

    async def call(self, function: str, inputs: Mapping[str, Value]) -> Mapping[str, Value]:
        """Calls the method that the device file names so. See Methods.call."""
        return await self._methods.call(function, inputs)

    def browse(self, at: str | None, *, depth: int) -> AsyncGenerator[Offer, None]:
        """The address space below a node, or below Objects. See Browsing.offers."""
        return Browsing(self._session).offers(at, depth=depth)

    def remarks(self) -> Sequence[str]:
        """What the server has made of our wishes, and which tags do not fit their nodes."""
        return list(self._session.remarks)

    async def learn_types(self, tags: Sequence[str]) -> None:
        """Asks for their nodes' types, so that a write is one request and what cannot fit is told. DeviceError."""
        for name in tags:
            if name in self._book.missing:
                self._session.remark(f"tag {name}: the server has {self._book.missing[name]}")
        await self._learn(tags)
        for name in tags:
            misfit = self._kinds[name].misfit(self._tags[name].type) if name in self._kinds else None
            if misfit:
                self._session.remark(f"tag {name}: {self._tags[name].source.node} is {misfit}")

    async def write(self, tag: str, value: Value) -> None:
        """Writes the value once, in the node's own data type.

        Raises DeviceError: cause `config` if the node is missing or its type is another, `range` if its type cannot
        hold the value or shows it in another way (nothing is sent then), `device` with the status code if the server
        refuses, `busy` if it does so for now, `comm` if it does not answer, or in a way that leaves open whether it was
        done.
        """
        if tag not in self._kinds:
            await self._learn([tag])  # the node may have come since the connection began
        wanted = self._variant(tag, value)
        try:
            with effect_errors(f"{self._session.url}: write {tag}"):
                async with within(self._session.timeout_s):
                    # Without times and status: many servers refuse a write that sets them (BadWriteNotSupported).
                    there = self._session.client.get_node(self._book[tag])
                    await there.write_attribute(ua.AttributeIds.Value, ua.DataValue(wanted, StatusCode=None))
        except DeviceError as error:
            if error.code == ua.StatusCodes.BadTypeMismatch:
                self._kinds.pop(tag, None)  # the node has perhaps become another: the next write asks for its type
            raise

    def _variant(self, tag: str, value: Value) -> ua.Variant:
        """What is to be sent. Raises DeviceError: see write."""
        kind, node = self._kinds.get(tag), self._tags[tag].source.node
        if kind is None:
            raise DeviceError(f"{tag}: {node} is no variable of the server, or of unknown type", cause="config")
        if not kind.takes(value):
            raise DeviceError(f"{tag}: {node} is {kind}, which {value!r} does not fit", cause="config")
        try:
            wanted = variant(value, kind.type)
        except TypeError as error:
            raise DeviceError(f"{tag}: {error}", cause="config") from error
        except ValueError as error:
            raise DeviceError(f"{tag}: {error}", cause="range") from error
        shown = argument_value(wanted)
        if isinstance(value, str) and shown != value:  # a time, a GUID or bytes: whoever verifies it compares the text
            raise DeviceError(f"{tag}: {value!r} would be read back as {shown!r}; write it so", cause="range")
        return wanted

    async def _learn(self, tags: Sequence[str]) -> None:
        for tag, kind in zip(tags, await self._session.node_kinds([self._book[tag] for tag in tags]), strict=True):
            if kind is not None:
                abstract = kind.type is ua.VariantType.Variant
                self._kinds[tag] = NodeKind(NODE_TYPES[self._tags[tag].type], None) if abstract else kind


class OpcUaDriver:
    """The plugin's entry. See plugins.api.driver.Driver.

    retry_s: how often a subscription asks again for nodes that the server lacks. audit_s: how often for each of those
    that it has, since a server may not tell when they go.
    """

    connection: type[BaseModel] = Connection
    group: type[BaseModel] = Group
    tag: type[BaseModel] = Tag
    function: type[BaseModel] = Function

    def __init__(self, *, retry_s: float = 5.0, audit_s: float = 60.0) -> None:
        self._retry_s = retry_s
        self._audit_s = audit_s

    def value_type(self, tag: BaseModel) -> ValueType | None:
        """None: the server tells its types only once it is connected, so the file says them."""
        assert isinstance(tag, Tag)
        return None

    def check(self, device: DeviceSpec) -> Sequence[Complaint]:
        """What does not fit together: see complaints.py."""
        return list(complaints(device))

    async def certificates(self, url: str, *, timeout_s: float) -> Sequence[bytes]:
        """The certificate that a server shows, and those of authorities that it sends along. Raises DeviceError."""
        return await server_certificates(url, timeout_s=timeout_s)

    def open(self, device: DeviceSpec, *, clock: Clock) -> AbstractAsyncContextManager[Device]:
        """Connects, and resolves the namespaces of every tag."""
        return self._open(device, clock)

    @asynccontextmanager
    async def _open(self, device: DeviceSpec, clock: Clock) -> AsyncIterator[Device]:
        connection = device.connection
        assert isinstance(connection, Connection)
        async with open_session(connection, folder=device.folder) as session:
            opened = OpcUaDevice(
                session=session, spec=device, clock=clock, retry_s=self._retry_s, audit_s=self._audit_s
            )
            off = clock_remark(session.time, clock.now_us())
            if off is not None:
                session.remark(off)
            await opened.learn_types([tag.name for group in device.groups for tag in group.tags])
            yield opened


DRIVER = OpcUaDriver()
