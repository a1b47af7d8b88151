"""Messages from the reader to their handlers: each subscription has its own queue, so that a slow one delays nobody."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Literal

from pydantic import BaseModel

from contracts.codec import ContractError, decode
from contracts.topic import Topic, TopicError
from plugins.api.clock import Clock
from services.runtime.connection import Connection
from services.runtime.delivery import BusError, BusUnavailable, Delivery, SubscribeRefused
from services.runtime.lifecycle import Supervisor
from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.queue import BoundedQueue, QueueClosed
from services.runtime.throttle import Throttle

AT_ONCE = 10
"""Subscriptions that wait for the broker's answer at the same time; aiomqtt warns beyond."""
CLOSE_S = 5.0
"""How long the end of a subscription waits for its handlers."""

Overflow = Literal["drop_oldest", "refuse"]
"""What a full queue gives up. It cannot block: that would hold up every other handler."""

Handler = Callable[[Delivery[Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is subscribed to, and how its messages are handled.

    raw: the handler gets bytes. timeout_s: how long one message may take; None: the handler sees to it.
    workers: how many messages are handled at the same time; with more than one their order is lost.
    commands: retained messages are not sent on subscribing, and one that was published retained says so.
    """

    topic: Topic[Any]
    filter: str
    handler: Handler
    raw: bool = False
    queue_size: int = 1000
    overflow: Overflow = "drop_oldest"
    timeout_s: float | None = 5.0
    workers: int = 1
    commands: bool = False


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
        self._received = metrics.messages_received.labels(kind)
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
        delivery = message if self.wanted.raw else self._decoded(message)
        if delivery is None:
            return
        begun = self._clock.monotonic()
        try:
            async with asyncio.timeout(self.wanted.timeout_s):
                await self.wanted.handler(delivery)
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


class Subscriptions:
    """All subscriptions of a bus, by the identifier under which the broker sends their messages.

    They may come and go at any time; keep_settled() tells the broker.
    """

    def __init__(self, *, metrics: Metrics, clock: Clock, log: Log) -> None:
        self._metrics = metrics
        self._clock = clock
        self._log = log
        self._by_identifier: dict[int, Subscription] = {}
        self._identifiers = count(1)
        self._connection: Connection | None = None
        self._listening: set[int] = set()  # those that the connection has asked for
        self._changed = asyncio.Event()
        self._turn = asyncio.Lock()
        self._workers = Supervisor(log=log, metrics=metrics)

    def add(self, wanted: Wanted) -> int:
        """Adds a subscription and gives its identifier. Raises ValueError on a filter that there is already."""
        if any(other.wanted.filter == wanted.filter for other in self._by_identifier.values()):
            raise ValueError(f"{wanted.filter} is subscribed to already: the broker keeps one subscription per filter")
        identifier = next(self._identifiers)
        subscription = Subscription(
            wanted,
            hire=lambda number: self._workers.keep(_worker(identifier, wanted, number), subscription.work),
            metrics=self._metrics,
            clock=self._clock,
            log=self._log,
        )
        self._by_identifier[identifier] = subscription
        self._changed.set()
        return identifier

    async def begin(self, wanted: Wanted) -> None:
        """Adds a subscription; returns when the broker knows of it, if there is a connection. Raises BusUnavailable."""
        self.add(wanted)
        await self.settle()

    async def remove(self, identifier: int) -> None:
        """Ends a subscription; returns when what had come has been handled, or after CLOSE_S. Idempotent."""
        subscription = self._by_identifier.get(identifier)
        if subscription is None:
            return
        async with self._turn:
            if self._connection and identifier in self._listening:
                self._listening.discard(identifier)
                with suppress(BusUnavailable):  # a connection that is gone has taken its subscriptions along
                    await self._connection.unlisten(subscription.wanted.filter)
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await subscription.close()
        for number in range(subscription.wanted.workers):
            await self._workers.drop(_worker(identifier, subscription.wanted, number))
        self._by_identifier.pop(identifier, None)

    async def connect(self, connection: Connection) -> None:
        """There is a new connection: subscribes to everything on it. Raises BusUnavailable."""
        self._connection = connection
        self._listening = set()
        await self.settle()

    async def keep_settled(self) -> None:
        """Brings the broker up to date whenever a subscription has been added. Raises BusUnavailable."""
        while True:
            await self._changed.wait()
            await self.settle()

    async def settle(self) -> None:
        """Subscribes to what the broker has not been asked for, if there is a connection. Raises BusUnavailable."""
        async with self._turn:
            self._changed.clear()
            connection = self._connection
            while connection and (left := self._by_identifier.keys() - self._listening):
                # At the same time: one after the other, each waiting for the broker, a gateway of many devices would
                # be deaf for long. A failure is of the connection, and so of all.
                some = sorted(left)[:AT_ONCE]
                failures = await asyncio.gather(
                    *(self._listen(connection, identifier) for identifier in some), return_exceptions=True
                )
                for failure in failures:
                    if failure is not None:
                        raise failure
                self._listening.update(some)

    def deliver(self, identifiers: Iterable[int], message: Delivery[bytes]) -> None:
        """Takes a message in for each of the subscriptions; never waits."""
        for identifier in identifiers:
            subscription = self._by_identifier.get(identifier)
            if subscription is not None:  # else it was removed while the message was on its way
                subscription.offer(message)

    async def run(self) -> None:
        """Handles messages until stop(); a handler that crashes is started again with the next message."""
        await self._workers.run()

    async def drain(self) -> None:
        """Takes nothing more in and returns when everything taken in has been handled."""
        await asyncio.gather(*(subscription.close() for subscription in self._by_identifier.values()))

    async def stop(self) -> None:
        """Ends the handlers, whatever they are at."""
        await self._workers.stop()

    async def _listen(self, connection: Connection, identifier: int) -> None:
        wanted = self._by_identifier[identifier].wanted
        try:
            await connection.listen(
                wanted.filter, identifier=identifier, qos=wanted.topic.qos, commands=wanted.commands
            )
        except SubscribeRefused as error:
            self._log.error("subscription_refused", error=str(error))


def _worker(identifier: int, wanted: Wanted, number: int) -> str:
    """The name of a task that handles a subscription's messages."""
    return f"bus.{identifier}.{wanted.topic.name}.{number}"
