"""How far triggers have come, on disk: what is written while a commit is under way goes into the next one together."""

import asyncio
import sqlite3
from contextlib import suppress

from services.runtime.logs import Log
from services.runtime.sqlite_file import DatabaseError, SqliteFile

LINGER_S = 0.1
"""So long more is waited for that may go to the disk together."""
AGAIN_S = 1.0
"""How soon what the disk refused is tried again."""


class Progress:
    """A text for each trigger, under a key that tells it from all others. Kept running by a supervisor."""

    name = "progress"

    def __init__(self, *, database: SqliteFile, log: Log) -> None:
        self._database = database
        self._log = log
        self._waiting: dict[str, str] = {}
        self._callers: list[asyncio.Future[None]] = []
        self._news = asyncio.Event()
        self._urgent = asyncio.Event()

    async def last(self, key: str) -> str | None:
        """The trigger's text; None if it has none. Raises sqlite3.Error, DatabaseError."""
        if key in self._waiting:
            return self._waiting[key]
        row = await self._database.transaction(
            lambda database: database.execute("SELECT body FROM progress WHERE key = ?", (key,)).fetchone()
        )
        return None if row is None else str(row[0])

    def put(self, key: str, body: str) -> None:
        """The trigger's text from now on; on disk soon, also if that is the end of the service."""
        self._waiting[key] = body
        self._news.set()

    def hurry(self) -> None:
        """Too much waits for what was put: it goes to the disk now."""
        self._urgent.set()

    async def written(self) -> None:
        """Returns once all that was put is on disk. Raises sqlite3.Error, DatabaseError: it is not yet."""
        written = asyncio.get_running_loop().create_future()
        self._callers.append(written)
        self._news.set()
        await written

    async def forget(self, key: str) -> None:
        """There is no such trigger any more. Raises sqlite3.Error, DatabaseError."""
        self._waiting.pop(key, None)
        await self._database.transaction(
            lambda database: database.execute("DELETE FROM progress WHERE key = ?", (key,))
        )

    async def run(self) -> None:
        """Writes until cancelled, and then what is left."""
        try:
            while True:
                await self._news.wait()
                with suppress(TimeoutError):
                    async with asyncio.timeout(LINGER_S):
                        await self._urgent.wait()
                self._news.clear()
                self._urgent.clear()
                if not await self._write():
                    await asyncio.sleep(AGAIN_S)
        finally:
            if self._waiting:
                await self._write()

    async def _write(self) -> bool:
        rows, self._waiting = self._waiting, {}
        callers, self._callers = self._callers, []
        try:
            if rows:
                await self._database.transaction(
                    lambda database: database.executemany(
                        "INSERT OR REPLACE INTO progress VALUES (?, ?)", [*rows.items()]
                    )
                )
        except asyncio.CancelledError:
            self._waiting = rows | self._waiting  # the file's thread may not have begun with it, and then does not
            raise
        except (sqlite3.Error, DatabaseError) as error:
            self._log.error("progress_not_kept", triggers=len(rows), error=str(error))
            self._waiting = rows | self._waiting  # newer texts stand
            self._news.set()
            for caller in callers:
                with suppress(asyncio.InvalidStateError):
                    caller.set_exception(error)
            return False
        for caller in callers:
            with suppress(asyncio.InvalidStateError):
                caller.set_result(None)
        return True
