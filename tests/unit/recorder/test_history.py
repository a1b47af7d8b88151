"""The embedded history as a reader sees it, while the recorder writes."""

import sqlite3
from pathlib import Path
from random import Random

import pytest

from contracts.v1.frame_codec import SampleStruct
from services.recorder.database import Database
from services.recorder.embedded.history import History
from services.recorder.embedded.store import EmbeddedStore
from services.recorder.spool.deadletters import ROW_BYTES, DeadLetter, DeadLetters
from services.recorder.summary import Summary
from tests.recorder_rig import DEVICE, Rig, message, rig

DAY_US = 86_400_000_000
EVER = 2**53


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recorder.db"


@pytest.fixture
def store() -> EmbeddedStore:
    return EmbeddedStore(batch_bytes=1 << 20, flush_s=60, chunk_values=10)


async def test_a_reader_sees_what_is_packed_and_what_still_waits_each_value_once(path, store):
    async with rig(path, store) as recorder:
        await recorder.record([SampleStruct(t=at, v={"x": at}) for at in range(25)])
        await recorder.flush()
        await recorder.record([SampleStruct(t=at, v={"x": at}) for at in range(25, 30)])

        assert History(path).read(DEVICE, "x", 0, EVER) == [(at, at, 192) for at in range(30)]


async def test_a_range_has_its_start_and_not_its_end(path, store):
    async with rig(path, store) as recorder:
        await recorder.record([SampleStruct(t=at, v={"x": at}) for at in range(25)])
        await recorder.flush()
        await recorder.record([SampleStruct(t=at, v={"x": at}) for at in range(25, 30)])

        assert [t for t, _, _ in History(path).read(DEVICE, "x", 8, 27)] == [*range(8, 27)]
        assert History(path).read(DEVICE, "x", 5, 5) == []


async def test_a_chunk_that_reaches_into_the_range_from_a_day_before_is_found(path, store):
    times = [0, DAY_US, DAY_US + 1, 3 * DAY_US]
    async with rig(path, store) as recorder:
        await recorder.record([SampleStruct(t=t, v={"x": t}) for t in times])
        await recorder.flush()

        for t in times:
            assert History(path).read(DEVICE, "x", t, t + 1) == [(t, t, 192)]


async def test_a_message_that_keeps_no_contract_hides_nothing_from_a_reader(path, store):
    async with rig(path, store) as recorder:
        await recorder.record([SampleStruct(t=1, v={"No Tag": 1, "x": 1})])
        await recorder.record([SampleStruct(t=2, v={"x": 2})])

        assert History(path).read(DEVICE, "x", 0, EVER) == [(2, 2, 192)]


async def test_devices_and_tags_are_kept_apart_and_named(path, store):
    async with rig(path, store) as recorder:
        await recorder.record([SampleStruct(t=1, v={"x": 1, "y": 2})])
        await recorder.commit(message(1, [SampleStruct(t=1, v={"x": 3})], topic="dinrail/v1/test/frame/other/fast"))
        await recorder.flush()

        assert History(path).read("other", "x", 0, EVER) == [(1, 3, 192)]
        assert History(path).read(DEVICE, "y", 0, EVER) == [(1, 2, 192)]
        assert History(path).tags() == [("other", "x"), (DEVICE, "x"), (DEVICE, "y")]


async def test_tags_whose_times_begin_and_end_alike_keep_each_their_own(path, store):
    async with rig(path, store) as recorder:
        await recorder.record(
            [SampleStruct(t=10 * at, v={"x": at, "y": at}, dt={"y": 3} if at == 1 else None) for at in range(3)]
        )
        await recorder.flush()

        assert History(path).read(DEVICE, "x", 0, EVER) == [(0, 0, 192), (10, 1, 192), (20, 2, 192)]
        assert History(path).read(DEVICE, "y", 0, EVER) == [(0, 0, 192), (13, 1, 192), (20, 2, 192)]


async def test_a_transaction_that_fails_leaves_batch_and_history_as_they_were(path, store):
    def fails(database: sqlite3.Connection) -> None:
        database.execute("INSERT INTO series (device, tag) VALUES ('a', 'b')")
        raise sqlite3.OperationalError("disk I/O error")

    async with rig(path, store) as recorder:
        await recorder.record([SampleStruct(t=1, v={"x": 1})])
        rows = await recorder.spool.head(most_bytes=1)

        with pytest.raises(sqlite3.OperationalError):
            await recorder.spool.settle(rows, [], fails)

        recorder.spool.give_back(rows)
        assert recorder.spool.rows == 1
        assert await recorder.spool.head(most_bytes=1) == rows
        assert History(path).tags() == [(DEVICE, "x")]


