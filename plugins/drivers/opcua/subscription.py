"""A group by subscription: one server-side subscription, one monitored item per tag, a Reading per publication."""

import asyncio
import math
from collections.abc import AsyncGenerator, Mapping

from asyncua import ua
from asyncua.ua.uaerrors import UaError

from plugins.api.clock import Clock
from plugins.api.driver import DeviceError, GroupSpec, Reading, TagSpec

from .readings import readings_of
from .session import CHUNK, Session, device_errors

_PUBLICATIONS = 256
"""Publications that may wait for the gateway; more means that it cannot follow, which ends the subscription loudly."""


class Subscription:
    """The publications of one group. The server numbers nothing that we could miss in silence: a full queue is told."""

    def __init__(self, *, session: Session, group: GroupSpec, nodes: Mapping[str, ua.NodeId], clock: Clock) -> None:
        self._session = session
        self._group = group
        self._nodes = nodes
        self._clock = clock
        self._tags: dict[int, TagSpec] = {}
        self._queue: asyncio.Queue[ua.PublishResult] = asyncio.Queue(_PUBLICATIONS)
        self._overflowed = False

    async def readings(self) -> AsyncGenerator[Reading, None]:
        """The first Reading has every tag; then each publication's changes. Raises DeviceError when it ends."""
        subscription_id = await self._create()
        try:
            missing = await self._monitor(subscription_id)
            for reading in await self._first(missing):
                yield reading
            while True:
                for reading in readings_of(self._items(await self._publication()), now=self._clock.now_us()):
                    yield reading
        finally:
            await self._delete(subscription_id)

    async def _create(self) -> int:
        params = ua.CreateSubscriptionParameters()
        params.RequestedPublishingInterval = self._group.interval_s * 1000
        # A publication, if only to say that there is none, comes within the timeout: that is how silence is noticed.
        params.RequestedMaxKeepAliveCount = max(1, math.floor(self._session.timeout_s / self._group.interval_s))
        params.RequestedLifetimeCount = max(30, 10 * params.RequestedMaxKeepAliveCount)
        params.MaxNotificationsPerPublish = 0
        params.PublishingEnabled = True
        with device_errors(f"{self._session.url}: subscribe"):
            async with asyncio.timeout(self._session.timeout_s):
                result = await self._session.client.uaclient.create_subscription(params, self._on_publication)
        return int(result.SubscriptionId)

    async def _monitor(self, subscription_id: int) -> dict[str, ua.StatusCode]:
        """Asks for every tag; returns the tags that the server refuses, with its status."""
        self._tags = dict(enumerate(self._group.tags, start=1))
        refused: dict[str, ua.StatusCode] = {}
        handles = list(self._tags)
        for start in range(0, len(handles), CHUNK):
            part = handles[start : start + CHUNK]
            params = ua.CreateMonitoredItemsParameters()
            params.SubscriptionId = subscription_id
            params.TimestampsToReturn = ua.TimestampsToReturn.Both
            params.ItemsToCreate = [self._item(handle) for handle in part]
            with device_errors(f"{self._session.url}: monitor"):
                async with asyncio.timeout(self._session.timeout_s):
                    results = await self._session.client.uaclient.create_monitored_items(params)
            for handle, result in zip(part, results, strict=True):
                if not result.StatusCode.is_good():
                    refused[self._tags[handle].name] = result.StatusCode
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

    async def _first(self, refused: Mapping[str, ua.StatusCode]) -> list[Reading]:
        """The values that the server sends when a subscription begins, of every tag, one way or another.

        Source: OPC 10000-4, 5.13.1.2: the first publication has the value of each monitored item.
        """
        tags = {tag.name: tag for tag in self._group.tags}
        items = [(tags[name], ua.DataValue(StatusCode=status)) for name, status in refused.items()]
        absent = set(tags) - set(refused)
        deadline = self._clock.monotonic() + self._session.timeout_s
        while absent and self._clock.monotonic() < deadline:
            came = self._items(await self._publication())
            items += came
            absent -= {tag.name for tag, _ in came}
        waiting = ua.StatusCode(ua.UInt32(ua.StatusCodes.BadWaitingForInitialData))
        items += [(tags[name], ua.DataValue(StatusCode=waiting)) for name in absent]
        return list(readings_of(items, now=self._clock.now_us()))

    def _on_publication(self, result: ua.PublishResult) -> None:
        try:
            self._queue.put_nowait(result)
        except asyncio.QueueFull:
            self._overflowed = True

    async def _publication(self) -> ua.PublishResult:
        """The next one. Raises DeviceError when the connection is lost, the server silent, or we too slow."""
        if self._overflowed:
            raise DeviceError(
                f"{self._session.url}: {_PUBLICATIONS} publications of {self._group.name} were not taken in time"
            )
        deadline_s = self._session.timeout_s + max(self._session.timeout_s, 2 * self._group.interval_s)
        waiting = asyncio.create_task(self._queue.get(), name=f"opcua {self._group.name}")
        lost = asyncio.create_task(self._session.lost.wait(), name="opcua lost")
        try:
            await asyncio.wait({waiting, lost}, timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                return waiting.result()
        finally:
            for task in (waiting, lost):
                task.cancel()
            await asyncio.gather(waiting, lost, return_exceptions=True)
        why = "connection lost" if self._session.lost.is_set() else f"no publication within {deadline_s:g} s"
        raise DeviceError(f"{self._session.url}: {why}")

    def _items(self, result: ua.PublishResult) -> list[tuple[TagSpec, ua.DataValue]]:
        items: list[tuple[TagSpec, ua.DataValue]] = []
        for notification in result.NotificationMessage.NotificationData or ():
            if isinstance(notification, ua.StatusChangeNotification):
                raise DeviceError(f"{self._session.url}: the server ended the subscription: {notification.Status}")
            if isinstance(notification, ua.DataChangeNotification):
                items += [(self._tags[item.ClientHandle], item.Value) for item in notification.MonitoredItems]
        return items

    async def _delete(self, subscription_id: int) -> None:
        try:
            async with asyncio.timeout(self._session.timeout_s):
                await self._session.client.uaclient.delete_subscriptions([subscription_id])
        except (UaError, OSError, TimeoutError):
            # The connection is gone; the subscription ends with its lifetime count or with the session.
            return
