"""Messages from the reader to their handlers: each subscription has its own queue, so that a slow one delays nobody."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import BaseModel

from contracts.codec import ContractError, decode
from contracts.topic import Topic, TopicError
from plugins.api.clock import Clock
from services.runtime.fair_queue import FairQueue
from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.mqtt.delivery import BusError, Delivery
from services.runtime.queue import BoundedQueue, QueueClosed
from services.runtime.throttle import Throttle

Overflow = Literal["drop_oldest", "refuse"]
"""What a full queue gives up. It cannot block: that would hold up every other handler."""

Handler = Callable[[Delivery[Any]], Awaitable[None]]
Work = Callable[[], Awaitable[None]]
REFUSED_AT_ONCE = 100
"""Commands that found no room, and whose senders are still to be told; more of them hear nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is subscribed to, and how its messages are handled.

    taker: is called with each message as it arrives, in place of a handler, and never waits. raw: the handler gets
    bytes. timeout_s: how long one message may take; None: the handler sees to it. workers: how many messages are
    handled at the same time; with more than one their order is lost.
    refuser: of commands. Users share the queue then, and whoever fills it gives way to others: what finds no room is
    handed to it, one after the other.
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
    refuser: Handler | None = None
    sweep: str | None = None


def _user(command: Delivery[bytes]) -> str:
    return command.levels["user"]


class Subscription:
    """One filter, its queue and its handler. hire: starts one more task, of this number, that runs what it is given.

    A task is started when a message finds none free: a gateway of many devices serves thousands of filters on which
    nothing comes.
    """

    def __init__(
        self, wanted: Wanted, *, hire: Callable[[int, Work], None], metrics: Metrics, clock: Clock, log: Log
    ) -> None:
        self.wanted = wanted
        self._hire = hire
        self._hired = 0
        self._free = 0
        self._clock = clock
        self._log = log
        self._throttle = Throttle()
        kind = wanted.topic.name
        self._metrics = metrics
        self._queue = self._new_queue(f"bus.{kind}")
        self._refused: BoundedQueue[Delivery[bytes]] | None = None
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
            self._hire(self._hired, self.work)
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
        if self._refused is not None:
            self._refused.close()
        await self._idle.wait()

    def _new_queue(self, name: str) -> BoundedQueue[Delivery[bytes]] | FairQueue[Delivery[bytes]]:
        wanted, metrics = self.wanted, self._metrics
        if wanted.refuser is None:
            return BoundedQueue(name=name, size=wanted.queue_size, overflow=wanted.overflow, metrics=metrics)
        return FairQueue(name=name, size=wanted.queue_size, owner=_user, given_up=self._give_up, metrics=metrics)

    def _give_up(self, message: Delivery[bytes]) -> None:
        if self._refused is None:  # by a task of its own: those that work are busy, or there would be room
            name = f"{self._queue.name}.refused"
            self._refused = BoundedQueue(name=name, size=REFUSED_AT_ONCE, overflow="refuse", metrics=self._metrics)
            self._hire(self.wanted.workers, self._refuse_all)
        self._refused.put_nowait(message)

    async def _refuse_all(self) -> None:
        refused, refuser = self._refused, self.wanted.refuser
        with suppress(QueueClosed):
            while refused is not None and refuser is not None:
                await refuser(await refused.get())

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