async def test_spool_marks_and_store_id_are_there_again_after_a_restart(path, store):
    async with rig(path, store) as recorder:
        await recorder.record([SampleStruct(t=1, v={"x": 1})])
        await recorder.commit(message(5), message(9, epoch=2))
        marks, held, uuid = recorder.spool.marks, recorder.spool.bytes, recorder.database.store

    async with rig(path, store) as again:
        assert again.spool.marks == marks
        assert (again.spool.rows, again.spool.bytes) == (3, held)
        assert again.database.store == uuid
        assert (await again.commit(message(5))).duplicates == 1


async def test_each_database_has_an_id_of_its_own(tmp_path):
    async with Database(tmp_path / "a.db") as a, Database(tmp_path / "b.db") as b:
        assert len({a.store, b.store}) == 2


async def test_the_head_of_the_spool_is_bounded_by_bytes_but_never_empty(path, store):
    async with rig(path, store) as recorder:
        for _ in range(5):
            await recorder.record([SampleStruct(t=1, v={"x": 1})])
        size = recorder.spool.bytes // 5

        assert [len(await offered(recorder, most)) for most in (1, size, 3 * size, 99 * size)] == [1, 1, 3, 5]


async def offered(recorder: Rig, most_bytes: int) -> list[int]:
    """The rows at the head of the spool, which stay there."""
    rows = await recorder.spool.head(most_bytes=most_bytes)
    if rows:
        recorder.spool.give_back(rows)
    return [row.id for row in rows]


@pytest.mark.parametrize("seed", range(3))
async def test_a_message_under_way_is_offered_to_nobody_else_and_each_leaves_the_spool_once(path, store, seed):
    random = Random(seed)
    async with rig(path, store) as recorder:
        spool, under_way, settled, given = recorder.spool, [], [], 0
        while given < 60 or spool.rows:
            step = random.random()
            if step < 0.3 and given < 60:
                given += 1
                await recorder.record([SampleStruct(t=given, v={"x": given})])
            elif step < 0.6:
                rows = await spool.head(most_bytes=random.choice([1, 200]), backlog=random.random() < 0.5)
                under_way += [rows] if rows else []
            elif step < 0.9 and under_way:
                rows = under_way.pop(random.randrange(len(under_way)))
                if random.random() < 0.3:
                    spool.give_back(rows)
                else:
                    await spool.settle(rows, [], lambda _: None)
                    settled += [row.id for row in rows]
            elif step > 0.95:
                spool.set_back()
            waiting = spool.rows - sum(len(rows) for rows in under_way)
            assert spool.fresh_rows + spool.backlog_rows == waiting
            assert not {row.id for rows in under_way for row in rows} & {*await offered(recorder, 1 << 20)}

        assert sorted(settled) == [*range(1, 61)]
        assert await recorder.database.transaction(lambda database: [*database.execute("SELECT 1 FROM spool")]) == []


async def test_dead_letters_are_bounded_and_the_oldest_go_first(path):
    letters = DeadLetters(most_bytes=3 * (30 + ROW_BYTES))
    async with Database(path) as database:
        for at in range(10):
            letter = DeadLetter("contract", "", "", bytes([at]) * 30)
            await database.transaction(lambda sql, letter=letter: letters.put(sql, [letter], now_us=1))

        assert [letter.payload[0] for letter in await database.transaction(letters.all)] == [7, 8, 9]


async def test_empty_messages_are_not_kept_without_bound(path):
    letters = DeadLetters(most_bytes=100 * ROW_BYTES)
    async with Database(path) as database:
        for _ in range(50):
            empty = [DeadLetter("contract", "", "", b"")] * 10
            await database.transaction(lambda sql, empty=empty: letters.put(sql, empty, now_us=1))

        assert 100 <= len(await database.transaction(letters.all)) <= 110


async def test_the_first_points_of_a_range_are_read_up_to_a_limit(path, store):
    async with rig(path, store) as recorder:
        await recorder.record([SampleStruct(t=at, v={"x": at}) for at in range(25)])
        await recorder.flush()
        await recorder.record([SampleStruct(t=at, v={"x": at}) for at in range(25, 30)])

        assert [t for t, _, _ in History(path).points(DEVICE, "x", 3, EVER, 25)] == [*range(3, 28)]


