"""Where questions about the stored events are answered."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from contracts.v1.command import ErrorCode
from contracts.v1.event_store import (
    AUDIT_EVENTS,
    READ_EVENTS,
    AggregateEvents,
    AuditEvents,
    FoundEvents,
    ReadEvents,
)
from services.recorder.events.archive import EventArchive, NothingStored, TooLong
from services.runtime.bus.bus import Bus, CommandFailed, Delivery, Service

AT_ONCE = 4
"""Questions that are looked up at the same time, of each verb."""

P = TypeVar("P")
R = TypeVar("R")


class EventDesk:
    """A Part: takes commands from its run() on until stop(). instance: the recorder's name, to which they are sent.

    It looks in threads of its own. A search goes on when nobody waits for it any more: in those that all share, such
    ones would soon keep the writer of the history waiting.
    """

    name = "event_desk"

    def __init__(self, *, bus: Bus, archive: EventArchive, instance: str) -> None:
        self._bus = bus
        self._archive = archive
        self._instance = instance
        self._reading = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="event_read")
        self._auditing = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="event_audit")
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Answers commands until stop()."""
        services: Sequence[Service[Any, Any]] = (
            self._bus.serve(READ_EVENTS, self._read, at_once=AT_ONCE, anew=True, id=self._instance),
            self._bus.serve(AUDIT_EVENTS, self._audit, at_once=AT_ONCE, anew=True, id=self._instance),
        )
        try:
            await self._stopping.wait()
        finally:
            await asyncio.gather(*(service.close() for service in services))
            for threads in (self._reading, self._auditing):
                threads.shutdown(wait=False, cancel_futures=True)

    async def stop(self) -> None:
        """Takes no more commands."""
        self._stopping.set()

    async def _read(self, command: Delivery[ReadEvents]) -> AggregateEvents:
        return await _looked_up(self._archive.read, command.payload, self._reading)

    async def _audit(self, command: Delivery[AuditEvents]) -> FoundEvents:
        return await _looked_up(self._archive.audit, command.payload, self._auditing)


async def _looked_up(look: Callable[[P], R], asked: P, threads: ThreadPoolExecutor) -> R:
    """A page may take a while. Raises CommandFailed."""
    try:
        return await asyncio.get_running_loop().run_in_executor(threads, look, asked)
    except NothingStored as error:
        raise CommandFailed(ErrorCode.NOT_FOUND, str(error)) from error
    except TooLong as error:
        raise CommandFailed(ErrorCode.TIMEOUT, str(error)) from error
    except sqlite3.Error as error:
        raise CommandFailed(ErrorCode.UNAVAILABLE, f"the recorder's disk refuses: {error}") from error
