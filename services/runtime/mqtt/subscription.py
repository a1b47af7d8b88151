"""Messages from the reader to their handlers: each subscription has its own queue, so that a slow one delays nobody."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import BaseModel

from contracts.codec import ContractError, decode
from contracts.topic import Topic, TopicError
from plugins.api.clock import Clock
from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.mqtt.delivery import BusError, Delivery
from services.runtime.queue import BoundedQueue, QueueClosed
from services.runtime.throttle import Throttle

Overflow = Literal["drop_oldest", "refuse"]
"""What a full queue gives up. It cannot block: that would hold up every other handler."""

Handler = Callable[[Delivery[Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is subscribed to, and how its messages are handled.

    taker: is called with each message as it arrives, in place of a handler, and never waits. raw: the handler gets
    bytes. timeout_s: how long one message may take; None: the handler sees to it. workers: how many messages are
    handled at the same time; with more than one their order is lost.
    sweep: of commands, a filter over all of the kind. Retained ones are not sent on subscribing but given as `planted`
    some time later, and one that was published retained says so.
    """

    topic: Topic[Any]
    filter: str
    handler: Handler | None = None
    taker: Callable[[Delivery[bytes]], None] | None = None
    raw: bool = False
    queue_size: int = 1000
    overflow: Overflow = "drop_oldest"
    timeout_s: float | None = 5.0
    workers: int = 1
    sweep: str | None = None


class Subscription:
    """One filter, its queue and its handler. hire: starts one more task that runs work().

    A task is started when a message finds none free: a gateway of many devices serves thousands of filters on which
    nothing comes.
    """

    def __init__(
        self, wanted: Wanted, *, hire: Callable[[int], None], metrics: Metrics, clock: Clock, log: Log
    ) -> None:
        self.wanted = wanted
        self._hire = hire
        self._hired = 0
        self._free = 0
        self._clock = clock
        self._log = log
        self._throttle = Throttle()
        kind = wanted.topic.name
        self._queue: BoundedQueue[Delivery[bytes]] = BoundedQueue(
            name=f"bus.{kind}", size=wanted.queue_size, overflow=wanted.overflow, metrics=metrics
        )
        self._received = metrics.databus_messages.labels("received", kind)
        self._malformed = metrics.dropped.labels(f"bus.{kind}", "malformed")
        self._seconds = metrics.handler_seconds.labels(kind)
        self._errors = metrics.handler_errors.labels(kind)
        self._busy = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def offer(self, message: Delivery[bytes]) -> None:
        """Takes a message in; never waits. Its levels are still to be found."""
        self._received.inc()
        levels = self.wanted.topic.parse(message.topic)
        if levels is None:
            self._refuse(message.topic, "a level of the topic is outside the grammar")
            return
        if self.wanted.taker is not None:
            self.wanted.taker(replace(message, levels=levels))
            return
        try:
            self._queue.put_nowait(replace(message, levels=levels))
        except QueueClosed:
            return  # the bus stops: what comes now is nobody's
        self._idle.clear()
        if len(self._queue) > self._free and self._hired < self.wanted.workers:
            self._hire(self._hired)
            self._hired += 1

    async def work(self) -> None:
        """Handles one message after the other until the subscription is closed and its queue empty."""
        while True:
            self._free += 1
            try:
                message = await self._queue.get()
            except QueueClosed:
                return
            finally:
                self._free -= 1
            self._busy += 1
            try:
                await self._handle(message)
            finally:
                self._busy -= 1
                if not self._busy and not self._queue:
                    self._idle.set()

    async def close(self) -> None:
        """Takes nothing more and returns when everything taken in has been handled."""
        self._queue.close()
        await self._idle.wait()

    async def _handle(self, message: Delivery[bytes]) -> None:
        delivery, handler = message if self.wanted.raw else self._decoded(message), self.wanted.handler
        if delivery is None or handler is None:
            return
        begun = self._clock.monotonic()
        try:
            if self.wanted.timeout_s is None:
                await handler(delivery)
            else:
                async with asyncio.timeout(self.wanted.timeout_s):
                    await handler(delivery)
        except (TimeoutError, BusError, ContractError, TopicError) as error:
            self._errors.inc()
            self._log.warning("handler_failed", topic=message.topic, error=str(error) or type(error).__name__)
        finally:
            self._seconds.observe(self._clock.monotonic() - begun)

    def _decoded(self, message: Delivery[bytes]) -> Delivery[BaseModel] | None:
        if not message.payload:
            return None  # a retained topic was cleared: there is no message
        try:
            payload: BaseModel = decode(self.wanted.topic.payload, message.payload, topic=message.topic)
        except ContractError as error:
            self._refuse(message.topic, str(error))
            return None
        return replace(message, payload=payload)  # type: ignore[return-value, arg-type]

    def _refuse(self, topic: str, why: str) -> None:
        self._malformed.inc()
        if self._throttle.passes(self._clock.monotonic()):
            self._log.warning("message_malformed", topic=topic, error=why)
