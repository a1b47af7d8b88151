"""How much room the events take in the recorder's file, by some of them: to measure all would read all."""

import sqlite3

SAMPLES = 200
ROW_BYTES = 85
"""Of an event besides its texts: its numbers, and its place in the table and in three indexes."""
DELIVERY_BYTES = 75
_PAGE = 4096

_EVENTS = "SELECT (SELECT min(id) FROM event), (SELECT max(id) FROM event)"  # in one SELECT SQLite would read an index
_DELIVERIES = "SELECT (SELECT max(id) FROM delivery) - (SELECT min(id) FROM delivery) + 1"
_TEXTS = (
    "SELECT length(CAST(data AS BLOB)) + length(uuid) + 2 * length(type) + 2 * coalesce(length(user), -4)"
    " + 8 + coalesce(length(cause), 0) FROM event WHERE id >= ? ORDER BY id LIMIT 1"
)


def bytes_of(database: sqlite3.Connection) -> int:
    """About how many bytes the rows of deliveries and events take, indexes included; within a quarter."""
    first, last = database.execute(_EVENTS).fetchone()
    if first is None:
        return 0
    number = last - first + 1
    looked_at = range(first, last + 1, -(-number // SAMPLES))
    sizes = (ROW_BYTES + database.execute(_TEXTS, (row,)).fetchone()[0] for row in looked_at)
    (deliveries,) = database.execute(_DELIVERIES).fetchone()
    events: int = number * sum(map(_room, sizes)) // len(looked_at)
    return events + int(deliveries or 0) * DELIVERY_BYTES


def _room(size: int) -> int:
    """What a row of so many bytes takes of pages that hold whole rows of its kind; a longer one takes several."""
    return _PAGE // (_PAGE // size) if size <= _PAGE else -(-size // _PAGE) * _PAGE
