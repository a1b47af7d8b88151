"""The intake: takes messages from a durable session and acknowledges each only when its consumer says so.

A crash between receipt and commit then costs nothing, since the broker sends again what was not acknowledged.
Back-pressure is not acknowledging: the broker sends no more than `receive_maximum` messages ahead (MQTT 5.0, 4.9) and
keeps the rest.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import groupby
from operator import attrgetter

from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.mqtt.arrivals import Arrivals, ArrivalsClosed
from services.runtime.mqtt.delivery import Login, Password
from services.runtime.mqtt.reconnect import Reconnection
from services.runtime.mqtt.session import Arrival, IntakeMessage, Session
from services.runtime.settings import BrokerSettings

__all__ = ["Intake", "IntakeBatch", "IntakeClosed", "IntakeMessage"]

DRAIN_S = 5.0
ENOUGH = 100
"""Half of what the broker has under way to a session at most (services/cli/broker_config.py): while they are put away,
the other half comes."""


IntakeClosed = ArrivalsClosed
"""The intake has been stopped and hands out nothing more."""


class IntakeBatch:
    """Messages in the order of their arrival."""

    def __init__(self, arrivals: Sequence[Arrival], *, ack: Callable[[Sequence[Arrival]], None]) -> None:
        self.messages = [arrival.message for arrival in arrivals]
        self._arrivals = arrivals
        self._ack = ack

    def ack(self) -> None:
        """The messages are where they cannot be lost: the last thing done with them.

        Without effect on those whose connection has ended: the broker sends them again.
        """
        self._ack(self._arrivals)


class Intake:
    """A Part: a source. One consumer calls batch(), puts the messages away, and calls the batch's ack().

    filters: subscribed to with QoS 1; a retained message comes only when the broker did not know the session.
    receive_maximum: how many messages may be here unacknowledged.
    drain_s: how long a stop waits for the acknowledgements of what was handed out. admit: is awaited before the first
    connection; while it raises BusUnavailable there is none.
    """

    name = "intake"

    def __init__(
        self,
        *,
        broker: BrokerSettings,
        client_id: str,
        username: str | None,
        password: Password | None,
        filters: Sequence[str],
        receive_maximum: int = 500,
        drain_s: float = DRAIN_S,
        admit: Callable[[], Awaitable[None]] | None = None,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._broker = broker
        self._login = Login(client_id=client_id, username=username, password=password)
        self._filters = tuple(filters)
        self._receive_maximum = receive_maximum
        self._drain_s = drain_s
        self._admit = admit
        self._metrics = metrics
        self._log = log.bind(broker=f"{broker.host}:{broker.port}", client_id=client_id)
        self._reconnection = Reconnection(log=self._log)
        self._arrivals: Arrivals[Arrival] = Arrivals(most=4 * receive_maximum)
        self._overflow = metrics.dropped.labels("intake", "overflow")
        self._handed_out: deque[Arrival] = deque()
        self._settled = asyncio.Event()
        self._settled.set()
        self._connected = asyncio.Event()

    async def run(self) -> None:
        """Keeps the connection until stop(). Raises TakenOver."""
        try:
            await self._reconnection.run(self._connect)
        finally:
            self._arrivals.close()

    async def stop(self) -> None:
        """Hands out nothing more; the connection ends when what was handed out has been acknowledged."""
        self._reconnection.stopping.set()
        self._arrivals.close()

    @property
    def connected(self) -> bool:
        """Connected and subscribed."""
        return self._connected.is_set()

    async def wait_connected(self, timeout_s: float) -> None:
        """Returns once connected and subscribed. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            await self._connected.wait()

    async def batch(self, *, most: int = 500, linger_s: float = 0.0) -> IntakeBatch:
        """All messages that are there, at least one and at most `most`; waits for the first.

        linger_s: how long to wait for more, after the first, while there are fewer than `most` and than ENOUGH.
        Raises IntakeClosed after stop(): what was not handed out comes again to the next who opens the session.
        """
        arrivals: list[Arrival] = []
        while not arrivals:
            await self._arrivals.wait(1)
            if linger_s:
                with suppress(TimeoutError):
                    async with asyncio.timeout(linger_s):
                        await self._arrivals.wait(min(most, ENOUGH))
            arrivals = self._arrivals.take(most)
        self._handed_out.extend(arrivals)
        self._settled.clear()
        self._metrics.intake_messages.inc(len(arrivals))
        return IntakeBatch(arrivals, ack=self._acknowledge)

    def _acknowledge(self, arrivals: Sequence[Arrival]) -> None:
        for arrival in arrivals:
            arrival.done = True
        # In the order of arrival (MQTT 5.0, 4.6): one that is not done yet holds back those behind it.
        done: list[Arrival] = []
        while self._handed_out and self._handed_out[0].done:
            done.append(self._handed_out.popleft())
        for session, group in groupby(done, key=attrgetter("session")):
            session.acknowledge([arrival.mid for arrival in group if arrival.mid])
        if not self._handed_out:
            self._settled.set()

    async def _connect(self) -> None:
        if self._admit is not None:
            await self._admit()
            self._admit = None
        session = Session(
            self._broker,
            login=self._login,
            receive_maximum=self._receive_maximum,
            arrivals=self._arrivals,
            overflow=self._overflow,
        )
        try:
            opened = await session.open(self._filters)
            self._connected.set()
            self._log.info("intake_connected", session_present=opened.session_present)
            for refusal in opened.refusals:
                self._log.error("subscription_refused", error=str(refusal))
            await self._attend(session)
        finally:
            self._connected.clear()
            await session.close()
            # Their acknowledgements have nowhere to go; they must not hold back those of the next connection.
            self._handed_out.clear()
            self._settled.set()

    async def _attend(self, session: Session) -> None:
        stopping = asyncio.create_task(self._reconnection.stopping.wait(), name="intake.stopping")
        try:
            await asyncio.wait((stopping, session.ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
        if session.ended.done():
            raise session.ended.result()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._drain_s):
                await self._settled.wait()
