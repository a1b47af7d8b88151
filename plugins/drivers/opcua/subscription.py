"""A group by subscription: one server-side subscription, one monitored item per tag, a Reading per publication."""

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing

from asyncua import ua

from plugins.api.clock import Clock
from plugins.api.driver import DeviceError, GroupSpec, Reading

from .answers import farewell
from .monitoring import Monitoring
from .nodes import AddressBook
from .publisher import Mailbox
from .readings import readings_of
from .session import Session
from .wire import Item

_PUBLICATIONS = 256
"""Publications that may wait for the gateway; more means that it cannot follow, which ends the subscription loudly."""
_COARSER = 1.05
_NONE_LEFT = frozenset({ua.StatusCodes.BadTooManySubscriptions, ua.StatusCodes.BadServiceUnsupported})
"""How a server says that it takes no further subscription, or, as the smallest do, none at all."""
_LIFETIME_S = 60.0
"""The server gives the subscription of a client that died up after this, or ten times its keep-alive."""


class Subscription:
    """The publications of one group.

    retry_s: how often nodes that the server lacks are asked for again. audit_s: how often each of those that it has is
    asked for, whatever the server tells by itself. read: the whole group, read now.
    """

    def __init__(
        self,
        *,
        session: Session,
        group: GroupSpec,
        book: AddressBook,
        clock: Clock,
        retry_s: float,
        audit_s: float,
        read: Callable[[], Awaitable[Reading]],
    ) -> None:
        self._session = session
        self._read = read
        self._group = group
        self._clock = clock
        self._retry_s = retry_s
        self._audit_s = audit_s
        self._monitoring = Monitoring(session=session, group=group, book=book)
        self._tags = self._monitoring.tags
        self._box = Mailbox(name=f"{session.url}: {group.name}", size=_PUBLICATIONS)
        self._silence_s = 2 * session.timeout_s

    async def readings(self) -> AsyncGenerator[Reading, None]:
        """The first Reading has every tag; then each publication's changes. Raises DeviceError when it ends.

        Where the server has no subscription for it, it is polled, which a remark says: so the other groups have theirs.
        """
        try:
            subscription = await self._create()
        except DeviceError as error:
            if error.code not in _NONE_LEFT:
                raise
            why = ua.StatusCode(ua.UInt32(error.code)).name
            self._session.remark(
                f"group {self._group.name}: the server has no subscription for it ({why}); it is polled"
            )
            while True:
                yield await self._read()
                await asyncio.sleep(self._group.interval_s)
        async with aclosing(self._publications(subscription)) as readings:
            async for reading in readings:
                yield reading

    async def _publications(self, subscription: int) -> AsyncGenerator[Reading, None]:
        monitoring = self._monitoring
        try:
            await monitoring.begin(subscription)
            for reading in self._of(await self._first(monitoring.refused)):
                yield reading
            now = self._clock.monotonic()
            again_at, audit_at = now + self._retry_s, now + self._audit_s / monitoring.audits
            while True:
                items = await self._changes()
                monitoring.hear(items)
                now = self._clock.monotonic()
                if now >= audit_at:
                    items += await monitoring.audit()
                    audit_at = now + self._audit_s / monitoring.audits
                for reading in self._of(items):
                    if reading.quality:
                        monitoring.look_at(reading)
                    yield reading
                if monitoring.incomplete and now >= again_at:
                    await monitoring.repair(subscription)
                    again_at = now + self._retry_s
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
        given_s = made.RevisedPublishingInterval / 1000
        if not 0 <= given_s < math.inf:
            raise DeviceError(f"{self._session.url}: subscribe: a publishing interval of {given_s} s", cause="device")
        self._silence_s = given_s * made.RevisedMaxKeepAliveCount + timeout_s
        if given_s > interval_s * _COARSER:
            self._session.remark(
                f"group {self._group.name}: the server publishes every {given_s:g} s, not every {interval_s:g} s"
            )
        return int(made.SubscriptionId)

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
        # Where the connection is gone, it ends with its lifetime count or with the session.
        async with farewell(self._session.timeout_s):
            await self._session.client.uaclient.delete_subscriptions([subscription])
