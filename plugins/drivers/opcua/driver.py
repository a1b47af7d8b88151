"""The OPC UA driver: resolves every tag's node once per connection, then polls groups or subscribes to them."""

import math
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from asyncua import ua
from pydantic import BaseModel

from contracts.v1.device import ValueType
from plugins.api.clock import Clock
from plugins.api.driver import Complaint, Device, DeviceError, DeviceSpec, GroupSpec, Reading, Value

from .answers import device_errors, within
from .config import Connection, Group, Tag
from .readings import readings_of
from .session import Session, open_session
from .subscription import Subscription
from .values import NODE_TYPES, variant


class OpcUaDevice:
    """An open OPC UA server. See plugins.api.driver.Device and Subscribes."""

    def __init__(self, *, session: Session, spec: DeviceSpec, clock: Clock, retry_s: float) -> None:
        self._session = session
        self._groups: Mapping[str, GroupSpec] = {group.name: group for group in spec.groups}
        self._tags = {tag.name: tag for group in spec.groups for tag in group.tags}
        self._nodes = {name: session.node_id(tag.source.node) for name, tag in self._tags.items()}
        self._types: dict[str, ua.VariantType] = {}
        self._clock = clock
        self._retry_s = retry_s

    def subscribes(self, group: str) -> bool:
        """Whether the group's mode is subscribe."""
        return bool(self._groups[group].options.mode == "subscribe")

    async def read(self, group: str) -> Reading:
        """All tags of the group, each with its own status and source time. Raises DeviceError if the read failed."""
        tags = self._groups[group].tags
        items = await self._session.read([self._nodes[tag.name] for tag in tags])
        (reading,) = readings_of(items, dict(enumerate(tags)), now=self._clock.now_us())
        return reading

    def subscribe(self, group: str) -> AsyncGenerator[Reading, None]:
        """Changes as the server publishes them; the first Reading holds every tag."""
        return Subscription(
            session=self._session,
            group=self._groups[group],
            nodes=self._nodes,
            clock=self._clock,
            retry_s=self._retry_s,
        ).readings()

    async def learn_types(self) -> None:
        """Asks for the writable nodes' types ahead, so that a write is one request. Raises DeviceError."""
        await self._learn([tag.name for tag in self._tags.values() if tag.writable])

    async def write(self, tag: str, value: Value) -> None:
        """Writes the value once, in the node's own data type.

        Raises DeviceError: cause `config` if the node is missing or its type is another, `range` if its type cannot
        hold the value (nothing is sent then), `device` with the status code if the server refuses, `comm` if it does
        not answer.
        """
        if tag not in self._types:
            await self._learn([tag])  # the node may have come since the connection began
        if tag not in self._types:
            node = self._tags[tag].source.node
            raise DeviceError(f"{tag}: {node} is no variable of the server, or of unknown type", cause="config")
        try:
            wanted = variant(value, self._types[tag])
        except TypeError as error:
            raise DeviceError(f"{tag}: {error}", cause="config") from error
        except ValueError as error:
            raise DeviceError(f"{tag}: {error}", cause="range") from error
        with device_errors(f"{self._session.url}: write {tag}"):
            async with within(self._session.timeout_s):
                # Without times and status: many servers refuse a write that sets them (BadWriteNotSupported).
                node = self._session.client.get_node(self._nodes[tag])
                await node.write_attribute(ua.AttributeIds.Value, ua.DataValue(wanted, StatusCode=None))

    async def _learn(self, tags: Sequence[str]) -> None:
        for tag, kind in zip(tags, await self._session.node_types([self._nodes[tag] for tag in tags]), strict=True):
            if kind is not None:
                abstract = kind is ua.VariantType.Variant
                self._types[tag] = NODE_TYPES[self._tags[tag].type] if abstract else kind


class OpcUaDriver:
    """The plugin's entry. See plugins.api.driver.Driver.

    retry_s: how often a subscription asks again for nodes that the server lacks.
    """

    connection: type[BaseModel] = Connection
    group: type[BaseModel] = Group
    tag: type[BaseModel] = Tag

    def __init__(self, *, retry_s: float = 60.0) -> None:
        self._retry_s = retry_s

    def value_type(self, tag: BaseModel) -> ValueType | None:
        """None: the server tells its types only once it is connected, so the file says them."""
        assert isinstance(tag, Tag)
        return None

    def check(self, device: DeviceSpec) -> Sequence[Complaint]:
        """A subscription without a publishing interval, a queue that must lose values, and fields without effect."""
        return [complaint for group in device.groups for complaint in _complaints(group)]

    def open(self, device: DeviceSpec, *, clock: Clock) -> AbstractAsyncContextManager[Device]:
        """Connects, and resolves the namespaces of every tag."""
        return self._open(device, clock)

    @asynccontextmanager
    async def _open(self, device: DeviceSpec, clock: Clock) -> AsyncIterator[Device]:
        connection = device.connection
        assert isinstance(connection, Connection)
        async with open_session(connection) as session:
            opened = OpcUaDevice(session=session, spec=device, clock=clock, retry_s=self._retry_s)
            await opened.learn_types()
            yield opened


def _complaints(group: GroupSpec) -> Iterator[Complaint]:
    options = group.options
    assert isinstance(options, Group)
    if options.mode == "poll":
        for field in sorted(options.model_fields_set & {"sampling", "queue"}):
            yield Complaint(
                ("groups", group.name, field),
                f"{field} has no effect on a group that is polled",
                "remove it, or write mode: subscribe",
            )
    elif group.interval_s <= 0:
        yield Complaint(
            ("groups", group.name, "interval"),
            "a subscription needs an interval at which the server publishes",
            "write 100ms or more, or mode: poll",
        )
    elif options.sampling and options.queue > 1:  # a queue of 1 says that only the newest value matters
        needed = math.ceil(round(group.interval_s / options.sampling, 6))
        if needed > options.queue:
            yield Complaint(
                ("groups", group.name, "queue"),
                f"the server takes {needed} values between two publications and keeps {options.queue}",
                f"write queue: {needed + 2}, or queue: 1 if only the newest matters",
            )


DRIVER = OpcUaDriver()
