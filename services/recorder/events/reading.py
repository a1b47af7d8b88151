"""The recorder's file read beside the recorder, for a while and no longer."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.runtime.sqlite_file import one_moment

LONGEST_S = 3.0
"""How long a search may take: whoever asks waits for 5 seconds."""
_STEPS = 10_000
"""SQLite's steps between two looks at the clock."""


class NothingStored(Exception):
    """There is no event of the aggregate, or none so early."""


class TooLong(Exception):
    """The search was given up after LONGEST_S."""


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """One moment's events; what is done with them in the context ends after LONGEST_S with TooLong."""
    end_s = time.monotonic() + LONGEST_S
    try:
        with one_moment(path) as database:
            database.set_progress_handler(lambda: time.monotonic() > end_s, _STEPS)
            yield database
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_INTERRUPT:  # none: of a text that is not UTF-8
            raise
        raise TooLong(f"not found within {LONGEST_S:g} s; ask for a shorter stretch of time") from None


def last_version_by(database: sqlite3.Connection, aggregate: int, to_t: int) -> int:
    """The last version of the aggregate's row that had happened by then; 0 for none."""
    found = database.execute(
        "SELECT version FROM event INDEXED BY event_aggregate WHERE aggregate = ? AND t <= ?"
        " ORDER BY version DESC LIMIT 1",
        (aggregate, to_t),
    ).fetchone()
    return int(found[0]) if found else 0
