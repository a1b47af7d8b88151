"""What the recorder finds in place of its database, and says of it before it touches anything."""

import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import zstandard

from contracts.v1.event_store import ReadEvents
from contracts.v1.frame_codec import SampleStruct
from services.recorder import database as database_module
from services.recorder.completeness import settled
from services.recorder.database import Database
from services.recorder.embedded.history import History
from services.recorder.embedded.store import EmbeddedStore
from services.recorder.events.archive import EventArchive
from services.recorder.summary import Summary
from services.runtime.sqlite_file import DatabaseError
from tests.recorder_rig import event_message, message, rig


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recorder.db"


async def _refusal(path: Path) -> str:
    with pytest.raises(DatabaseError) as refused:
        async with Database(path):
            pass
    return str(refused.value)


def _run(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        for statement in statements:
            database.execute(statement)


async def test_a_second_recorder_is_kept_out_until_the_first_is_gone(path):
    async with Database(path):
        assert await _refusal(path) == f"{path}: another recorder has this database open; stop it first"

    async with Database(path) as database:
        assert database.store


async def test_a_file_that_is_no_database_is_named(path):
    path.write_bytes(b"rubbish " * 1000)

    assert await _refusal(path) == (
        f"{path}: file is not a database; mend it, or move the file away to begin a new one"
    )


async def test_a_database_that_another_program_holds_is_not_to_be_moved_away(path, monkeypatch):
    async with Database(path):
        pass
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, timeout=0.01))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")

        assert await _refusal(path) == (
            f"{path}: database is locked; another program works with it: end that one, and start again"
        )


async def test_a_disk_that_refuses_the_file_is_to_be_seen_to_and_not_the_file(path):
    path.mkdir()

    assert (await _refusal(path)).startswith(f"{path}: unable to open database file; leave the file where it is")


async def test_a_file_that_was_refused_is_not_held(path):
    path.write_bytes(b"rubbish " * 1000)
    await _refusal(path)
    path.unlink()

    async with Database(path) as database:
        assert database.store


async def test_the_database_of_another_program_stays_as_it_is(path):
    _run(path, "CREATE TABLE guests (name)")

    assert "is the database of another program" in await _refusal(path)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT name FROM sqlite_master").fetchall() == [("guests",)]


async def test_a_database_without_its_name_is_refused(path):
    async with Database(path) as database:
        await database.transaction(lambda sql: sql.execute("DELETE FROM meta"))

    assert "has lost its name" in await _refusal(path)


def _fourth_layout(sql: sqlite3.Connection) -> None:
    """Times stand in each chunk, behind its runs."""
    rows = sql.execute("SELECT chunk.id, chunk.body, axis.body FROM chunk JOIN axis ON axis.id = axis").fetchall()
    for at, body, times in rows:
        data = zstandard.decompress(body)
        end = 10 + 6 * int.from_bytes(data[6:10], "little")
        whole = b"\x01" + data[1:end] + zstandard.decompress(times) + data[end:]
        sql.execute("UPDATE chunk SET body = ? WHERE id = ?", (zstandard.compress(whole), at))
    sql.execute("ALTER TABLE chunk DROP COLUMN axis")
    sql.execute("DROP TABLE axis")


def _third_layout(sql: sqlite3.Connection) -> None:
    """What the fourth and the fifth have added goes."""
    _fourth_layout(sql)
    for table in ("settled", "heard", "snapshot", "rollup"):
        sql.execute(f"DROP TABLE {table}")
    sql.execute("DROP INDEX spool_number")
    for column in ("epoch", "seq"):
        sql.execute(f"ALTER TABLE spool DROP COLUMN {column}")
    sql.execute("ALTER TABLE aggregate DROP COLUMN cut")


async def test_a_database_of_the_third_layout_is_taken_over_with_what_became_of_its_messages(path):
    def as_it_was(sql):
        _third_layout(sql)
        sql.execute("INSERT INTO stream VALUES (1, 'frame', 'plc', 'fast')")
        sql.execute("INSERT INTO mark (stream, epoch, last, have) VALUES (1, 7, NULL, '[[1, 5]]')")
        one = message(4, epoch=7)
        sql.execute("INSERT INTO spool (stream, topic, payload) VALUES (1, ?, ?)", (one.topic, one.payload))
        sql.execute("PRAGMA user_version = 3")

    async with Database(path) as database:
        await database.transaction(as_it_was)

    async with Database(path) as database:
        rows = await database.transaction(lambda sql: sql.execute("SELECT epoch, seq FROM spool").fetchall())
        known = await database.transaction(lambda sql: settled.read(sql, 1, 7))

    assert rows == [(7, 4)]
    assert (list(known.written), list(known.dead)) == ([(1, 3), (5, 5)], [])


