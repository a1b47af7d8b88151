"""Where questions about the recorded values are answered."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from contracts.v1.command import ErrorCode
from contracts.v1.history import HISTORY_AT, QUERY_HISTORY, HistoryAt, HistoryFound, QueryHistory, TagsThen
from services.recorder.queries.archive import ArchiveFault
from services.recorder.queries.queries import HistoryQueries
from services.recorder.queries.question import NoSuchTag, TooLong
from services.runtime.bus.bus import Bus, CommandFailed, Delivery, Service

AT_ONCE = 2
"""Questions that are looked up at the same time, of each verb: each takes processor time from the recording."""

P = TypeVar("P")
R = TypeVar("R")


class HistoryDesk:
    """A Part: takes commands from its run() on until stop(). instance: the recorder's name, to which they are sent.

    It looks in threads of its own, as EventDesk does.
    """

    name = "history_desk"

    def __init__(self, *, bus: Bus, queries: HistoryQueries, instance: str) -> None:
        self._bus = bus
        self._queries = queries
        self._instance = instance
        self._threads = ThreadPoolExecutor(2 * AT_ONCE, thread_name_prefix="history")
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Answers commands until stop()."""
        services: Sequence[Service[Any, Any]] = (
            self._bus.serve(QUERY_HISTORY, self._query, at_once=AT_ONCE, anew=True, id=self._instance),
            self._bus.serve(HISTORY_AT, self._at, at_once=AT_ONCE, anew=True, id=self._instance),
        )
        try:
            await self._stopping.wait()
        finally:
            await asyncio.gather(*(service.close() for service in services))
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def stop(self) -> None:
        """Takes no more commands."""
        self._stopping.set()

    async def _query(self, command: Delivery[QueryHistory]) -> HistoryFound:
        return await self._looked_up(self._queries.query, command.payload)

    async def _at(self, command: Delivery[HistoryAt]) -> TagsThen:
        return await self._looked_up(self._queries.at, command.payload)

    async def _looked_up(self, look: Callable[[P], R], asked: P) -> R:
        """Raises CommandFailed."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, look, asked)
        except NoSuchTag as error:
            raise CommandFailed(ErrorCode.NOT_FOUND, str(error)) from error
        except TooLong as error:
            raise CommandFailed(ErrorCode.TIMEOUT, str(error)) from error
        except ArchiveFault as error:
            raise CommandFailed(ErrorCode.UNAVAILABLE, str(error)) from error
