"""All subscriptions of a bus: made and ended while it runs, and made again at every connection."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import replace
from itertools import count

from plugins.api.clock import Clock
from services.runtime.lifecycle import Supervisor
from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.mqtt.connection import Connection
from services.runtime.mqtt.delivery import BusUnavailable, Delivery, SubscribeRefused
from services.runtime.mqtt.properties import filter_matches
from services.runtime.mqtt.subscription import Subscription, Wanted

AT_ONCE = 10
"""Subscriptions that wait for the broker's answer at the same time; aiomqtt warns beyond."""
CLOSE_S = 5.0
"""How long the end of a subscription waits for its handlers."""
SWEEP_AFTER_S = 0.2
"""How long after new subscriptions to commands the retained ones are swept up; more may be on their way."""
EndOfSubscription = Callable[[], Awaitable[None]]
"""See Subscriptions.remove."""
_SWEEPER = 268_435_455
"""The identifier of the subscriptions to what is swept up: the greatest that there may be (MQTT 5.0, 3.8.2.1.2)."""


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
        self._unswept = asyncio.Event()
        self._turn = asyncio.Lock()
        self._workers = Supervisor(log=log, metrics=metrics)

    def add(self, wanted: Wanted) -> int:
        """Adds a subscription and gives its identifier. Raises ValueError on a filter that there is already."""
        if any(other.wanted.filter == wanted.filter for other in self._by_identifier.values()):
            raise ValueError(f"{wanted.filter} is subscribed to already: the broker keeps one subscription per filter")
        identifier = next(self._identifiers)
        subscription = Subscription(
            wanted,
            hire=lambda number, work: self._workers.keep(_worker(identifier, wanted, number), work),
            metrics=self._metrics,
            clock=self._clock,
            log=self._log,
        )
        self._by_identifier[identifier] = subscription
        self._metrics.databus_subscribers.labels(wanted.topic.name).inc()
        self._changed.set()
        return identifier

    async def begin(self, wanted: Wanted) -> None:
        """Adds a subscription; returns when the broker knows of it, if there is a connection. Raises BusUnavailable."""
        self.add(wanted)
        await self.settle()

    async def remove(self, identifier: int, *, within_s: float = CLOSE_S) -> None:
        """Ends a subscription; returns when what had come has been handled, or after within_s. Idempotent."""
        subscription = self._by_identifier.get(identifier)
        if subscription is None:
            return
        async with self._turn:
            if self._by_identifier.pop(identifier, None) is None:
                return
            self._metrics.databus_subscribers.labels(subscription.wanted.topic.name).dec()
            if self._connection and identifier in self._listening:
                self._listening.discard(identifier)
                with suppress(BusUnavailable):  # a connection that is gone has taken its subscriptions along
                    await self._connection.unlisten(subscription.wanted.filter)
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await subscription.close()
        for number in range(subscription.wanted.workers + 1):  # the last one refuses
            await self._workers.drop(_worker(identifier, subscription.wanted, number))

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
            with ExitStack() as given_up:
                given_up.callback(self._changed.set)  # by who was in a hurry: the rest is keep_settled()'s
                await self._listen_to_all()
                given_up.pop_all()

    async def _listen_to_all(self) -> None:
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
            if any(self._by_identifier[one].wanted.sweep for one in some):
                self._unswept.set()

    async def keep_swept(self) -> None:
        """Gives the retained commands that were there before us to those whom they are for. Raises BusUnavailable."""
        while True:
            await self._unswept.wait()
            await asyncio.sleep(SWEEP_AFTER_S)
            self._unswept.clear()
            for sweep in {one.wanted.sweep for one in self._by_identifier.values()} - {None}:
                await self._sweep(str(sweep))

    async def _sweep(self, sweep: str) -> None:
        async with self._turn:
            taken = any(other.wanted.filter == sweep for other in self._by_identifier.values())
            if self._connection and not taken:  # the broker keeps one subscription per filter
                with suppress(SubscribeRefused):
                    await self._connection.listen(sweep, identifier=_SWEEPER, qos=1, commands=False)
                await self._connection.unlisten(sweep)

    def deliver(self, identifiers: Iterable[int], message: Delivery[bytes]) -> None:
        """Takes a message in for each of the subscriptions; never waits."""
        for identifier in identifiers:
            if identifier == _SWEEPER:
                self._deliver_planted(message)
                continue
            subscription = self._by_identifier.get(identifier)
            if subscription is not None:  # else it was removed while the message was on its way
                subscription.offer(message)

    def _deliver_planted(self, message: Delivery[bytes]) -> None:
        if message.retained:  # else it is a copy of what comes to its own subscription too
            for subscription in self._by_identifier.values():
                if subscription.wanted.sweep and filter_matches(subscription.wanted.filter, message.topic):
                    subscription.offer(replace(message, planted=True))

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
                wanted.filter, identifier=identifier, qos=wanted.topic.qos, commands=wanted.sweep is not None
            )
        except SubscribeRefused as error:
            self._log.error("subscription_refused", error=str(error))


def _worker(identifier: int, wanted: Wanted, number: int) -> str:
    """The name of a task that handles a subscription's messages."""
    return f"bus.{identifier}.{wanted.topic.name}.{number}"
