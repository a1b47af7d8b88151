"""What is too old leaves the embedded history, and what is asked of it afterwards."""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts.v1.frame_codec import SampleStruct
from services.recorder.embedded import retention
from services.recorder.embedded.history import History
from services.recorder.embedded.retention import HistoryRetention
from services.recorder.embedded.store import EmbeddedStore
from services.recorder.lived_time import LivedTime
from services.recorder.settings import EmbeddedSettings
from services.runtime.clock import SystemClock
from tests.recorder_rig import DEVICE, Rig, rig
from tests.unit.recorder.test_rollup import expected, known, numbers, samples

MINUTE = 60_000_000
HOUR = 60 * MINUTE
EVER = 2**53
LATER = 5 * 365 * 24 * HOUR


class Clock(SystemClock):
    """At the time that is set."""

    us = 0

    def now_us(self) -> int:
        return self.us


def keeper(recorder: Rig, *, now_us: int, keep_h: float, keep_minutes_h: float = 1e6) -> HistoryRetention:
    clock = Clock()
    clock.us = now_us
    return HistoryRetention(
        database=recorder.database,
        clock=clock,
        lived=LivedTime(database=recorder.database, clock=clock, log=recorder.log),
        keep_s=keep_h * 3600,
        keep_minutes_s=keep_minutes_h * 3600,
        metrics=recorder.metrics,
        log=recorder.log,
    )


async def chunks(recorder: Rig) -> int:
    return (await recorder.database.transaction(lambda sql: sql.execute("SELECT count(*) FROM chunk").fetchone()))[0]


async def written(recorder: Rig, given: Sequence[SampleStruct]) -> None:
    await recorder.record(given)
    await recorder.writer.write_batch()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recorder.db"


@pytest.fixture
def store() -> EmbeddedStore:
    return EmbeddedStore(batch_bytes=1 << 20, flush_s=60, chunk_values=10)