async def test_a_database_of_the_first_layout_is_taken_over_with_all_it_holds(path):

    def as_it_was(sql):
        sql.execute("INSERT INTO stream VALUES (1, 'frame', 'plc', 'fast')")
        sql.execute("INSERT INTO mark (stream, epoch, last, have) VALUES (1, 7, NULL, '[[1, 5]]')")
        sql.execute("ALTER TABLE mark DROP COLUMN lost")
        _third_layout(sql)
        for table in ("event", "aggregate", "delivery"):
            sql.execute(f"DROP TABLE {table}")
        sql.execute("PRAGMA user_version = 1")

    async with Database(path) as database:
        await database.transaction(as_it_was)
        store = database.store

    async with Database(path) as database:
        assert database.store == store
        rows = await database.transaction(lambda sql: sql.execute("SELECT epoch, have, lost FROM mark").fetchall())
        events = await database.transaction(lambda sql: sql.execute("SELECT count(*) FROM event").fetchone())

    assert rows == [(7, "[[1, 5]]", "[]")]
    assert events == (0,)


async def test_messages_of_events_that_the_second_layout_kept_whole_are_taken_apart(path):
    topic = "dinrail/v1/test/event/plant/device/pump"

    def as_it_was(sql):
        _third_layout(sql)
        for table in ("event", "aggregate", "delivery"):
            sql.execute(f"DROP TABLE {table}")
        sql.execute(
            "CREATE TABLE event (id INTEGER PRIMARY KEY, stream INTEGER NOT NULL REFERENCES stream,"
            " epoch INTEGER NOT NULL, seq INTEGER NOT NULL, arrived INTEGER NOT NULL, topic TEXT NOT NULL,"
            " payload BLOB NOT NULL, UNIQUE (stream, epoch, seq))"
        )
        sql.execute("INSERT INTO stream VALUES (1, 'event', 'gateway', 'main')")
        for seq, payload in ((1, event_message(1, "online", "offline").payload), (2, b"{")):
            sql.execute("INSERT INTO event VALUES (?, 1, 7, ?, 99, ?, ?)", (seq, seq, topic, payload))
        sql.execute("PRAGMA user_version = 2")

    async with Database(path) as database:
        await database.transaction(as_it_was)

    async with Database(path) as database:
        deliveries = await database.transaction(lambda sql: sql.execute("SELECT id, arrived FROM delivery").fetchall())
        letters = await database.transaction(
            lambda sql: sql.execute("SELECT topic, payload FROM dead_letter").fetchall()
        )
    found = EventArchive(path).read(ReadEvents(scope="plant", aggregate="device", aggregate_id="pump"))

    assert deliveries == [(1, 99)]
    assert [event.type for event in found.events] == ["online", "offline"]
    assert letters == [(topic, b"{")]


async def test_events_of_the_third_layout_are_taken_over_as_they_are(path):
    store = EmbeddedStore(batch_bytes=1 << 20, flush_s=60, chunk_values=10)

    def as_it_was(sql):
        _third_layout(sql)
        sql.execute("PRAGMA user_version = 3")

    async with rig(path, store) as one:
        await one.commit(event_message(1, "online", "offline"))
        await one.database.transaction(as_it_was)

    async with rig(path, store) as one:
        await one.commit(event_message(2, "online", version=3))
    found = EventArchive(path).read(ReadEvents(scope="plant", aggregate="device", aggregate_id="pump"))

    assert [event.type for event in found.events] == ["online", "offline", "online"]
    assert found.missing == []


