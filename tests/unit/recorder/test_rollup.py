"""Buckets answered from the roll-up, against a model that has every point in a dict."""

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.v1.frame_codec import SampleStruct
from services.recorder.embedded import buckets
from services.recorder.embedded.chunk import ChunkError
from services.recorder.embedded.history import History
from services.recorder.embedded.minutes import HourPacker, Minutes, row_of, summary_of, unpack
from services.recorder.embedded.raw import points_between
from services.recorder.embedded.store import EmbeddedStore
from services.recorder.summary import Summary
from tests.recorder_rig import DEVICE, rig
from tests.unit.recorder.test_summary import points, values

MINUTE = 60_000_000
SPAN = 6 * MINUTE

times = st.integers(0, SPAN) | st.integers(0, 12).map(lambda at: at * MINUTE // 2)
numbers = st.integers(-50, 50) | st.integers(-50, 50).map(float) | st.booleans() | st.none() | st.just("on")
batches = st.lists(st.lists(st.tuples(times, numbers), min_size=1, max_size=8), min_size=1, max_size=6)
grids = st.tuples(times, times, st.sampled_from([MINUTE // 3, MINUTE, 2 * MINUTE, 90_000_000, SPAN]))


def expected(model, t0, t1, step):
    buckets: dict[int, list] = {}
    for t in sorted(model):
        if t0 <= t < t1:
            buckets.setdefault(t0 + (t - t0) // step * step, []).append(model[t])
    return [(start, Summary.of(found)) for start, found in buckets.items()]


def known(batch, model):
    for t, value in batch:
        model[t] = (t, value, 0 if value is None else 192)


def samples(batch):
    return [SampleStruct(t=t, v={"x": value}) for t, value in batch]


@settings(max_examples=15, deadline=None)
@given(batches, st.lists(st.tuples(times, numbers), max_size=5), st.lists(grids, min_size=1, max_size=6))
def test_buckets_are_those_of_the_raw_points_whatever_came_late_twice_or_waits_still(packed, waiting, grids):
    async def both() -> None:
        model: dict[int, tuple] = {}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "recorder.db"
            async with rig(path, EmbeddedStore(batch_bytes=1, flush_s=60, chunk_values=3)) as recorder:
                for batch in packed:
                    known(batch, model)
                    await recorder.record(samples(batch))
                    await recorder.writer.write_batch()
                known(waiting, model)
                await recorder.record(samples(waiting))
                history = History(path)

                assert history.read(DEVICE, "x", 0, 2**53) == [model[t] for t in sorted(model)]
                for t0, t1, step in grids:
                    assert history.summaries(DEVICE, "x", t0, t1, step) == expected(model, t0, t1, step)
                for t in (0, 1, MINUTE, SPAN, 2**53):
                    before = max((at for at in model if at < t), default=None)
                    assert history.before(DEVICE, "x", t) == model.get(before)

    asyncio.run(both())


@given(points(values | st.floats(allow_nan=False)))
def test_minutes_come_out_of_a_row_as_they_went_in(sequence):
    sequence = [(at, value, q) for at, (_, value, q) in enumerate(sequence)]
    minutes = [(at * MINUTE, Summary.of([(at * MINUTE + t, value, q)])) for at, (t, value, q) in enumerate(sequence)]
    body = HourPacker().pack([*zip(*(row_of(*minute) for minute in minutes), strict=True)]) if minutes else None
    if body is None:
        return
    columns = unpack(body)

    assert [(row[0] * 1_000_000, summary_of(row[0] * 1_000_000, row)) for row in zip(*columns, strict=True)] == minutes
    whole = Summary()
    for _, summary in minutes:
        whole = whole.then(summary)
    found = Minutes([(0, columns)]).summary(0, len(minutes))
    assert (found.n, found.first, found.last, found.min, found.max, found.covered_us) == (
        whole.n,
        whole.first,
        whole.last,
        whole.min,
        whole.max,
        whole.covered_us,
    )


@pytest.mark.parametrize("body", [b"", b"rubbish", HourPacker().pack([(1,), (2,), (3,)])])
def test_a_damaged_row_of_the_roll_up_is_named(body):
    with pytest.raises(ChunkError, match="a row of the roll-up"):
        unpack(body)


async def test_a_damaged_hour_is_made_anew_from_raw_values_and_holds_nothing_up(tmp_path):
    path = tmp_path / "recorder.db"
    async with rig(path, EmbeddedStore(batch_bytes=1, flush_s=60, chunk_values=3)) as recorder:
        await recorder.record(samples([(at * MINUTE, at) for at in range(6)]))
        await recorder.flush()
        await recorder.database.transaction(lambda sql: sql.execute("UPDATE rollup SET body = x'00'"))
        with pytest.raises(ChunkError, match="a row of the roll-up"):
            History(path).summaries(DEVICE, "x", 0, SPAN, MINUTE)
    async with rig(path, EmbeddedStore(batch_bytes=1, flush_s=60, chunk_values=3)) as recorder:
        recorder.seq = 1
        await recorder.record(samples([(5, 5), (6 * MINUTE, 6)]))
        await recorder.flush()
    model = {at * MINUTE: (at * MINUTE, at, 192) for at in range(7)} | {5: (5, 5, 192)}

    assert History(path).summaries(DEVICE, "x", 0, 2 * SPAN, MINUTE) == expected(model, 0, 2 * SPAN, MINUTE)


async def test_buckets_go_on_over_the_hours_that_are_in_memory_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(buckets, "_AT_ONCE", 2)
    path = tmp_path / "recorder.db"
    async with rig(path, EmbeddedStore(batch_bytes=1, flush_s=60, chunk_values=3)) as recorder:
        model: dict[int, tuple] = {}
        packed = [(at * 17 * MINUTE, at) for at in range(60)]
        known(packed, model)
        await recorder.record(samples(packed))
        await recorder.flush()

        for t0, step in ((0, 90 * MINUTE), (7 * MINUTE + 1, 100 * MINUTE), (5, 2000 * MINUTE), (3, 20 * MINUTE + 7)):
            asked = t0, 50 * 17 * MINUTE + 1, step
            assert History(path).summaries(DEVICE, "x", *asked) == expected(model, *asked)


async def test_raw_values_of_an_hour_are_in_memory_some_at_a_time(tmp_path, monkeypatch):
    read: list[int] = []

    def noted(*asked, **more):
        found = points_between(*asked, **more)
        read.append(len(found))
        return found

    monkeypatch.setattr(buckets, "_RAW_AT_ONCE", 20)
    monkeypatch.setattr(buckets, "points_between", noted)
    path = tmp_path / "recorder.db"
    async with rig(path, EmbeddedStore(batch_bytes=1, flush_s=60, chunk_values=10)) as recorder:
        model: dict[int, tuple] = {}
        packed = [(at * 1_000_000, at) for at in range(300)]
        known(packed, model)
        await recorder.record(samples(packed))
        await recorder.flush()
        for step in (7_000_000, 90_000_000):
            assert History(path).summaries(DEVICE, "x", 3, SPAN, step) == expected(model, 3, SPAN, step)

    assert max(read) <= 30
    assert sum(read) > 299
