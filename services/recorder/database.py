"""The recorder's one SQLite file, and the one thread that touches it.

Spool, marks, dead letters and the embedded history share a file so that one transaction can move a value from the
spool into the history: after a SIGKILL it is in exactly one of the two. WAL with synchronous=FULL: a commit that has
returned survives a power cut, which is what an acknowledgement to the broker promises.
"""

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar
from uuid import uuid4

T = TypeVar("T")

FILE = "recorder.db"
"""The file's name in the recorder's data folder."""

VERSION = 2

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE stream (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, owner TEXT NOT NULL, name TEXT NOT NULL,
    UNIQUE (kind, owner, name));
CREATE TABLE mark (stream INTEGER NOT NULL REFERENCES stream, epoch INTEGER NOT NULL, last INTEGER, have TEXT NOT NULL,
    lost TEXT NOT NULL DEFAULT '[]', PRIMARY KEY (stream, epoch)) WITHOUT ROWID;
CREATE TABLE spool (id INTEGER PRIMARY KEY, stream INTEGER NOT NULL REFERENCES stream, topic TEXT NOT NULL,
    payload BLOB NOT NULL);
CREATE TABLE event (id INTEGER PRIMARY KEY, stream INTEGER NOT NULL REFERENCES stream, epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL, arrived INTEGER NOT NULL, topic TEXT NOT NULL, payload BLOB NOT NULL,
    UNIQUE (stream, epoch, seq));
CREATE TABLE dead_letter (id INTEGER PRIMARY KEY, t INTEGER NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL,
    topic TEXT NOT NULL, payload BLOB NOT NULL);
CREATE TABLE series (id INTEGER PRIMARY KEY, device TEXT NOT NULL, tag TEXT NOT NULL, UNIQUE (device, tag));
CREATE TABLE chunk (id INTEGER PRIMARY KEY, series INTEGER NOT NULL REFERENCES series, t0 INTEGER NOT NULL,
    t1 INTEGER NOT NULL, n INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX chunk_time ON chunk (series, t0, t1);
"""

_FROM_1 = """
ALTER TABLE mark ADD COLUMN lost TEXT NOT NULL DEFAULT '[]';
CREATE TABLE event (id INTEGER PRIMARY KEY, stream INTEGER NOT NULL REFERENCES stream, epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL, arrived INTEGER NOT NULL, topic TEXT NOT NULL, payload BLOB NOT NULL,
    UNIQUE (stream, epoch, seq));
"""


class DatabaseError(Exception):
    """The file is not one that this version can work with, or another process works with it."""


class Database:
    """The open file. An async context manager; every transaction runs in the database's own thread, one at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = ""
        self._connection: sqlite3.Connection | None = None
        self._lock = -1
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="database")

    async def __aenter__(self) -> Self:
        """Opens the file and makes it if it is not there. Raises DatabaseError, OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as undo:
            self._lock = _locked(self.path)
            undo.callback(os.close, self._lock)
            self._connection, self.store = await self._in_thread(lambda: _opened(self.path))
            undo.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Waits for the transaction that runs, then closes the file."""
        if self._connection is not None:
            await self._in_thread(self._connection.close)
        self._thread.shutdown()
        os.close(self._lock)

    async def transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What the work gives, once all it wrote is committed and on disk; if it raises, nothing is written.

        A caller that is cancelled does not stop it: it is then committed or not, but never half.
        """
        connection = self._connection
        if connection is None:
            raise DatabaseError(f"{self.path} is not open")
        return await self._in_thread(lambda: _transacted(connection, work))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _transacted(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    with connection:  # commits; if that or the work raises, rolls back what SQLite has not
        connection.execute("BEGIN IMMEDIATE")
        return work(connection)


def _locked(path: Path) -> int:
    """Keeps other recorders out, whose spool in memory would soon be another than that on disk; readers are welcome."""
    lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise DatabaseError(f"{path}: another recorder has this database open; stop it first") from None
    return lock


def _opened(path: Path) -> tuple[sqlite3.Connection, str]:
    try:
        return _connected(path)
    except sqlite3.Error as error:
        raise DatabaseError(f"{path}: {error}; mend it, or move the file away to begin a new one") from None


def _connected(path: Path) -> tuple[sqlite3.Connection, str]:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=64)
    with ExitStack() as undo:
        undo.callback(connection.close)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        # A reader that holds its snapshot lets the log grow; once it is gone the file is cut back to this.
        connection.execute("PRAGMA journal_size_limit = 67108864")
        store = _transacted(connection, lambda database: _prepared(database, path))
        undo.pop_all()
    return connection, store


def _prepared(database: sqlite3.Connection, path: Path) -> str:
    """The store's UUID; a new file gets its tables and one."""
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version == 0:
        if database.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
            raise DatabaseError(f"{path} is the database of another program; name another data folder")
        _run(database, _SCHEMA)
        database.execute("INSERT INTO meta VALUES ('store', ?)", (str(uuid4()),))
        database.execute(f"PRAGMA user_version = {VERSION}")
    elif version == 1:
        _run(database, _FROM_1)
        database.execute(f"PRAGMA user_version = {VERSION}")
    elif version != VERSION:
        raise DatabaseError(f"{path} has layout {version}; this version of dinrail knows {VERSION}")
    stores = database.execute("SELECT value FROM meta WHERE key = 'store'").fetchall()
    if len(stores) != 1:
        raise DatabaseError(f"{path} has lost its name; move the file away to begin a new one")
    return str(stores[0][0])


def _run(database: sqlite3.Connection, script: str) -> None:
    # executescript() would commit the transaction that makes the file whole or not at all.
    for statement in filter(str.strip, script.split(";")):
        database.execute(statement)