@pytest.mark.parametrize("layout", [3, 4])
async def test_values_of_an_earlier_layout_read_the_same_and_are_rolled_up(path, layout):
    store = EmbeddedStore(batch_bytes=1 << 20, flush_s=60, chunk_values=10)
    minute, device = 60_000_000, "plc"

    def as_it_was(sql):
        {3: _third_layout, 4: _fourth_layout}[layout](sql)
        sql.execute(f"PRAGMA user_version = {layout}")

    async with rig(path, store) as one:
        await one.record([SampleStruct(t=at * minute // 7, v={"x": at, "y": "on"}) for at in range(100)])
        await one.flush()
    async with rig(path, store) as one:
        one.seq = 1
        await one.record([SampleStruct(t=50 * minute // 7, v={"x": 0.5})])
        await one.flush()
        before = History(path).read(device, "x", 0, 2**53)
        await one.database.transaction(as_it_was)

    async with Database(path) as database:
        rows = await database.transaction(lambda sql: sql.execute("SELECT count(*) FROM rollup").fetchone())
    buckets = History(path).summaries(device, "x", 0, 20 * minute, 5 * minute)

    assert rows == (2,)
    assert History(path).read(device, "x", 0, 2**53) == before
    assert before[50] == (50 * minute // 7, 0.5, 192)
    assert [summary for _, summary in buckets] == [
        Summary.of([point for point in before if start <= point[0] < start + 5 * minute]) for start, _ in buckets
    ]


async def test_a_long_upgrade_says_how_far_it_has_come(path, monkeypatch):
    monkeypatch.setattr(database_module, "TOLD_S", 0.0)
    minute = 60_000_000

    def as_it_was(sql):
        _third_layout(sql)
        sql.execute("PRAGMA user_version = 3")

    async with rig(path, EmbeddedStore(batch_bytes=1 << 20, flush_s=60, chunk_values=10)) as one:
        await one.record([SampleStruct(t=at * 600 * minute, v={"x": at, "y": "on"}) for at in range(10)])
        await one.flush()
        await one.database.transaction(as_it_was)
        log, logged = one.log, one.logged
    async with Database(path, log=log):
        pass

    told = [line for line in logged.entries if line["event"] == "database_upgrade"]
    assert [line["percent"] for line in told] == sorted(line["percent"] for line in told)
    assert (told[-1]["values"], told[-1]["of"], told[-1]["percent"]) == (20, 20, 100)
    assert len(told) >= 8


async def test_a_transaction_that_raises_has_written_nothing_and_the_next_one_goes_on(path):
    def failing(sql):
        sql.execute("INSERT INTO meta VALUES ('half', '1')")
        raise LookupError("the work's own")

    async with Database(path) as database:
        with pytest.raises(LookupError):
            await database.transaction(failing)
        await database.transaction(lambda sql: sql.execute("INSERT INTO meta VALUES ('whole', '1')"))
        keys = await database.transaction(lambda sql: sql.execute("SELECT key FROM meta ORDER BY key").fetchall())

    assert keys == [("store",), ("whole",)]


async def test_a_transaction_whose_commit_fails_has_written_nothing_and_the_next_one_goes_on(path):
    def check_foreign_keys(sql):
        sql.execute("CREATE TABLE pupil (teacher INTEGER REFERENCES series (id) DEFERRABLE INITIALLY DEFERRED)")
        sql.execute("COMMIT")  # SQLite changes this setting between transactions only
        sql.execute("PRAGMA foreign_keys = ON")

    async with Database(path) as database:
        await database.transaction(check_foreign_keys)
        with pytest.raises(sqlite3.IntegrityError):
            await database.transaction(lambda sql: sql.execute("INSERT INTO pupil VALUES (7)"))
        pupils = await database.transaction(lambda sql: sql.execute("SELECT count(*) FROM pupil").fetchone())

    assert pupils == (0,)


async def test_a_layout_of_a_later_version_is_refused_and_stays_as_it_is(path):
    async with Database(path) as database:
        await database.transaction(lambda sql: sql.execute("PRAGMA user_version = 6"))

    assert await _refusal(path) == f"{path} has layout 6; this version of dinrail knows 5"
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (6,)


async def test_marks_that_the_disk_has_not_kept_are_named_at_the_start(path):
    async with rig(path, EmbeddedStore(batch_bytes=1 << 20, flush_s=60, chunk_values=10)) as recorder:
        await recorder.commit(message(1))
    _run(path, "UPDATE mark SET have = '[[1,!]]'")

    with pytest.raises(sqlite3.DatabaseError, match=r"the marks of stream 1, epoch 1, are damaged"):
        async with rig(path, EmbeddedStore(batch_bytes=1 << 20, flush_s=60, chunk_values=10)):
            pass


async def test_what_is_settled_and_cannot_be_read_holds_up_the_writer_and_is_told(path):
    async with rig(path, EmbeddedStore(batch_bytes=1 << 20, flush_s=0, chunk_values=10)) as recorder:
        await recorder.record([SampleStruct(t=1, v={"x": 1.5})])
        await recorder.flush()
        _run(path, "UPDATE settled SET written = '[[1,!]]'")
        await recorder.record([SampleStruct(t=2, v={"x": 1.5})])
        await recorder.writer.write_batch()

        assert recorder.spool.rows == 1
        assert "what is settled of stream 1, epoch 1, is damaged" in str(recorder.said("store"))
