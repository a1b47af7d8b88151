"""Fires what is due by the clock."""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from plugins.api.clock import Clock
from services.orchestrator.definition.schedule import Due, Missed, Schedule, Timetable
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
        """This one is done with, unless the schedule has been forgotten. Raises sqlite3.Error."""
        await self._database.transaction(
            lambda database: database.execute("UPDATE due SET last = ? WHERE key = ?", (due_us, key))
        )

    async def forget(self, key: str) -> None:
        """There is no such schedule any more. Raises sqlite3.Error."""
        await self._database.transaction(lambda database: database.execute("DELETE FROM due WHERE key = ?", (key,)))


@dataclass(frozen=True, slots=True)
class _Watched:
    fire: Callable[[int], None]
    skip: Callable[[int], None]
    kept: bool


class Timekeeper:
    """All schedules of all pipelines. Kept running by a supervisor."""

    name = "timekeeper"

    def __init__(self, *, due_times: DueTimes, clock: Clock, log: Log) -> None:
        self._due_times = due_times
        self._clock = clock
        self._log = log
        self._table: Timetable[str] = Timetable()
        self._watched: dict[str, _Watched] = {}
        self._due: deque[Due[str]] = deque()
        self._fired: dict[str, int] = {}
        self._news = asyncio.Event()

    async def add(
        self,
        key: str,
        schedule: Schedule,
        *,
        missed: Missed,
        kept: bool,
        fire: Callable[[int], None],
        skip: Callable[[int], None],
    ) -> None:
        """`fire` is called at each due time, with it in microseconds; `skip` where `missed` leaves one out.

        key: tells the schedule from all others, in the next session too. kept: times that pass while nothing runs are
        found missed at the next start; `fire` must then see to it that done() is called once its run begins.
        Raises sqlite3.Error, DatabaseError.
        """
        last_us = now_us = self._clock.now_us()
        if kept:
            kept_us = await self._due_times.last(key, now_us=now_us)
            last_us = self._fired.get(key, kept_us)  # what was fired may still wait for its run
        self._table.add(key, schedule, missed=missed, last_us=last_us)
        self._watched[key] = _Watched(fire, skip, kept)
        self._news.set()

    async def remove(self, key: str, *, waits: bool = False) -> None:
        """It is not due any more, until it is added again. waits: the last time that was fired has not been given to
        a run, nor will be: it is due again then."""
        if waits:
            self._fired.pop(key, None)
        self._table.remove(key)
        self._watched.pop(key, None)

    async def forget(self, key: str) -> None:
        """It has been removed for good: times missed from now on are not made up for."""
        self._fired.pop(key, None)
        with suppress(sqlite3.Error, DatabaseError):
            await self._due_times.forget(key)

    async def done(self, key: str, due_us: int) -> None:
        """The run for this time begins, or there will be none: it is not made up for after a restart."""
        try:
            await self._due_times.done(key, due_us)
        except (sqlite3.Error, DatabaseError) as error:
            self._log.error("due_time_not_kept", schedule=key, error=str(error))

    async def run(self) -> None:
        """Fires for ever."""
        while True:
            self._news.clear()
            self._due.extend(self._table.take(self._clock.now_us()))
            while self._due:
                await self._act_on(self._due.popleft())  # one that crashes costs the others nothing
            with suppress(TimeoutError):
                async with asyncio.timeout(self._wait_s()):
                    await self._news.wait()

    async def _act_on(self, due: Due[str]) -> None:
        watched = self._watched.get(due.key)
        if watched is None:
            return  # removed while another was acted on
        if watched.kept:
            self._fired[due.key] = due.due_us
        if not due.skipped:
            watched.fire(due.due_us)
            return
        watched.skip(due.due_us)
        if watched.kept:
            await self.done(due.key, due.due_us)

    def _wait_s(self) -> float:
        next_us = self._table.next_us
        return LOOK_S if next_us is None else max(0.0, min(LOOK_S, (next_us - self._clock.now_us()) / 1e6))
