"""Where questions about the recorded values are answered."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from contracts.v1.command import Command, ErrorCode
from contracts.v1.history import HISTORY_AT, QUERY_HISTORY, HistoryAt, HistoryFound, QueryHistory, TagsThen
from services.recorder.queries.archive import ArchiveFault
from services.recorder.queries.queries import HistoryQueries
from services.recorder.queries.question import NoSuchTag, TooLong
from services.runtime.bus.bus import Bus, CommandFailed, Delivery
from services.runtime.desk import Desk

AT_ONCE = 2
"""Questions that are looked up at the same time, of each verb: each takes processor time from the recording."""

P = TypeVar("P")
R = TypeVar("R")


class HistoryDesk(Desk):
    """instance: the recorder's name, to which commands are sent.

    It looks in threads of its own, as EventDesk does.
    """

    name = "history_desk"

    def __init__(self, *, bus: Bus, queries: HistoryQueries, instance: str) -> None:
        super().__init__()
        self._bus = bus
        self._queries = queries
        self._threads = ThreadPoolExecutor(2 * AT_ONCE, thread_name_prefix="history")
        self.threads = (self._threads,)
        self.services = (
            bus.serve(QUERY_HISTORY, self._query, at_once=AT_ONCE, anew=True, id=instance),
            bus.serve(HISTORY_AT, self._at, at_once=AT_ONCE, anew=True, id=instance),
        )

    async def _query(self, command: Delivery[QueryHistory]) -> HistoryFound:
        return await self._looked_up(
            partial(self._queries.query, devices=self._devices(QUERY_HISTORY, command)), command.payload
        )

    async def _at(self, command: Delivery[HistoryAt]) -> TagsThen:
        return await self._looked_up(
            partial(self._queries.at, devices=self._devices(HISTORY_AT, command)), command.payload
        )

    def _devices(self, command: Command[Any, Any], asked: Delivery[Any]) -> frozenset[str] | None:
        """Those that the user may know of; None: all."""
        devices = self._bus.gate.rights(command, asked.levels["user"]).devices
        return None if devices is None else frozenset(devices)

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
