"""The orchestrator's one SQLite file: versions of pipelines, how far triggers are, sessions at the broker, alarms."""

import sqlite3

from services.runtime.sqlite_file import SqliteFile

FILE = "orchestrator.db"
"""The file's name in the orchestrator's data folder."""

_PROGRESS = "CREATE TABLE progress (key TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID"
_OWNER = ("scope", "pipeline")
_SCHEMA = (
    # A version is written once; one without a text says that the pipeline was deleted.
    """CREATE TABLE version (scope TEXT NOT NULL, pipeline TEXT NOT NULL, version INTEGER NOT NULL, rev TEXT NOT NULL,
    text TEXT, saved_by TEXT NOT NULL, saved_at INTEGER NOT NULL, origin TEXT NOT NULL, shadow INTEGER NOT NULL,
    saver_since INTEGER, PRIMARY KEY (scope, pipeline, version)) WITHOUT ROWID""",
    """CREATE TRIGGER version_stays BEFORE UPDATE ON version
    BEGIN SELECT RAISE(ABORT, 'a version is never changed'); END""",
    """CREATE TRIGGER version_remains BEFORE DELETE ON version
    BEGIN SELECT RAISE(ABORT, 'a version is never removed'); END""",
    """CREATE TABLE imported (scope TEXT NOT NULL, pipeline TEXT NOT NULL, digest TEXT NOT NULL,
    PRIMARY KEY (scope, pipeline)) WITHOUT ROWID""",
    """CREATE TABLE due (key TEXT PRIMARY KEY, last INTEGER NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE session (client TEXT PRIMARY KEY, begun INTEGER NOT NULL, scope TEXT NOT NULL DEFAULT '',
    pipeline TEXT NOT NULL DEFAULT '') WITHOUT ROWID""",
    _PROGRESS,
    """CREATE TABLE alarm (scope TEXT NOT NULL, source TEXT NOT NULL, alarm TEXT NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (scope, source, alarm)) WITHOUT ROWID""",
)


class Database(SqliteFile):
    """The orchestrator's file."""

    service = "orchestrator"
    layout = 3

    def make(self, database: sqlite3.Connection) -> None:
        """See SqliteFile."""
        for statement in _SCHEMA:
            database.execute(statement)

    def upgrade(self, database: sqlite3.Connection, layout: int) -> None:
        """See SqliteFile.

        Layout 1 did not say whose a session is, nor how far a trigger has come; layout 2 not which of those who had
        the name saved a version.
        """
        if layout not in (1, 2):
            super().upgrade(database, layout)
        if layout == 1:
            for column in _OWNER:
                database.execute(f"ALTER TABLE session ADD COLUMN {column} TEXT NOT NULL DEFAULT ''")
            database.execute(_PROGRESS)
        database.execute("ALTER TABLE version ADD COLUMN saver_since INTEGER")
