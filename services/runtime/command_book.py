"""The book of commands that must not be repeated: entered on the disk before they are begun, with their answers after.

What a killed process had begun stands there without an answer: the next one finds it and says that the outcome is
unknown, and a command that comes again is known again.
"""

import asyncio
import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TypeVar

from contracts.v1.command import DEFAULT_DEADLINE_S
from plugins.api.clock import Clock
from services.runtime.answers import KEEP_S, Key, KeyTaken
from services.runtime.delivery import Delivery
from services.runtime.logs import Log
from services.runtime.metrics import Metrics

MOST = 100_000
"""Commands that are kept; beyond it the oldest answered ones go, before their time."""
_TIDY_S = 60.0
_STEP_US = 5_000_000
"""By how much the clock must have been set for it to matter."""
_MEND = "writes and calls are refused until it can be opened; a file that is broken may be removed"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS command (
    key BLOB PRIMARY KEY,
    topic TEXT NOT NULL,
    response_topic TEXT,
    correlation BLOB,
    payload BLOB NOT NULL,
    until_us INTEGER NOT NULL,
    answer BLOB
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS command_until ON command (until_us);
"""
R = TypeVar("R")


class BookError(Exception):
    """The book cannot be opened, or the disk does not take the entry."""


class CommandBook:
    """One process's commands, in an SQLite file. A Part: a sink, to be stopped after those that enter commands."""

    name = "commands"

    def __init__(self, path: Path, *, clock: Clock, metrics: Metrics, log: Log, most: int = MOST) -> None:
        """Opens the file, made if there is none. While it cannot be opened every entry is tried anew, and refused."""
        self._path = path
        self._clock = clock
        self._most = most
        self._evicted = metrics.dropped.labels("commands.book", "oldest")
        self._tidy_at = 0.0
        self._seen = clock.now_us(), clock.monotonic()
        self._stopping = asyncio.Event()
        # One thread: entries are on the disk in the order in which they were made, and the event loop never waits.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="commands")
        self._opened: sqlite3.Connection | None = None
        self._left_over: dict[bytes, Delivery[bytes]] = {}
        try:
            self._left_over = self._unanswered()
        except (sqlite3.Error, OSError) as error:  # no reason not to poll
            log.warning("book_not_open", path=str(path), error=str(error), mend=_MEND)

    @property
    def left_over(self) -> Sequence[Delivery[bytes]]:
        """What an earlier process had begun and nobody has answered yet, oldest first."""
        return list(self._left_over.values())

    async def begin(self, key: Key, command: Delivery[bytes]) -> bool:
        """Whether the command is new; it then is on the disk, whatever happens next. Raises BookError."""
        return await self._do(lambda: self._enter(_digest(key), command))

    async def answer(self, key: Key, payload: bytes) -> bytes | None:
        """The command's answer; None while there is none. Raises KeyTaken, BookError."""
        return await self._do(lambda: self._answer(_digest(key), payload))

    async def finish(self, key: Key, answer: bytes) -> None:
        """This is the command's answer. A SIGKILL does not lose it; a power cut may, which leaves it without one.

        Raises BookError.
        """
        digest = _digest(key)
        self._left_over.pop(digest, None)
        await self._do(lambda: self._put_answer(digest, answer))

    async def run(self) -> None:
        """Until stop(); then the file is closed."""
        try:
            await self._stopping.wait()
        finally:
            self.close()

    async def stop(self) -> None:
        """Ends run()."""
        self._stopping.set()

    def close(self) -> None:
        """Closes the file once what was asked for has been done. Idempotent."""
        self._thread.shutdown()
        if self._opened is not None:
            self._opened.close()

    async def _do(self, work: Callable[[], R]) -> R:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (sqlite3.Error, OSError) as error:
            raise BookError(f"{self._path.name}: {error}") from error

    # From here on: in the thread, once the book has been made.

    @property
    def _database(self) -> sqlite3.Connection:
        """Raises sqlite3.Error, OSError."""
        if self._opened is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with ExitStack() as undo:
                database = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
                undo.callback(database.close)
                database.execute("PRAGMA journal_mode = WAL")
                database.executescript(_SCHEMA)
                undo.pop_all()
            self._opened = database
        return self._opened

    def _enter(self, key: bytes, command: Delivery[bytes]) -> bool:
        self._tidy()
        keep_s = max(KEEP_S, DEFAULT_DEADLINE_S if command.expiry_s is None else command.expiry_s)
        entry = (
            key,
            command.topic,
            command.response_topic,
            command.correlation,
            command.payload,
            self._clock.now_us() + int(keep_s * 1e6),
        )
        self._database.execute("PRAGMA synchronous = FULL")  # an fsync with the entry
        try:
            entered = self._database.execute("INSERT OR IGNORE INTO command VALUES (?, ?, ?, ?, ?, ?, NULL)", entry)
        except sqlite3.Error:
            if self._database.execute("SELECT 1 FROM command WHERE key = ?", (key,)).fetchone():
                return False  # it was not to be entered, and may have been done long ago
            raise
        return entered.rowcount == 1

    def _answer(self, key: bytes, payload: bytes) -> bytes | None:
        row = self._database.execute("SELECT payload, answer FROM command WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        if row[0] != payload:
            raise KeyTaken
        answer: bytes | None = row[1]
        return answer

    def _put_answer(self, key: bytes, answer: bytes) -> None:
        self._database.execute("PRAGMA synchronous = NORMAL")  # no fsync: see finish()
        self._database.execute("UPDATE command SET answer = ? WHERE key = ?", (answer, key))

    def _tidy(self) -> None:
        """Forgets what is past its time, and what is too much; at most once a minute."""
        if self._clock.monotonic() < self._tidy_at:
            return
        self._tidy_at = self._clock.monotonic() + _TIDY_S
        with suppress(sqlite3.Error):  # a full disk: whether the entry can be made is another question
            self._follow_clock()
            self._forget()

    def _follow_clock(self) -> None:
        """What is kept is kept for as long as before, though the clock has been set meanwhile."""
        (then_us, then_s), self._seen = self._seen, (self._clock.now_us(), self._clock.monotonic())
        set_by_us = self._seen[0] - then_us - int((self._seen[1] - then_s) * 1e6)
        if abs(set_by_us) > _STEP_US:
            self._database.execute("UPDATE command SET until_us = until_us + ?", (set_by_us,))

    def _forget(self) -> None:
        now_us = self._clock.now_us()
        self._database.execute("DELETE FROM command WHERE until_us < ?", (now_us,))
        (count,) = self._database.execute("SELECT count(*) FROM command").fetchone()
        if count > self._most:
            oldest = "SELECT key FROM command WHERE answer IS NOT NULL ORDER BY until_us LIMIT ?"
            gone = self._database.execute(f"DELETE FROM command WHERE key IN ({oldest})", (count - self._most,))  # noqa: S608
            self._evicted.inc(gone.rowcount)

    def _unanswered(self) -> dict[bytes, Delivery[bytes]]:
        columns = "key, topic, response_topic, correlation, payload"
        rows = self._database.execute(f"SELECT {columns} FROM command WHERE answer IS NULL ORDER BY until_us")  # noqa: S608
        return {
            key: Delivery(topic=topic, levels={}, payload=payload, response_topic=response, correlation=correlation)
            for key, topic, response, correlation, payload in rows
        }


def _digest(key: Key) -> bytes:
    """The key in 32 bytes: its parts may have 64 kB each."""
    topic, response_topic, correlation = key
    return hashlib.sha256(f"{topic}\n{response_topic}\n".encode() + correlation).digest()
