"""When the writer writes, what it does with a store that cannot, and in which order the spool empties."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from contracts.v1.frame_codec import SampleStruct, decode_frame
from services.recorder.spool.deadletters import DeadLetter
from services.recorder.spool.frames import DeviceFrame
from services.recorder.spool.store import StoreUnavailable, Written
from services.recorder.spool.writer import LANES
from tests.recorder_rig import Rig, rig


class Scripted:
    """A store that first fails as told, then takes everything. batches: the times of the samples of each write.

    held: it takes a batch with one of these times only once it is told to go on. most: were under way at one time.
    """

    name = "scripted"

    def __init__(
        self,
        *,
        failures: Sequence[StoreUnavailable] = (),
        batch_bytes: int = 1 << 20,
        flush_s: float = 0.0,
        in_order: bool = False,
    ) -> None:
        self.in_order = in_order
        self.failures = list(failures)
        self.batch_bytes = batch_bytes
        self.flush_s = flush_s
        self.batches: list[list[int]] = []
        self.tried: list[float] = []
        self.closed = False
        self.held: set[int] = set()
        self.go_on = asyncio.Event()
        self.under_way = self.most = 0

    async def write(self, decoded: Iterator[DeviceFrame]) -> Written:
        self.tried.append(time.monotonic())
        frames = list(decoded)
        times = [sample.t for one in frames for sample in one.frame.samples]
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        if self.held & {*times}:
            await self.go_on.wait()
        self.under_way -= 1
        if self.failures:
            raise self.failures.pop(0)
        self.batches.append(times)
        return Written(sum(one.values for one in frames), [DeadLetter("refused", "no", "", b"line")], lambda _: None)

    async def close(self) -> None:
        self.closed = True


@asynccontextmanager
async def writing(path: Path, store: Scripted) -> AsyncIterator[Rig]:
    async with rig(path, store) as recorder:
        task = asyncio.create_task(recorder.writer.run())
        try:
            yield recorder
        finally:
            await recorder.writer.stop()
            await asyncio.wait_for(task, 30)


@asynccontextmanager
async def writing_backlog(path: Path, store: Scripted) -> AsyncIterator[Rig]:
    """Twenty frames waited already, in batches of two."""
    async with rig(path, store) as recorder:
        for t in range(20):
            await recorder.record(at(t))
        task = asyncio.create_task(recorder.writer.run())
        try:
            yield recorder
        finally:
            store.go_on.set()
            await recorder.writer.stop()
            await asyncio.wait_for(task, 30)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recorder.db"


def at(*times: int) -> list[SampleStruct]:
    return [SampleStruct(t=t, v={"x": t}) for t in times]


async def test_frames_are_written_in_the_order_they_came(path, eventually):
    store = Scripted()
    async with writing(path, store) as recorder:
        for t in range(10):
            await recorder.record(at(t))
        await eventually(lambda: recorder.spool.rows == 0)

    assert [t for batch in store.batches for t in batch] == [*range(10)]
    assert store.closed


async def test_a_batch_waits_until_it_is_old_enough(path, eventually):
    store = Scripted(flush_s=0.3)
    async with writing(path, store) as recorder:
        begun = time.monotonic()
        for t in range(3):
            await recorder.record(at(t))
        await eventually(lambda: store.batches)

        assert store.tried[0] - begun >= 0.3
        assert store.batches == [[0, 1, 2]]


async def test_a_full_batch_does_not_wait_and_holds_no_more_than_it_may(path, eventually):
    store = Scripted(flush_s=3600, batch_bytes=150)  # two frames of some 60 bytes
    async with writing(path, store) as recorder:
        for t in range(10):
            await recorder.record(at(t))
        await eventually(lambda: len(store.batches) >= 2)

        assert max(len(batch) for batch in store.batches) == 2


async def test_a_stop_writes_what_is_left_without_waiting(path):
    store = Scripted(flush_s=3600)
    async with writing(path, store) as recorder:
        await recorder.record(at(1))

    assert store.batches == [[1]]


async def test_a_store_that_cannot_is_asked_again_not_before_it_said_and_loses_nothing(path, eventually):
    store = Scripted(failures=[StoreUnavailable("busy", reason="503", retry_after_s=0.3)])
    async with writing(path, store) as recorder:
        await recorder.record(at(1))
        await eventually(lambda: store.batches)

        assert store.tried[1] - store.tried[0] >= 0.3
        assert store.batches == [[1]]
        assert recorder.metric("store_errors_total", store="scripted", reason="503") == 1


async def test_an_outage_is_said_once_and_its_end_too(path, eventually):
    store = Scripted(failures=[StoreUnavailable(f"busy {n}", reason="503") for n in range(4)])
    async with writing(path, store) as recorder:
        await recorder.record(at(1))
        await eventually(lambda: store.batches)
        await eventually(lambda: recorder.said("store") is True)

        said = [line["event"] for line in recorder.logged.entries]
        assert [event for event in said if event.startswith("store")] == ["store_unavailable", "store_back"]


async def test_what_the_store_refuses_for_good_is_kept_with_the_reason_when_the_batch_leaves_the_spool(
    path, eventually
):
    async with writing(path, Scripted()) as recorder:
        await recorder.record(at(1))
        await eventually(lambda: recorder.spool.rows == 0)

        assert await recorder.dead() == [DeadLetter("refused", "no", "", b"line")]
        assert recorder.metric("dead_letters_total", reason="refused") == 1
        assert recorder.metric("stored_values_total", store="scripted") == 1


@pytest.mark.parametrize("in_order", [False, True])
async def test_new_frames_are_written_in_turn_with_a_backlog_where_the_store_does_not_want_their_order(
    path, eventually, in_order
):
    # A batch of two frames; the backlog is what came before the first write, the new ones come while it is written.
    store = Scripted(flush_s=3600, batch_bytes=150, in_order=in_order)
    async with rig(path, store) as recorder:
        for t in range(20):
            await recorder.record(at(t))
        for t in range(100, 104):
            await recorder.writer.write_batch()
            await recorder.record(at(t))
        while recorder.spool.rows:
            await recorder.writer.write_batch()

    written = [batch[0] for batch in store.batches]
    if in_order:
        assert written == [*range(0, 20, 2), 100, 102]
    else:
        assert written == [0, 100, 2, 101, 4, 103, *range(6, 20, 2)]
    assert sorted(t for batch in store.batches for t in batch) == [*range(20), *range(100, 104)]


async def test_a_backlog_of_an_earlier_process_waits_beside_new_frames_too_and_does_not_hold_up_the_stop(
    path, eventually
):
    async with rig(path, Scripted()) as earlier:
        for t in range(20):
            await earlier.record(at(t))
    store = Scripted(batch_bytes=150)
    async with rig(path, store) as recorder:
        recorder.seq = 20
        await recorder.writer.write_batch()
        await recorder.record(at(100))
        await recorder.flush()

        assert store.batches == [[0, 1], [100]]
        assert recorder.spool.rows == 18


async def test_a_batch_that_takes_long_holds_up_no_other_and_leaves_the_spool_when_it_is_written(path, eventually):
    store = Scripted(batch_bytes=150)
    store.held = {4}
    async with writing_backlog(path, store) as recorder:
        await eventually(lambda: recorder.spool.rows == 2)

        assert await recorder.database.transaction(times_held) == [4, 5]
        store.go_on.set()
        await eventually(lambda: recorder.spool.rows == 0)

    assert store.batches[-1] == [4, 5]
    assert sorted(t for batch in store.batches for t in batch) == [*range(20)]
    assert store.most <= LANES


def times_held(database: sqlite3.Connection) -> list[int]:
    """The times of the frames in the spool."""
    payloads = [payload for (payload,) in database.execute("SELECT payload FROM spool ORDER BY id")]
    return [sample.t for payload in payloads for sample in decode_frame(payload, topic="spool").samples]


async def test_a_store_that_wants_the_order_gets_one_batch_at_a_time(path, eventually):
    store = Scripted(batch_bytes=150, in_order=True)
    store.held = {0}
    async with writing_backlog(path, store) as recorder:
        await eventually(lambda: store.under_way == 1)
        store.go_on.set()
        await eventually(lambda: recorder.spool.rows == 0)

    assert store.most == 1
    assert [t for batch in store.batches for t in batch] == [*range(20)]


async def test_batches_that_fail_side_by_side_are_written_once_each_and_one_alone_asks_whether_the_store_is_back(
    path, eventually
):
    store = Scripted(batch_bytes=150, failures=[StoreUnavailable("busy", reason="503") for _ in range(LANES + 3)])
    store.held = {0, 2, 4}
    async with writing_backlog(path, store) as recorder:
        await eventually(lambda: store.under_way == LANES)
        store.held, store.most = set(), 0
        store.go_on.set()
        await eventually(lambda: not store.failures)

        assert store.most == 1
        await eventually(lambda: recorder.spool.rows == 0)

    assert sorted(t for batch in store.batches for t in batch) == [*range(20)]
    said = [line["event"] for line in recorder.logged.entries]
    assert [event for event in said if event.startswith("store")] == ["store_unavailable", "store_back"]


async def test_no_batch_begins_while_another_one_was_told_to_wait(path, eventually):
    store = Scripted(batch_bytes=150, failures=[StoreUnavailable("busy", reason="503", retry_after_s=0.5)])
    store.held = {0, 2, 4}
    async with writing_backlog(path, store) as recorder:
        await eventually(lambda: store.under_way == LANES)
        told = time.monotonic()
        store.go_on.set()
        await eventually(lambda: recorder.spool.rows == 0)

    assert store.tried[LANES] - told >= 0.5
    assert sorted(t for batch in store.batches for t in batch) == [*range(20)]


async def test_messages_of_which_some_were_settled_while_others_came_are_counted_as_they_are(path):
    store = Scripted(batch_bytes=150)
    async with rig(path, store) as recorder:
        for t in range(20):
            await recorder.record(at(t))
        while recorder.spool.rows:
            await recorder.writer.write_batch()
            if len(store.batches) % 3 == 0 and len(store.batches) < 20:
                await recorder.record(at(100 + len(store.batches)))

        spool = recorder.spool
        assert (spool.rows, spool.bytes, spool.fresh_rows, spool.fresh_bytes) == (0, 0, 0, 0)
    async with rig(path, store) as again:
        assert again.spool.rows == 0
