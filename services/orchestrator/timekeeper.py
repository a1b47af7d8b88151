"""Fires what is due by the clock."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from plugins.api.clock import Clock
from services.orchestrator.schedule import Missed, Schedule, Timetable
from services.runtime.logs import Log
from services.runtime.sqlite_file import DatabaseError, SqliteFile

LOOK_S = 1.0
"""The longest wait: the clock may be set."""


class DueTimes:
    """Up to when due times are done with, kept for the schedules that make up for missed ones."""

    def __init__(self, *, database: SqliteFile) -> None:
        self._database = database

    async def last(self, key: str, *, now_us: int) -> int:
        """The last one done with; now, from which on it is kept, if there is none yet. Raises sqlite3.Error."""

        def work(database: sqlite3.Connection) -> int:
            """Microseconds since 1970 UTC."""
            database.execute("INSERT OR IGNORE INTO due VALUES (?, ?)", (key, now_us))
            (last,) = database.execute("SELECT last FROM due WHERE key = ?", (key,)).fetchone()
            return int(last)

        return await self._database.transaction(work)

    async def done(self, key: str, due_us: int) -> None:
        """This one is done with. Raises sqlite3.Error."""
        await self._database.transaction(
            lambda database: database.execute("INSERT OR REPLACE INTO due VALUES (?, ?)", (key, due_us))
        )

    async def forget(self, key: str) -> None:
        """There is no such schedule any more. Raises sqlite3.Error."""
        await self._database.transaction(lambda database: database.execute("DELETE FROM due WHERE key = ?", (key,)))


@dataclass(frozen=True, slots=True)
class _Watched:
    fire: Callable[[int], None]
    missed: Missed


class Timekeeper:
    """All schedules of all pipelines. Kept running by a supervisor."""

    name = "timekeeper"

    def __init__(self, *, due_times: DueTimes, clock: Clock, log: Log) -> None:
        self._due_times = due_times
        self._clock = clock
        self._log = log
        self._table: Timetable[str] = Timetable()
        self._watched: dict[str, _Watched] = {}
        self._news = asyncio.Event()

    async def add(self, key: str, schedule: Schedule, *, missed: Missed, fire: Callable[[int], None]) -> None:
        """`fire` is called at each due time, with it in microseconds.

        key: tells the schedule from all others, in the next session too. Raises sqlite3.Error, DatabaseError.
        """
        now_us = self._clock.now_us()
        last_us = now_us if missed == "skip" else await self._due_times.last(key, now_us=now_us)
        self._table.add(key, schedule, missed=missed, last_us=last_us)
        self._watched[key] = _Watched(fire, missed)
        self._news.set()

    async def remove(self, key: str, *, forget: bool) -> None:
        """It is not due any more. forget: for good: times missed from now on are not made up for."""
        self._table.remove(key)
        watched = self._watched.pop(key, None)
        if forget and watched is not None and watched.missed != "skip":
            with suppress(sqlite3.Error, DatabaseError):
                await self._due_times.forget(key)

    async def run(self) -> None:
        """Fires for ever."""
        while True:
            self._news.clear()
            for due in self._table.take(self._clock.now_us()):
                watched = self._watched[due.key]
                watched.fire(due.due_us)
                if watched.missed != "skip":
                    await self._keep(due.key, due.due_us)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._wait_s()):
                    await self._news.wait()

    async def _keep(self, key: str, due_us: int) -> None:
        try:
            await self._due_times.done(key, due_us)
        except (sqlite3.Error, DatabaseError) as error:
            self._log.error("due_time_not_kept", schedule=key, error=str(error))

    def _wait_s(self) -> float:
        next_us = self._table.next_us
        return LOOK_S if next_us is None else max(0.0, min(LOOK_S, (next_us - self._clock.now_us()) / 1e6))