async def test_buckets_hold_what_is_packed_late_and_waiting_and_the_last_written_value_of_a_time(path, store):
    async with rig(path, store) as recorder:
        await recorder.record([SampleStruct(t=at, v={"x": at}) for at in range(0, 40, 2)])
        await recorder.flush()
        await recorder.record([SampleStruct(t=5, v={"x": 50}), SampleStruct(t=8, v={"x": 80})])
        await recorder.flush()
        await recorder.record([SampleStruct(t=9, v={"x": 90}), SampleStruct(t=4, v={"x": 40})])

        buckets = History(path).summaries(DEVICE, "x", 3, 30, 10)

    assert [start for start, _ in buckets] == [3, 13, 23]
    assert buckets[0][1] == Summary.of(
        [(t, v, 192) for t, v in ((4, 40), (5, 50), (6, 6), (8, 80), (9, 90), (10, 10), (12, 12))]
    )
    assert buckets[2][1].last == (28, 28, 192)


async def test_the_last_point_before_a_time_is_found_wherever_it_is(path, store):
    async with rig(path, store) as recorder:
        await recorder.record([SampleStruct(t=10 * at, v={"x": at, "y": at}) for at in range(25)])
        await recorder.flush()
        await recorder.record([SampleStruct(t=5, v={"x": 100}), SampleStruct(t=60, v={"x": 66})])
        await recorder.flush()
        await recorder.record([SampleStruct(t=300, v={"x": 30, "z": 3}), SampleStruct(t=70, v={"x": 77})])
        history = History(path)

        names = [(DEVICE, tag) for tag in "xyz"]

        assert history.before(DEVICE, "x", 0) is None
        assert history.before(DEVICE, "none", EVER) is None
        assert [history.before(DEVICE, "x", t) for t in (1, 10, 61, 71, 80, 300, 301)] == [
            (0, 0, 192),
            (5, 100, 192),
            (60, 66, 192),
            (70, 77, 192),
            (70, 77, 192),
            (240, 24, 192),
            (300, 30, 192),
        ]
        assert history.each_before(names, 75) == {(DEVICE, "x"): (70, 77, 192), (DEVICE, "y"): (70, 7, 192)}
        assert history.each_before(names, EVER)[DEVICE, "z"] == (300, 3, 192)
        assert history.tags() == [(DEVICE, "x"), (DEVICE, "y"), (DEVICE, "z")]


async def test_points_up_to_a_limit_are_the_first_ones_wherever_they_are(path, store):
    async with rig(path, store) as recorder:
        await recorder.record([SampleStruct(t=10 * at, v={"x": at}) for at in range(40)])
        await recorder.flush()
        await recorder.record([SampleStruct(t=15, v={"x": -1}), SampleStruct(t=100, v={"x": -2})])
        await recorder.flush()
        await recorder.record(
            [SampleStruct(t=25, v={"x": -3}), SampleStruct(t=30, v={"x": -4}), SampleStruct(t=999, v={"x": 0})]
        )
        history = History(path)
        whole = history.read(DEVICE, "x", 0, EVER)

        assert len(whole) == 43
        for t0, t1 in ((0, EVER), (12, 300), (30, 31), (990, EVER), (2000, EVER)):
            inside = [point for point in whole if t0 <= point[0] < t1]
            for limit in (1, 2, 5, 7, 42, 43, 100):
                assert history.points(DEVICE, "x", t0, t1, limit) == inside[:limit]


async def test_for_one_answer_a_devices_spool_is_read_once_and_what_is_packed_meanwhile_counts_once(path, store):
    async with rig(path, store) as recorder:
        await recorder.record([SampleStruct(t=at, v={"x": at, "y": -at}) for at in range(5)])
        answer = History(path, once=True)
        assert len(answer.read(DEVICE, "x", 0, EVER)) == 5

        await recorder.record([SampleStruct(t=5, v={"x": 5, "y": -5})])
        assert len(answer.read(DEVICE, "y", 0, EVER)) == 5  # the spool is not looked at again
        assert len(History(path).read(DEVICE, "y", 0, EVER)) == 6

        await recorder.flush()
        packed = [(at, -at, 192) for at in range(6)]
        assert answer.read(DEVICE, "y", 0, EVER) == answer.points(DEVICE, "y", 0, EVER, 9) == packed
        assert answer.summaries(DEVICE, "y", 0, 6, 6) == [(0, Summary.of(packed))]
        assert answer.before(DEVICE, "y", 6) == packed[-1]
        assert answer.each_before([(DEVICE, "y")], 6) == {(DEVICE, "y"): packed[-1]}
