"""The recorder's one SQLite file: spool, marks, events, dead letters and the embedded history.

They share a file so that one transaction can move a value from the spool into the history: after a SIGKILL it is in
exactly one of the two. What is committed is on disk, which is what an acknowledgement to the broker promises.
"""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from contracts.codec import ContractError
from contracts.v1.event_codec import decode_events
from services.recorder.completeness import heard, settled
from services.recorder.embedded import raw, rollup
from services.recorder.events import snapshot as event_snapshot
from services.recorder.events import table as event_table
from services.recorder.events.table import Delivered
from services.recorder.layout import LAYOUT
from services.recorder.spool.deadletters import DeadLetter, DeadLetters
from services.runtime.gaps import StreamKey
from services.runtime.logs import Log
from services.runtime.sqlite_file import DatabaseError, SqliteFile

FILE = "recorder.db"
"""The file's name in the recorder's data folder."""

TOLD_S = 5.0
"""Between two words of how far an upgrade has come."""

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE stream (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, owner TEXT NOT NULL, name TEXT NOT NULL,
    UNIQUE (kind, owner, name));
CREATE TABLE mark (stream INTEGER NOT NULL REFERENCES stream, epoch INTEGER NOT NULL, last INTEGER, have TEXT NOT NULL,
    lost TEXT NOT NULL DEFAULT '[]', PRIMARY KEY (stream, epoch)) WITHOUT ROWID;
CREATE TABLE spool (id INTEGER PRIMARY KEY, stream INTEGER NOT NULL REFERENCES stream, epoch INTEGER NOT NULL DEFAULT 0,
    seq INTEGER NOT NULL DEFAULT 0, topic TEXT NOT NULL, payload BLOB NOT NULL);
CREATE INDEX spool_number ON spool (stream, epoch, seq);
CREATE TABLE dead_letter (id INTEGER PRIMARY KEY, t INTEGER NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL,
    topic TEXT NOT NULL, payload BLOB NOT NULL);
"""

_FROM_1 = "ALTER TABLE mark ADD COLUMN lost TEXT NOT NULL DEFAULT '[]'"
_FROM_3 = """
ALTER TABLE spool ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
ALTER TABLE spool ADD COLUMN seq INTEGER NOT NULL DEFAULT 0;
CREATE INDEX spool_number ON spool (stream, epoch, seq);
"""
_NEW_IN_4 = event_snapshot.SCHEMA + settled.SCHEMA + heard.SCHEMA + rollup.SCHEMA


class Database(SqliteFile):
    """The recorder's file. store: its UUID, by which others see that it is another one; known once it is open."""

    service = "recorder"
    layout = LAYOUT
    store = ""

    def __init__(self, path: Path, *, log: Log | None = None) -> None:
        """log: is told how far a long upgrade has come."""
        super().__init__(path)
        self._log = log

    def make(self, database: sqlite3.Connection) -> None:
        """See SqliteFile; the new file gets its name."""
        _run(database, _SCHEMA + raw.SCHEMA + event_table.SCHEMA + _NEW_IN_4 + raw.AXIS)
        database.execute("INSERT INTO meta VALUES ('store', ?)", (str(uuid4()),))

    def upgrade(self, database: sqlite3.Connection, layout: int) -> None:
        """See SqliteFile. Layout 1 knew neither events nor losses, 2 kept messages of events as they came.

        Layout 3 knew no retention and no snapshots of events, no roll-up, and did not
        say what became of what left the spool. Layout 4 had the times of values in each tag's chunk.
        """
        if layout == 4:
            _run(database, raw.AXIS)
            return
        if layout == 1:
            _run(database, _FROM_1 + ";" + event_table.SCHEMA)
        elif layout == 2:
            _take_events_apart(database)
        elif layout == 3:
            _run(database, event_table.FROM_3)
        else:
            super().upgrade(database, layout)
        _run(database, _FROM_3 + _NEW_IN_4 + raw.AXIS)
        settled.adopt(database)
        rollup.fill(database, self._progress(layout))

    def _progress(self, layout: int) -> Callable[[int, int], None]:
        """Tells the log how much of the values has been gone through, every TOLD_S."""
        told_s = time.monotonic()

        def tell(done: int, of: int) -> None:
            """In the file's thread."""
            nonlocal told_s
            if self._log is None or time.monotonic() - told_s < TOLD_S:
                return
            told_s = time.monotonic()
            self._log.info("database_upgrade", layout=layout, values=done, of=of, percent=100 * done // max(of, 1))

        return tell

    def prepare(self, database: sqlite3.Connection) -> None:
        """See SqliteFile; then reads the file's name."""
        super().prepare(database)
        stores = database.execute("SELECT value FROM meta WHERE key = 'store'").fetchall()
        if len(stores) != 1:
            raise DatabaseError(f"{self.path} has lost its name; move the file away to begin a new one")
        self.store = str(stores[0][0])


def _take_events_apart(database: sqlite3.Connection) -> None:
    database.execute("ALTER TABLE event RENAME TO message")
    _run(database, event_table.SCHEMA)
    streams = {at: StreamKey(*key) for at, *key in database.execute("SELECT id, kind, owner, name FROM stream")}
    ids = {key: at for at, key in streams.items()}
    letters = DeadLetters()
    for stream, arrived, topic, payload in database.execute(
        "SELECT stream, arrived, topic, payload FROM message ORDER BY id"
    ):
        try:
            message = decode_events(payload, topic=topic)
        except ContractError as error:
            letters.put(database, [DeadLetter("contract", str(error), topic, payload)], now_us=arrived)
        else:
            event_table.put(database, [Delivered(streams[stream], message)], ids, now_us=arrived)
    database.execute("DROP TABLE message")


def _run(database: sqlite3.Connection, script: str) -> None:
    # executescript() would commit the transaction that makes the file whole or not at all.
    for statement in filter(str.strip, script.split(";")):
        database.execute(statement)
