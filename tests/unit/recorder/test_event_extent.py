"""How many bytes the events are said to take, against what the file has grown by."""

import sqlite3
from functools import partial
from itertools import count
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from contracts.v1.event_codec import EventsStruct, EventStruct
from services.recorder.database import Database
from services.recorder.events import table
from services.recorder.events.extent import bytes_of
from services.recorder.events.table import Delivered
from services.runtime.gaps import StreamKey

STREAM = StreamKey("event", "orchestrator", "main")
NOW_US = 1_700_000_000_000_000


def delivered(seq: int, each: int, data: int) -> Delivered:
    """A run's events in one message, their data rising to so many characters."""
    events = [
        EventStruct(
            id=str(UUID(int=seq << 64 | at)),
            aggregate="run",
            aggregate_id=f"01a2b3c4-{seq:028d}",
            scope="main",
            version=at + 1,
            type="node.completed",
            t=NOW_US + 1000 * seq + at,
            user="anna" if at % 2 else None,
            cause=str(UUID(int=seq)),
            data=msgspec.Raw(msgspec.json.encode({"x": "ä" * (data * (at + 1) // each // 2)})),
        )
        for at in range(each)
    ]
    return Delivered(STREAM, EventsStruct(owner=STREAM.owner, epoch=1, seq=seq, events=events))


@pytest.mark.parametrize(("deliveries", "each", "data"), [(3000, 1, 20), (500, 7, 300), (300, 3, 4000)])
async def test_they_are_told_within_a_quarter(tmp_path: Path, deliveries: int, each: int, data: int) -> None:
    def fill(sql: sqlite3.Connection) -> tuple[int, int]:
        """What the file has grown by, and what is said of it."""
        sql.execute("INSERT INTO stream (id, kind, owner, name) VALUES (1, ?, ?, ?)", STREAM)
        before = sql.execute("PRAGMA page_count").fetchone()[0]
        batch = (delivered(seq, each, data) for seq in range(1, deliveries + 1))
        table.put(sql, batch, {STREAM: 1}, now_us=NOW_US)
        sql.execute("DELETE FROM aggregate WHERE id > 1")  # which goes with a run's last event
        pages, free = (sql.execute(f"PRAGMA {what}").fetchone()[0] for what in ("page_count", "freelist_count"))
        return (pages - free - before) * sql.execute("PRAGMA page_size").fetchone()[0], bytes_of(sql)

    async with Database(tmp_path / "recorder.db") as database:
        assert await database.transaction(bytes_of) == 0
        grown, said = await database.transaction(fill)

    assert said == pytest.approx(grown, rel=0.25)


async def test_of_ten_times_as_many_no_more_is_read(tmp_path: Path) -> None:
    def fill(sql: sqlite3.Connection, first: int, last: int) -> None:
        """Deliveries of one event each."""
        sql.execute("INSERT OR IGNORE INTO stream (id, kind, owner, name) VALUES (1, ?, ?, ?)", STREAM)
        batch = (delivered(seq, 1, 20) for seq in range(first, last + 1))
        table.put(sql, batch, {STREAM: 1}, now_us=NOW_US)

    def steps(sql: sqlite3.Connection) -> int:
        """Of SQLite's machine."""
        done = count()
        sql.set_progress_handler(lambda: next(done) < 0, 1)
        bytes_of(sql)
        sql.set_progress_handler(None, 0)
        return next(done)

    async with Database(tmp_path / "recorder.db") as database:
        await database.transaction(partial(fill, first=1, last=400))
        of_some = await database.transaction(steps)
        await database.transaction(partial(fill, first=401, last=4000))
        of_many = await database.transaction(steps)

    assert of_many == pytest.approx(of_some, rel=0.1)