old = st.lists(st.tuples(st.integers(0, 12).map(lambda at: at * HOUR // 4 + 7), numbers), min_size=1, max_size=10)
new = st.lists(st.tuples(st.integers(8, 12).map(lambda at: at * HOUR // 4 + 9), numbers), max_size=10)
grids = st.tuples(st.integers(0, 7), st.integers(0, 240), st.sampled_from([1, 7, 60, 90]))


# What waits lies between two minutes of the roll-up, in one bucket with both.
@example([[(9000000007, None)]], [(7200000009, None)], [(8100000009, None)], [(0, 151, 60)])
@settings(max_examples=15, deadline=None)
@given(st.lists(old, min_size=1, max_size=4), new, new, st.lists(grids, min_size=1, max_size=5))
def test_minutes_answer_for_raw_values_that_are_gone(packed, later, waiting, grids):
    async def both() -> None:
        model: dict[int, tuple] = {}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "recorder.db"
            async with rig(path, EmbeddedStore(batch_bytes=1, flush_s=60, chunk_values=3)) as recorder:
                for batch in [*packed, [(3 * HOUR, 1)]]:
                    known(batch, model)
                    await written(recorder, samples(batch))
                await keeper(recorder, now_us=4 * HOUR, keep_h=2).clear()
                known(later, model)
                await written(recorder, samples(later))
                known(waiting, model)
                await recorder.record(samples(waiting))
                history = History(path)

                recent = [model[t] for t in sorted(model) if t >= 2 * HOUR]
                assert history.read(DEVICE, "x", 2 * HOUR, EVER) == recent
                for start, end, step in grids:
                    asked = start * MINUTE, end * MINUTE, step * MINUTE
                    assert history.summaries(DEVICE, "x", *asked) == expected(model, *asked)
                for t in (HOUR, 2 * HOUR, 2 * HOUR + 1, EVER):
                    before = max((at for at in model if at < t), default=None)
                    assert history.before(DEVICE, "x", t) == model.get(before)

    asyncio.run(both())


async def test_raw_values_go_in_bounded_pieces_and_their_minutes_stay(path, store, monkeypatch):
    monkeypatch.setattr(retention, "MOST_ROWS", 3)
    async with rig(path, store) as recorder:
        for at in range(10):
            await written(recorder, [SampleStruct(t=at * HOUR, v={"x": at, "y": at})])
        sizes = []
        transaction = recorder.database.transaction

        async def counted(work):
            before = await chunks_by(transaction)
            given = await transaction(work)
            sizes.append(before - await chunks_by(transaction))
            return given

        monkeypatch.setattr(recorder.database, "transaction", counted)
        await keeper(recorder, now_us=EVER, keep_h=4).clear()
        monkeypatch.undo()

        assert max(sizes) == 3
        assert sum(sizes) == 12
        assert [t for t, _, _ in History(path).read(DEVICE, "x", 0, EVER)] == [at * HOUR for at in range(6, 10)]
        assert len(History(path).summaries(DEVICE, "x", 0, EVER, HOUR)) == 10


async def chunks_by(transaction) -> int:
    return (await transaction(lambda sql: sql.execute("SELECT count(*) FROM chunk").fetchone()))[0]


async def test_minutes_go_in_their_turn_and_a_tag_of_which_nothing_is_left_is_forgotten(path, store):
    async with rig(path, store) as recorder:
        await written(recorder, [SampleStruct(t=0, v={"gone": 1, "x": 1})])
        await written(recorder, [SampleStruct(t=9 * HOUR, v={"x": 2})])

        await keeper(recorder, now_us=EVER, keep_h=1, keep_minutes_h=8).clear()

        assert History(path).tags() == [(DEVICE, "x")]
        assert [start for start, _ in History(path).summaries(DEVICE, "x", 0, EVER, HOUR)] == [9 * HOUR]
        assert History(path).before(DEVICE, "x", 9 * HOUR) is None


async def test_a_clock_that_runs_ahead_deletes_nothing_and_one_that_stepped_back_brings_nothing_back(path, store):
    async with rig(path, store) as recorder:
        for at in range(5):
            await written(recorder, [SampleStruct(t=at * HOUR, v={"x": at})])

        await keeper(recorder, now_us=EVER, keep_h=6).clear()
        assert await chunks(recorder) == 5
        await keeper(recorder, now_us=4 * HOUR, keep_h=2).clear()
        assert await chunks(recorder) == 3
        await keeper(recorder, now_us=0, keep_h=2).clear()
        await written(recorder, [SampleStruct(t=1, v={"x": 9})])

        assert [summary.n for _, summary in History(path).summaries(DEVICE, "x", 0, EVER, HOUR)] == [2, 1, 1, 1, 1]


async def test_a_value_among_minutes_whose_raw_values_are_gone_leaves_its_minute_as_it_was(path, store):
    async with rig(path, store) as recorder:
        await written(recorder, [SampleStruct(t=1, v={"x": 1}), SampleStruct(t=5, v={"x": 5})])
        await written(recorder, [SampleStruct(t=9 * HOUR, v={"x": 2})])
        await keeper(recorder, now_us=EVER, keep_h=1).clear()
        history = History(path)

        await recorder.record([SampleStruct(t=3, v={"x": 3})])
        assert [summary.n for _, summary in history.summaries(DEVICE, "x", 0, HOUR, MINUTE)] == [2]
        await recorder.flush()
        assert [summary.n for _, summary in history.summaries(DEVICE, "x", 0, HOUR, MINUTE)] == [2]


async def test_deleted_pages_are_used_again(path, store):
    async with rig(path, store) as recorder:

        async def day(first: int) -> None:
            text = {"x": "".join(chr(33 + (first * 7 + at) % 90) for at in range(3000))}
            for at in range(20):
                await written(recorder, [SampleStruct(t=(first + at) * HOUR + one, v=text) for one in range(10)])
            await keeper(recorder, now_us=EVER, keep_h=10, keep_minutes_h=10).clear()

        async def pages() -> int:
            found = await recorder.database.transaction(lambda sql: sql.execute("PRAGMA page_count").fetchone())
            return int(found[0])

        await day(0)
        once = await pages()
        await day(20)
        await day(40)

        assert await pages() <= once + 5


async def test_the_bytes_of_a_day_are_foretold_by_the_last_full_hour(path, store, eventually):
    async with rig(path, store) as recorder:
        await written(recorder, [SampleStruct(t=at * MINUTE, v={"x": at}) for at in range(100)])
        part = keeper(recorder, now_us=EVER, keep_h=24 * 90)
        running = asyncio.create_task(part.run())
        await eventually(lambda: recorder.metric("history_bytes_per_day", part="minutes"))
        await part.stop()
        await running
        sizes = await recorder.database.transaction(
            lambda sql: sql.execute(
                "SELECT (SELECT sum(length(body)) FROM chunk WHERE t0 < 3600000000), (SELECT length(body) FROM rollup),"
                " (SELECT sum(length(body)) FROM axis WHERE t1 < 3600000000)"
            ).fetchone()
        )

        assert recorder.metric("history_bytes_per_day", part="raw") == 24 * (sizes[0] + sizes[2])
        assert recorder.metric("history_bytes_per_day", part="minutes") == 24 * sizes[1]
        (said,) = [entry for entry in recorder.logged.entries if entry["event"] == "history_forecast"]
        assert said["bytes_in_the_end"] > said["raw_bytes_per_day"] * 90


def test_the_roll_up_is_kept_no_shorter_than_raw_values():
    with pytest.raises(ValidationError, match="keep_minutes is shorter than keep"):
        EmbeddedSettings(keep="90d", keep_minutes="30d")


async def test_a_clock_wrong_by_years_that_dates_values_too_deletes_none_of_before(path, store):
    async with rig(path, store) as recorder:
        for at in range(5):
            await written(recorder, [SampleStruct(t=at * HOUR, v={"x": at})])
        for now_us in (4 * HOUR, LATER):
            part = keeper(recorder, now_us=now_us, keep_h=6)
            await part._lived.note()
            await part.clear()
        await written(recorder, [SampleStruct(t=LATER, v={"x": 9})])
        await keeper(recorder, now_us=LATER, keep_h=6).clear()

        assert await chunks(recorder) == 6


async def test_tags_of_a_group_share_their_times_which_go_with_the_last_of_their_chunks(path, store, monkeypatch):
    async def axes() -> int:
        return (await recorder.database.transaction(lambda sql: sql.execute("SELECT count(*) FROM axis").fetchone()))[0]

    monkeypatch.setattr(retention, "MOST_ROWS", 1)
    async with rig(path, store) as recorder:
        for at in range(5):
            await written(recorder, [SampleStruct(t=at * HOUR + i, v={"x": i, "y": 0.5, "z": None}) for i in range(3)])
        assert (await chunks(recorder), await axes()) == (15, 5)

        await keeper(recorder, now_us=4 * HOUR, keep_h=2).clear()

        assert (await chunks(recorder), await axes()) == (9, 3)
        assert [point[0] for point in History(path).read(DEVICE, "y", 0, EVER)][:3] == [2 * HOUR + i for i in range(3)]


async def test_of_raw_values_whole_hours_go(path, store):
    async with rig(path, store) as recorder:
        for at in range(5):
            await written(recorder, [SampleStruct(t=at * HOUR, v={"x": at})])

        await keeper(recorder, now_us=4 * HOUR + 30 * MINUTE, keep_h=2).clear()

        assert [point[0] for point in History(path).read(DEVICE, "x", 0, EVER)] == [2 * HOUR, 3 * HOUR, 4 * HOUR]
