"""The link to the broker: one connection after the other, for as long as the service lives."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from random import Random
from typing import Any

from prometheus_client import Counter

from plugins.api.clock import Clock
from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.mqtt.connection import SESSION_EXPIRY_S, Connection
from services.runtime.mqtt.delivery import BusUnavailable, Deliver, Login
from services.runtime.mqtt.envelope import Envelope, pack_properties, plain_properties
from services.runtime.mqtt.outgoing import Message, Refusals
from services.runtime.mqtt.properties import Will
from services.runtime.mqtt.reconnect import Reconnection
from services.runtime.settings import BrokerSettings

WINDOW = 32
"""Publications that wait for the broker's answer at the same time."""

Work = Callable[[Connection], Coroutine[Any, Any, None]]


class Link:
    """Connects, and connects again with growing waits, until stopped.

    will: asked for at each connection.
    """

    def __init__(
        self,
        *,
        broker: BrokerSettings,
        login: Login,
        will: Callable[[], Will | None],
        deliver: Deliver,
        metrics: Metrics,
        clock: Clock,
        log: Log,
        random: Random | None,
        admit: Callable[[], Awaitable[None]] | None = None,
        session_expiry_s: int = SESSION_EXPIRY_S,
    ) -> None:
        self._session_expiry_s = session_expiry_s
        self._admit = admit
        self._broker = broker
        self._login = login
        self._will = will
        self._deliver = deliver
        self._metrics = metrics
        self._clock = clock
        self._log = log.bind(broker=f"{broker.host}:{broker.port}", client_id=login.client_id)
        self._reconnection = Reconnection(log=self._log, random=random)
        self.stopping = self._reconnection.stopping
        self._window = asyncio.Semaphore(WINDOW)
        self._connections = 0
        self._published: dict[str, Counter] = {}
        self.connection: Connection | None = None
        self.connected = asyncio.Event()

    async def run(self, *, prepare: Work, work: Work) -> None:
        """Until stopping is set. Raises TakenOver, for to come back would throw out the other, and what admit does.

        prepare: what each connection needs before it is of use to others. work: runs beside them while the connection
        lasts; once stopping is set it finishes, which ends the connection in good order.
        """
        await self._reconnection.run(partial(self._connect, prepare, work))

    async def send(
        self,
        topic: str,
        data: bytes,
        *,
        kind: str,
        retain: bool,
        expiry_s: int | None = None,
        response_topic: str | None = None,
        correlation: bytes | None = None,
        to_somebody: bool = False,
    ) -> None:
        """Publishes and returns when the broker has taken it. kind: the name of its Topic. to_somebody: see Envelope.

        Messages go out in the order of the calls. Raises BusUnavailable, PublishRefused, NobodyListens.
        """
        async with self._window:
            if self.connection is None:
                raise BusUnavailable("not connected to the broker")
            plain = response_topic is None and correlation is None
            properties = plain_properties(expiry_s) if plain else pack_properties(expiry_s, response_topic, correlation)
            envelope = Envelope(topic, kind=kind, retain=retain, properties=properties, to_somebody=to_somebody)
            for refusal in await self.carry(self.connection, [(envelope, data)]):
                raise refusal

    def post(self, topic: str, data: bytes, *, kind: str) -> asyncio.Future[Refusals]:
        """Publishes at once, beside the window of send(). The future is the broker's answer. Raises BusUnavailable."""
        if self.connection is None:
            raise BusUnavailable("not connected to the broker")
        envelope = Envelope(topic, kind=kind, retain=False, properties=plain_properties(None))
        return self.carry(self.connection, [(envelope, data)])

    def carry(self, connection: Connection, messages: Sequence[Message]) -> asyncio.Future[Refusals]:
        """Sends the messages. The future is the broker's answer: those that it refused; what it says is counted.

        Raises BusUnavailable; the future raises it too.
        """
        answer = connection.send(messages)
        answer.add_done_callback(partial(self._count, messages))
        return answer

    def _count(self, messages: Sequence[Message], answer: asyncio.Future[Refusals]) -> None:
        if answer.cancelled() or answer.exception() is not None:
            return
        taken: dict[str, int] = {}
        for envelope, _ in messages:
            taken[envelope.kind] = taken.get(envelope.kind, 0) + 1
        for refusal in answer.result():
            kind = next(envelope.kind for envelope, _ in messages if envelope.topic == refusal.topic)
            taken[kind] -= 1
            self._metrics.publish_refused.labels(kind, f"0x{refusal.reason:02x}").inc()
        for kind, count in taken.items():
            published = self._published.get(kind)
            if published is None:
                published = self._published[kind] = self._metrics.databus_messages.labels("sent", kind)
            published.inc(count)

    async def _connect(self, prepare: Work, work: Work) -> None:
        if self._admit and not self._connections:
            await self._admit()
        connection = Connection(
            self._broker,
            login=self._login,
            will=self._will(),
            deliver=self._deliver,
            now_s=self._clock.monotonic,
            session_expiry_s=self._session_expiry_s,
        )
        async with connection.open():
            await prepare(connection)
            self._found(connection)
            working = asyncio.create_task(work(connection), name="bus.connection")
            try:
                await connection.watch(working)
                await working
            finally:
                self._lost()
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)

    def _found(self, connection: Connection) -> None:
        self.connection = connection
        self.connected.set()
        self._metrics.bus_connected.set(1)
        if self._connections:
            self._metrics.bus_reconnects.inc()
        self._connections += 1
        self._log.info("broker_connected", connections=self._connections)

    def _lost(self) -> None:
        self.connection = None
        self.connected.clear()
        self._metrics.bus_connected.set(0)
