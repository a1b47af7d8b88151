"""Carries retained values from the outbox to the broker, a window at a time."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

from contracts.codec import ContractError
from services.runtime.connection import Connection
from services.runtime.delivery import BusError, BusUnavailable, PublishRefused
from services.runtime.logs import Log
from services.runtime.outbox import Outbox, Parcel, Retained

WINDOW = 16
"""Values that are sent at once: polls and frames pass between two windows, so they wait for no more than this.

Each window is a call of the system and a turn of the broker's: 8 cost a tenth more processor time, 64 a third less, but
a broker takes 20 at once (outgoing.MOST_IN_FLIGHT), frames among them."""

QUIET_S = 0.002
"""How long a window waits at most while others have asked for quiet. A poll of nine requests takes less; with a window
of values between one request and the next it takes six times as long."""

Answered = Callable[[asyncio.Future[None], str], Awaitable[None]]
"""Waits for the broker's answer to a publication of a kind, and counts it."""


class Courier:
    """Sends what waits in the outbox while there is a connection."""

    def __init__(self, *, answered: Answered, log: Log) -> None:
        self._outbox = Outbox()
        self._answered = answered
        self._log = log
        self._filled = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._quiet = 0
        self._loud = asyncio.Event()

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Inside, values go out late: what the caller does, and waits for, goes first."""
        self._quiet += 1
        self._loud.clear()
        try:
            yield
        finally:
            self._quiet -= 1
            if not self._quiet:
                self._loud.set()

    def put(self, topic: str, value: Retained) -> None:
        """This is the topic's value from now on."""
        self._outbox.put(topic, value)
        self._filled.set()
        self._empty.clear()

    def repeat(self) -> None:
        """Every value is to be sent again: somebody else has written over some of them."""
        self._outbox.repeat()
        self._filled.set()
        self._empty.clear()

    def forget(self, topic: str) -> None:
        """The topic's value is not published again."""
        self._outbox.forget(topic)

    async def wait_empty(self) -> None:
        """Returns when the broker has answered everything."""
        await self._empty.wait()

    async def run(self, connection: Connection) -> None:
        """Sends every value, then each new one, until cancelled. Returns early if the connection breaks."""
        self._outbox.repeat()
        self._filled.set()
        while True:
            await self._filled.wait()
            if self._quiet:
                with suppress(TimeoutError):
                    async with asyncio.timeout(QUIET_S):
                        await self._loud.wait()
            parcels = self._outbox.take(WINDOW)
            if not parcels:
                self._filled.clear()
                self._empty.set()
            elif not await self._carry(connection, parcels):
                return

    async def _carry(self, connection: Connection, parcels: list[Parcel]) -> bool:
        """Sends the parcels and waits for the answers; those without one go back. False if the connection broke."""
        unsettled = deque(parcels)
        faults: list[BusError | ContractError] = []
        try:
            sent = [(parcel, self._send(connection, parcel, faults)) for parcel in parcels]
            for parcel, answer in sent:
                if answer is not None:
                    try:
                        await self._answered(answer, parcel.value.kind)
                    except PublishRefused as error:
                        faults.append(error)
                self._outbox.settle(unsettled.popleft())
        except BusUnavailable:
            return False
        finally:
            for parcel in unsettled:
                self._outbox.put_back(parcel)
            if faults:  # one line for all of them: they come in hundreds
                self._log.error("retained_refused", topics=len(faults), first=str(faults[0]))
        return True

    def _send(
        self, connection: Connection, parcel: Parcel, faults: list[BusError | ContractError]
    ) -> asyncio.Future[None] | None:
        try:
            data = parcel.encode()
        except ContractError as error:
            faults.append(error)
            return None
        return connection.send(parcel.topic, data, retain=True, expiry_s=parcel.value.expiry_s)
