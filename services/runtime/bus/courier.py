"""Carries retained values from the outbox to the broker, a window at a time."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from contracts.codec import ContractError
from services.runtime.bus.outbox import Outbox, Parcel, Retained, message_of
from services.runtime.logs import Log
from services.runtime.mqtt.connection import Connection
from services.runtime.mqtt.delivery import BusError, BusUnavailable
from services.runtime.mqtt.outgoing import MOST_IN_FLIGHT, Message, Refusals

WINDOW = 64
"""Values that are sent at once: polls and frames pass between two windows, so they wait for no more than this.

Each window is a call of the system, and some wake-ups for the broker's answers: 16 cost a quarter more processor time.
"""
SHARE = WINDOW / MOST_IN_FLIGHT
"""Of what is on the wire without an answer, which is less where a broker takes less; the rest is left to frames."""

QUIET_S = 0.002
"""How long a window waits at most while others have asked for quiet. A poll of nine requests takes less; with a window
of values between one request and the next it takes six times as long."""

Carry = Callable[[Connection, Sequence[Message]], asyncio.Future[Refusals]]
"""See Link.carry."""


class Courier:
    """Sends what waits in the outbox while there is a connection. quiet_s: see QUIET_S."""

    def __init__(self, *, carry: Carry, log: Log, quiet_s: float = QUIET_S) -> None:
        self._outbox = Outbox()
        self._carry = carry
        self._log = log
        self._quiet_s = quiet_s
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

    def put(self, values: Iterable[Retained]) -> None:
        """These are their topics' values from now on."""
        self._outbox.put(values)
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
                    async with asyncio.timeout(self._quiet_s):
                        await self._loud.wait()
            parcels = self._outbox.take(max(1, int(SHARE * connection.window)))
            if not parcels:
                self._filled.clear()
                self._empty.set()
            elif not await self._deliver(connection, parcels):
                return

    async def _deliver(self, connection: Connection, parcels: list[Parcel]) -> bool:
        """Sends the parcels; unless all are answered, they go back. False if the connection broke."""
        answered = False
        try:
            messages, faults = _messages(parcels)
            faults += await self._carry(connection, messages)
            answered = True
        except BusUnavailable:
            return False
        finally:
            (self._outbox.settle if answered else self._outbox.put_back)(parcels)
        if faults:  # one line for all of them: they come in hundreds
            self._log.error("retained_refused", topics=len(faults), first=str(faults[0]))
        return True


def _messages(parcels: Sequence[Parcel]) -> tuple[list[Message], list[BusError | ContractError]]:
    """What is to be sent, and why something is not."""
    messages: list[Message] = []
    faults: list[BusError | ContractError] = []
    for parcel in parcels:
        try:
            messages.append(message_of(parcel))
        except ContractError as error:
            faults.append(error)
    return messages, faults
