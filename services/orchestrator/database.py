"""The orchestrator's one SQLite file, and the one thread that touches it.

WAL with synchronous=FULL: a commit that has returned survives a power cut, and a SIGKILL at any moment leaves either
all of a transaction or nothing.
"""

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")

FILE = "orchestrator.db"
"""The file's name in the orchestrator's data folder."""

LAYOUT = 1

_SCHEMA = (
    # A version is written once; one without a text says that the pipeline was deleted.
    """CREATE TABLE version (scope TEXT NOT NULL, pipeline TEXT NOT NULL, version INTEGER NOT NULL, rev TEXT NOT NULL,
    text TEXT, saved_by TEXT NOT NULL, saved_at INTEGER NOT NULL, origin TEXT NOT NULL, shadow INTEGER NOT NULL,
    PRIMARY KEY (scope, pipeline, version)) WITHOUT ROWID""",
    """CREATE TRIGGER version_stays BEFORE UPDATE ON version
    BEGIN SELECT RAISE(ABORT, 'a version is never changed'); END""",
    """CREATE TRIGGER version_remains BEFORE DELETE ON version
    BEGIN SELECT RAISE(ABORT, 'a version is never removed'); END""",
    """CREATE TABLE imported (scope TEXT NOT NULL, pipeline TEXT NOT NULL, digest TEXT NOT NULL,
    PRIMARY KEY (scope, pipeline)) WITHOUT ROWID""",
    """CREATE TABLE due (key TEXT PRIMARY KEY, last INTEGER NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE alarm (scope TEXT NOT NULL, source TEXT NOT NULL, alarm TEXT NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (scope, source, alarm)) WITHOUT ROWID""",
)


class DatabaseError(Exception):
    """The file is not one that this version can work with, or another process works with it."""


class Database:
    """The open file. An async context manager; every transaction runs in the database's own thread, one at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None
        self._lock = -1
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="database")

    async def __aenter__(self) -> Self:
        """Opens the file and makes it if it is not there. Raises DatabaseError, OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(self.path)
        try:
            self._connection = await self._in_thread(lambda: _opened(self.path))
        except BaseException:
            os.close(self._lock)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Waits for the transaction that runs, then closes the file."""
        if self._connection is not None:
            await self._in_thread(self._connection.close)
        self._thread.shutdown()
        os.close(self._lock)

    async def transaction(
        self, work: Callable[[sqlite3.Connection], T], *, committed: Callable[[T], None] | None = None
    ) -> T:
        """What the work gives, once all it wrote is on disk; if it raises, nothing is written.

        A caller that is cancelled does not stop it. committed: is called in the database's thread, in the order of the
        commits, whether or not somebody still waits. Raises sqlite3.Error, DatabaseError, what the work raises.
        """
        connection = self._connection
        if connection is None:
            raise DatabaseError(f"{self.path} is not open")

        def transact() -> T:
            given = _transacted(connection, work)
            if committed is not None:
                committed(given)
            return given

        return await self._in_thread(transact)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _transacted(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    connection.execute("BEGIN IMMEDIATE")
    try:
        given = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        # SQLite has rolled back by itself after a full disk or an I/O error.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return given


def _locked(path: Path) -> int:
    """Keeps other orchestrators out, whose picture in memory would soon be another than that on disk."""
    lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise DatabaseError(f"{path}: another orchestrator has this database open; stop it first") from None
    return lock


def _opened(path: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            _transacted(connection, lambda database: _prepare(database, path))
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise DatabaseError(f"{path}: {error}; mend it, or move the file away to begin a new one") from None
    return connection


def _prepare(database: sqlite3.Connection, path: Path) -> None:
    (layout,) = database.execute("PRAGMA user_version").fetchone()
    if layout == LAYOUT:
        return
    if layout != 0:
        raise DatabaseError(f"{path} has layout {layout}; this version of dinrail knows {LAYOUT}")
    if database.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
        raise DatabaseError(f"{path} is the database of another program; name another data folder")
    for statement in _SCHEMA:
        database.execute(statement)
    database.execute(f"PRAGMA user_version = {LAYOUT}")
