"""A group by subscription: one server-side subscription, one monitored item per tag, a Reading per publication."""

import math
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence

from asyncua import ua
from asyncua.ua.uaerrors import UaError

from plugins.api.clock import Clock
from plugins.api.driver import DeviceError, GroupSpec, Reading, TagSpec

from .answers import device_errors, within
from .publisher import Mailbox
from .readings import readings_of
from .session import CHUNK, Session
from .wire import Item

_PUBLICATIONS = 256
"""Publications that may wait for the gateway; more means that it cannot follow, which ends the subscription loudly."""
_LIFETIME_S = 60.0
"""The server gives the subscription of a client that died up after this, or ten times its keep-alive."""


class Subscription:
    """The publications of one group. retry_s: how often nodes that the server lacks are asked for again."""

    def __init__(
        self, *, session: Session, group: GroupSpec, nodes: Mapping[str, ua.NodeId], clock: Clock, retry_s: float
    ) -> None:
        self._session = session
        self._group = group
        self._nodes = nodes
        self._clock = clock
        self._retry_s = retry_s
        self._tags: Mapping[int, TagSpec] = dict(enumerate(group.tags, start=1))
        self._box = Mailbox(name=f"{session.url}: {group.name}", size=_PUBLICATIONS)
        self._silence_s = 2 * session.timeout_s

    async def readings(self) -> AsyncGenerator[Reading, None]:
        """The first Reading has every tag; then each publication's changes. Raises DeviceError when it ends."""
        subscription = await self._create()
        try:
            refused = await self._monitor(subscription, self._tags)
            for reading in self._of(await self._first(refused)):
                yield reading
            again_at = self._clock.monotonic() + self._retry_s
            while True:
                for reading in self._of(await self._changes()):
                    yield reading
                if refused and self._clock.monotonic() >= again_at:
                    refused = await self._monitor(subscription, refused)
                    again_at = self._clock.monotonic() + self._retry_s
        finally:
            self._session.publisher.forget(subscription)
            await self._delete(subscription)

    async def _create(self) -> int:
        interval_s, timeout_s = self._group.interval_s, self._session.timeout_s
        params = ua.CreateSubscriptionParameters()
        params.RequestedPublishingInterval = interval_s * 1000
        # A publication, if only to say that there is none, comes within the timeout: that is how silence is noticed.
        params.RequestedMaxKeepAliveCount = max(1, math.floor(timeout_s / interval_s))
        lifetime = max(10 * params.RequestedMaxKeepAliveCount, math.ceil(_LIFETIME_S / interval_s))
        params.RequestedLifetimeCount = lifetime
        params.MaxNotificationsPerPublish = 0
        params.PublishingEnabled = True
        made = await self._session.publisher.create(params, self._box)
        keep_alive_s = made.RevisedPublishingInterval / 1000 * made.RevisedMaxKeepAliveCount
        self._silence_s = keep_alive_s + timeout_s
        return int(made.SubscriptionId)

    async def _monitor(self, subscription: int, wanted: Iterable[int]) -> dict[int, int]:
        """Asks for the tags with these handles; returns those that the server refuses, with its status code."""
        handles, refused = list(wanted), {}
        for start in range(0, len(handles), CHUNK):
            part = handles[start : start + CHUNK]
            params = ua.CreateMonitoredItemsParameters()
            params.SubscriptionId = ua.UInt32(subscription)
            params.TimestampsToReturn = ua.TimestampsToReturn.Both
            params.ItemsToCreate = [self._item(handle) for handle in part]
            with device_errors(f"{self._session.url}: monitor"):
                results = await self._session.client.uaclient.create_monitored_items(params)
            for handle, result in zip(part, results, strict=True):
                if result.StatusCode.value >> 31:
                    refused[handle] = int(result.StatusCode.value)
        return refused

    def _item(self, handle: int) -> ua.MonitoredItemCreateRequest:
        options = self._group.options
        item = ua.MonitoredItemCreateRequest()
        item.ItemToMonitor.NodeId = self._nodes[self._tags[handle].name]
        item.ItemToMonitor.AttributeId = ua.AttributeIds.Value
        item.MonitoringMode = ua.MonitoringMode.Reporting
        item.RequestedParameters.ClientHandle = handle
        sampling_s = self._group.interval_s if options.sampling is None else options.sampling
        item.RequestedParameters.SamplingInterval = sampling_s * 1000
        item.RequestedParameters.QueueSize = options.queue
        item.RequestedParameters.DiscardOldest = True
        return item

    async def _first(self, refused: Mapping[int, int]) -> list[Item]:
        """The values that the server sends when a subscription begins, of every tag, one way or another.

        Source: OPC 10000-4, 5.13.1.2: the first publication has the value of each monitored item.
        """
        items: list[Item] = [(handle, None, code, None) for handle, code in refused.items()]
        absent = set(self._tags) - set(refused)
        deadline = self._clock.monotonic() + self._session.timeout_s
        while absent and self._clock.monotonic() < deadline:
            came = await self._changes()
            items += came
            absent -= {handle for handle, *_ in came}
        waiting = int(ua.StatusCodes.BadWaitingForInitialData)
        return items + [(handle, None, waiting, None) for handle in absent]

    async def _changes(self) -> list[Item]:
        """What the next publishing interval brings. Raises DeviceError: connection lost, server silent, we too slow."""
        items: list[Item] = []
        while True:
            given = await self._box.next(self._silence_s)
            if given.ended is not None:
                status = ua.StatusCode(ua.UInt32(given.ended))
                raise DeviceError(f"{self._session.url}: the server ended the subscription: {status}", code=given.ended)
            items += given.items
            if not given.more:
                return items

    def _of(self, items: Sequence[Item]) -> Sequence[Reading]:
        try:
            return readings_of(items, self._tags, now=self._clock.now_us())
        except KeyError as error:
            raise DeviceError(f"{self._session.url}: a value for nothing asked: {error}", cause="device") from error

    async def _delete(self, subscription: int) -> None:
        try:
            async with within(self._session.timeout_s):
                await self._session.client.uaclient.delete_subscriptions([subscription])
        except (UaError, OSError, TimeoutError):
            # The connection is gone; the subscription ends with its lifetime count or with the session.
            return
