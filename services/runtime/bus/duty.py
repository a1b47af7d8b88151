"""What the bus does while it is connected: subscribes, tells how the service is, carries values, and drains."""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

from contracts.v1.service import ServiceStatus
from services.runtime.bus.courier import Courier
from services.runtime.bus.presence import Announcer
from services.runtime.mqtt.connection import Connection
from services.runtime.mqtt.subscriptions import Subscriptions

DRAIN_S = 5.0
"""How long a stop waits for handlers, and then for retained values to go out."""


class Duty:
    """The same at each connection. hooks: are called after each connect. stopping: ends the work, once drained."""

    def __init__(
        self, *, subscriptions: Subscriptions, announcer: Announcer, courier: Courier, stopping: asyncio.Event
    ) -> None:
        self.hooks: list[Callable[[], None]] = []
        self._subscriptions = subscriptions
        self._announcer = announcer
        self._courier = courier
        self._stopping = stopping

    async def prepare(self, connection: Connection) -> None:
        """What comes before anybody else may use the connection."""
        await self._subscriptions.connect(connection)
        await self._announcer.publish(connection)

    async def work(self, connection: Connection) -> None:
        """Works until the connection breaks, or until it is to stop and everything has gone out."""
        for hook in self.hooks:
            hook()
        courier = asyncio.create_task(self._courier.run(connection), name="bus.courier")
        settling = asyncio.create_task(self._subscriptions.keep_settled(), name="bus.subscribing")
        sweeping = asyncio.create_task(self._subscriptions.keep_swept(), name="bus.sweeping")
        stopping = asyncio.create_task(self._stopping.wait(), name="bus.stopping")
        tasks = (courier, settling, sweeping, stopping)
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                await task  # it ends with the connection, or crashes
            await stopping
            await self._drain(connection)
        finally:
            await _end(tasks)

    async def _drain(self, connection: Connection) -> None:
        for drain in (self._subscriptions.drain, self._courier.wait_empty):
            with suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_S):
                    await drain()
        self._announcer.change(ServiceStatus.OFFLINE)
        await self._announcer.publish(connection)


async def _end(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancels the tasks until they have ended: a cancellation that meets an answer is lost in asyncio.wait_for (before
    Python 3.12)."""
    while any(not task.done() for task in tasks):
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=0.1)
    await asyncio.gather(*tasks, return_exceptions=True)
