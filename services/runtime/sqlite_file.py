"""A service's one SQLite file, and the one thread that touches it.

WAL with synchronous=FULL: a commit that has returned survives a power cut, and a SIGKILL at any moment leaves either
all of a transaction or nothing.
"""

import asyncio
import os
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self, TypeVar

from services.runtime.file_lock import FileTaken, lock_file

T = TypeVar("T")

_HELD = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_REFUSED = frozenset(
    {
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
    }
)


class DatabaseError(Exception):
    """The file is not one that this version can work with, or another process works with it."""


class SqliteFile(ABC):
    """The open file. An async context manager; every transaction runs in the file's own thread, one at a time.

    service: whose it is. layout: number of its tables' layout, from 1; a file says its own as PRAGMA user_version.
    """

    service: ClassVar[str]
    layout: ClassVar[int]

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None
        self._lock = -1
        self._opened_as: tuple[int, int] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="database")

    @abstractmethod
    def make(self, database: sqlite3.Connection) -> None:
        """Puts the tables into a new file."""

    def upgrade(self, database: sqlite3.Connection, layout: int) -> None:
        """Brings a file of another layout to ours. Raises DatabaseError for one that is not known."""
        raise DatabaseError(f"{self.path} has layout {layout}; this version of dinrail knows {self.layout}")

    def prepare(self, database: sqlite3.Connection) -> None:
        """Brings the file to our layout, in the transaction with which it is opened. Raises DatabaseError."""
        (layout,) = database.execute("PRAGMA user_version").fetchone()
        if layout == self.layout:
            return
        if layout:
            self.upgrade(database, layout)
        elif database.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
            self.make(database)
        else:
            raise DatabaseError(f"{self.path} is the database of another program; name another data folder")
        database.execute(f"PRAGMA user_version = {self.layout}")

    async def __aenter__(self) -> Self:
        """Opens the file and makes it if it is not there. Raises DatabaseError, OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as undo:
            self._lock = self._locked()
            undo.callback(os.close, self._lock)
            self._connection = await self._in_thread(self._opened)
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

    async def transaction(
        self, work: Callable[[sqlite3.Connection], T], *, committed: Callable[[T], None] | None = None
    ) -> T:
        """What the work gives, once all it wrote is committed and on disk; if it raises, nothing is written.

        A caller that is cancelled does not stop it: it is then committed or not, but never half. committed: is called
        in the file's thread, in the order of the commits, whether or not somebody still waits. Raises sqlite3.Error,
        DatabaseError, what the work raises.
        """
        connection = self._connection
        if connection is None:
            raise DatabaseError(f"{self.path} is not open")

        def transact() -> T:
            """In the file's thread."""
            self._check_there()
            given = _transacted(connection, work)
            if committed is not None:
                committed(given)
            return given

        return await self._in_thread(transact)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _locked(self) -> int:
        """Keeps out others of the service, whose picture in memory would soon be another than that on disk.

        Readers are welcome.
        """
        try:
            return lock_file(self.path.with_suffix(".lock"))
        except FileTaken:
            raise DatabaseError(f"{self.path}: another {self.service} has this database open; stop it first") from None

    def _opened(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            with ExitStack() as undo:
                undo.callback(connection.close)
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                # A reader that holds its snapshot lets the log grow; once it is gone the file is cut back to this.
                connection.execute("PRAGMA journal_size_limit = 67108864")
                _transacted(connection, self.prepare)
                self._opened_as = _identity(self.path)
                undo.pop_all()
        except sqlite3.Error as error:
            raise DatabaseError(f"{self.path}: {error}; {_mend(error)}") from None
        return connection

    def _check_there(self) -> None:
        """What is written into a file that was removed would be gone with this process. Raises sqlite3.Error."""
        there = None
        try:
            there = _identity(self.path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise sqlite3.OperationalError(f"{self.path}: {error.strerror}") from None
        if there != self._opened_as:
            what = f"{self.path} was removed or replaced while it was open: start the {self.service} again"
            raise sqlite3.OperationalError(what)


def _identity(path: Path) -> tuple[int, int]:
    """Which file it is, whatever its name. Raises OSError."""
    status = path.stat()
    return status.st_dev, status.st_ino


@contextmanager
def one_moment(path: Path) -> Iterator[sqlite3.Connection]:
    """One moment of a service's file, from any thread, beside the service. Raises sqlite3.Error: there is no such file.

    It is to be short: while it lasts, the write-ahead log grows.
    """
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)) as database:
        database.execute("BEGIN")
        yield database


def _mend(error: sqlite3.Error) -> str:
    """What to do. To be moved away is only a file that is damaged or no database: all else may have left it whole."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in _HELD:
        return "another program works with it: end that one, and start again"
    if code in _REFUSED:
        return "leave the file where it is, see to the disk and to the rights of the folder, and start again"
    return "mend it, or move the file away to begin a new one"


def _transacted(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    with connection:  # commits; if that or the work raises, rolls back what SQLite has not
        connection.execute("BEGIN IMMEDIATE")
        return work(connection)
