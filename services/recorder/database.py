"""The recorder's one SQLite file: spool, marks, dead letters and the embedded history.

They share a file so that one transaction can move a value from the spool into the history: after a SIGKILL it is in
exactly one of the two. What is committed is on disk, which is what an acknowledgement to the broker promises.
"""

import sqlite3
from uuid import uuid4

from services.runtime.sqlite_file import DatabaseError, SqliteFile

FILE = "recorder.db"
"""The file's name in the recorder's data folder."""

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


class Database(SqliteFile):
    """The recorder's file. store: its UUID, by which others see that it is another one; known once it is open."""

    service = "recorder"
    layout = 2
    store = ""

    def make(self, database: sqlite3.Connection) -> None:
        """See SqliteFile; the new file gets its name."""
        _run(database, _SCHEMA)
        database.execute("INSERT INTO meta VALUES ('store', ?)", (str(uuid4()),))

    def upgrade(self, database: sqlite3.Connection, layout: int) -> None:
        """See SqliteFile. Layout 1 knew neither events nor losses."""
        if layout != 1:
            super().upgrade(database, layout)
        _run(database, _FROM_1)

    def prepare(self, database: sqlite3.Connection) -> None:
        """See SqliteFile; then reads the file's name."""
        super().prepare(database)
        stores = database.execute("SELECT value FROM meta WHERE key = 'store'").fetchall()
        if len(stores) != 1:
            raise DatabaseError(f"{self.path} has lost its name; move the file away to begin a new one")
        self.store = str(stores[0][0])


def _run(database: sqlite3.Connection, script: str) -> None:
    # executescript() would commit the transaction that makes the file whole or not at all.
    for statement in filter(str.strip, script.split(";")):
        database.execute(statement)
