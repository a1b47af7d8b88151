"""From a batch of messages to its acknowledgement, with a real database and an intake that the test feeds."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from contracts.v1.frame_codec import SampleStruct
from contracts.v1.stored import Stored, StoredEpoch
from services.recorder.completeness.incidents import Incidents
from services.recorder.completeness.report import StoredReport
from services.recorder.embedded.store import EmbeddedStore
from services.recorder.spool import recorder as recorder_module
from services.recorder.spool.admission import Admission, admit
from services.recorder.spool.recorder import Recorder
from services.runtime.gaps import Gaps, StreamKey
from services.runtime.intake import IntakeClosed
from services.runtime.mqtt.delivery import Delivery
from services.runtime.retry import Backoff
from tests.recorder_rig import SITE, Message, Rig, message, rig


@dataclass
class FedBatch:
    messages: list[Message]
    on_ack: Callable[[], None]

    def ack(self) -> None:
        self.on_ack()


class FedIntake:
    """An intake whose batches come from the test."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[FedBatch | None] = asyncio.Queue()
        self.acked: list[tuple[int, int]] = []
        self.rows: Callable[[], int] = lambda: 0

    def feed(self, *messages: Message) -> None:
        number = self.queue.qsize()
        self.queue.put_nowait(FedBatch(list(messages), lambda: self.acked.append((number, self.rows()))))

    def close(self) -> None:
        self.queue.put_nowait(None)

    async def batch(self, *, most: int, linger_s: float) -> FedBatch:
        given = await self.queue.get()
        if given is None:
            raise IntakeClosed
        return given


@dataclass
class Bench:
    rig: Rig
    intake: FedIntake
    recorder: Recorder


@asynccontextmanager
async def running(path: Path, *, spool_bytes: int = 1 << 20) -> AsyncIterator[Bench]:
    store = EmbeddedStore(batch_bytes=1 << 20, flush_s=60, chunk_values=10)
    async with rig(path, store) as open_rig:
        intake = FedIntake()
        recorder = Recorder(
            intake=intake,
            spool=open_rig.spool,
            incidents=Incidents(own="recorder"),
            gaps=Gaps(),
            site=SITE,
            spool_bytes=spool_bytes,
            linger_s=0,
            backoff=Backoff(first_s=0.01, most_s=0.02, random=Random(1)),
            health=open_rig.health,
            metrics=open_rig.metrics,
            log=open_rig.log,
        )
        intake.rows = lambda: open_rig.spool.rows
        task = asyncio.create_task(recorder.run())
        try:
            yield Bench(open_rig, intake, recorder)
        finally:
            intake.close()
            await recorder.stop()
            await asyncio.wait_for(task, 30)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recorder.db"


async def test_a_batch_is_acknowledged_once_it_is_in_the_spool(path, eventually):
    async with running(path) as bench:
        bench.intake.feed(message(1), message(2))

        await eventually(lambda: bench.intake.acked)

        assert bench.intake.acked == [(0, 2)]
        assert bench.rig.metric("intake_commits_total") == 1
        assert bench.rig.metric("spool_rows") == 2


async def test_long_messages_do_not_hold_up_the_event_loop(path, eventually, monkeypatch):
    turned = threading.Event()

    def admitted(*asked: Any, **site: str) -> Admission:
        """As admit(), once the event loop has had a turn."""
        assert turned.wait(5)
        return admit(*asked, **site)

    monkeypatch.setattr(recorder_module, "admit", admitted)
    async with running(path) as bench:
        bench.intake.feed(*(Message(b"{" + b" " * 1_000_000) for _ in range(3)))
        asyncio.get_running_loop().call_later(0.1, turned.set)
        await eventually(lambda: bench.intake.acked)

    assert len(bench.intake.acked) == 1


async def test_a_redelivered_frame_is_acknowledged_counted_and_not_kept_again(path, eventually):
    async with running(path) as bench:
        for _ in range(2):
            bench.intake.feed(message(1))

        await eventually(lambda: len(bench.intake.acked) == 2)

        assert bench.rig.spool.rows == 1
        assert bench.rig.metric("frame_duplicates_total") == 1


async def test_a_gap_is_counted_and_said(path, eventually):
    async with running(path) as bench:
        bench.intake.feed(message(1), message(5))

        await eventually(lambda: bench.intake.acked)

        assert bench.rig.metric("frame_gaps_total") == 3
        (said,) = [line for line in bench.rig.logged.entries if line["event"] == "frames_missing"]
        assert (said["first"], said["last"]) == (2, 4)


async def test_a_message_that_keeps_no_contract_is_acknowledged_and_set_aside(path, eventually):
    async with running(path) as bench:
        bench.intake.feed(Message(b"no frame"))

        await eventually(lambda: bench.intake.acked)

        assert [letter.payload for letter in await bench.rig.dead()] == [b"no frame"]
        assert bench.rig.metric("dead_letters_total", reason="contract") == 1


async def test_a_flood_of_rubbish_is_one_line_in_the_log_and_counted_whole(path, eventually):
    async with running(path) as bench:
        for seq in range(1, 21, 2):
            bench.intake.feed(Message(b"no frame"), Message(b""), message(2 * seq))

        await eventually(lambda: len(bench.intake.acked) == 10)

        assert [line["event"] for line in bench.rig.logged.entries] == ["message_set_aside", "frames_missing"]
        assert bench.rig.metric("dead_letters_total", reason="contract") == 20
        assert bench.rig.metric("frame_gaps_total") == 28


async def test_a_full_spool_takes_nothing_until_the_history_has_caught_up_and_says_so(path, eventually):
    big = [SampleStruct(t=at, v={"x": "y" * 90}) for at in range(10)]
    async with running(path, spool_bytes=1000) as bench:
        bench.intake.feed(message(1, big))
        bench.intake.feed(message(2, big))
        await eventually(lambda: bench.rig.said("spool") not in (None, True))

        assert "full" in str(bench.rig.said("spool"))
        assert bench.intake.acked == [(0, 1)]
        assert bench.intake.queue.qsize() == 1

        await bench.rig.flush()
        await eventually(lambda: len(bench.intake.acked) == 2)
        assert bench.rig.spool.rows == 1


async def test_a_recorder_with_a_full_spool_can_be_stopped(path, eventually):
    async with running(path, spool_bytes=10) as bench:
        bench.intake.feed(message(1))
        await eventually(lambda: bench.rig.said("spool") not in (None, True))


async def test_nothing_is_acknowledged_while_the_disk_refuses_and_all_is_kept_when_it_takes_again(path, eventually):
    async with running(path) as bench:
        limit = await bench.rig.database.transaction(_fill_up)
        bench.intake.feed(*(message(seq, [SampleStruct(t=1, v={"x": "y" * 9000})]) for seq in range(1, 6)))
        await eventually(lambda: bench.rig.said("spool") not in (None, True))

        assert "full" in str(bench.rig.said("spool"))
        assert bench.intake.acked == []
        assert bench.rig.spool.rows == 0

        await bench.rig.database.transaction(lambda sql: sql.execute(f"PRAGMA max_page_count = {limit}"))
        await eventually(lambda: bench.intake.acked)
        assert bench.rig.spool.rows == 5


@pytest.mark.parametrize("replaced", [False, True])
async def test_nothing_is_acknowledged_into_a_file_that_was_removed_under_the_recorder(path, eventually, replaced):
    async with running(path) as bench:
        bench.intake.feed(message(1))
        await eventually(lambda: bench.intake.acked)
        copy = path.read_bytes()
        path.unlink()
        if replaced:
            path.with_name("other").write_bytes(copy)
            path.with_name("other").rename(path)

        bench.intake.feed(message(2))
        await eventually(lambda: "removed or replaced" in str(bench.rig.said("spool")))
        assert len(bench.intake.acked) == 1


async def test_a_disk_that_hangs_is_told_until_it_takes_what_came(path, eventually, monkeypatch):
    monkeypatch.setattr(recorder_module, "SLOW_S", 0.0)
    go_on = threading.Event()
    async with running(path) as bench:
        bench.recorder.look()
        await eventually(lambda: bench.rig.said("spool") is True)

        hanging = asyncio.create_task(bench.rig.database.transaction(lambda _: go_on.wait(30)))
        bench.intake.feed(message(1))
        await eventually(lambda: bench.recorder.look() or bench.rig.said("spool") is not True)
        assert "the disk has not taken for" in str(bench.rig.said("spool"))
        assert bench.intake.acked == []

        go_on.set()
        await hanging
        await eventually(lambda: bench.intake.acked and bench.rig.said("spool") is True)


async def test_a_commit_whose_caller_is_cancelled_is_known_all_the_same_and_the_next_one_is_taken(path, eventually):
    """As a retry of dead letters is at its deadline, while the disk is slow."""
    go_on, begun = threading.Event(), threading.Event()

    def slow(_: sqlite3.Connection) -> None:
        begun.set()
        assert go_on.wait(30)

    async with running(path) as bench:
        spool = bench.rig.spool

        async def retry() -> None:
            async with spool.turn:
                await spool.commit(admit([message(1)], spool.marks, Gaps(), site=SITE), also=slow)

        retrying = asyncio.create_task(retry())
        await eventually(begun.is_set)
        retrying.cancel()
        bench.intake.feed(message(1), message(2))
        await asyncio.sleep(0)
        assert spool.turn.locked()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await retrying
        await eventually(lambda: bench.intake.acked)

        assert spool.rows == 2
        assert bench.rig.metric("frame_duplicates_total") == 1
        assert bench.rig.said("spool") is True


def _fill_up(database: sqlite3.Connection) -> int:
    """Makes the database as large as it may ever get; gives the bound before."""
    (limit,) = database.execute("PRAGMA max_page_count").fetchone()
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {pages}")
    return int(limit)


async def test_an_owner_that_offers_what_is_had_is_told_so_however_old_the_epoch(path, eventually):
    late = f"dinrail/v1/{SITE}/backfill/frame/plc/fast"
    store = EmbeddedStore(batch_bytes=1 << 20, flush_s=60, chunk_values=10)
    async with rig(path, store) as bench:
        for epoch in range(1, 31):
            await bench.commit(message(1, epoch=epoch, closed=True))
        bench.spool.take_touched()
        await bench.commit(Message(message(1, epoch=3, closed=True).payload, late))
        bus = Retained()
        report = reporting(bench, bus)
        task = asyncio.create_task(report.run())
        await eventually(lambda: bus.published)
        await report.stop()
        await task

    (_, told) = bus.published[0]
    assert [epoch.epoch for epoch in told.epochs] == [3, *range(15, 31)]


def reporting(bench: Rig, bus: "Retained") -> StoredReport:
    store = bench.database.store
    return StoredReport(spool=bench.spool, gaps=Gaps(), bus=bus, instance="recorder", store=store, log=bench.log)


class Retained:
    """A bus that remembers what is retained on it."""

    def __init__(self) -> None:
        self.published: list[tuple[str, object]] = []

    def subscribe_raw(self, topic, handler, *, recorder: str, **_: object) -> None:
        assert (topic.name, recorder) == ("STORED", "recorder")
        self.on_stored = handler

    async def had(self, store: str, *epochs: StoredEpoch, retained: bool, owner: str) -> None:
        payload = Stored(store=store, epochs=list(epochs)).model_dump_json().encode()
        levels = {"kind": "frame", "owner": owner, "stream": "fast"}
        await self.on_stored(Delivery(topic="t", levels=levels, payload=payload, retained=retained))

    def retain(self, topic, payload, **levels: str) -> None:
        self.published.append((topic.build(site=SITE, **levels), payload))


async def test_what_is_had_is_told_at_the_start_after_a_change_and_not_more_than_once_a_second(path, eventually):
    store = EmbeddedStore(batch_bytes=1 << 20, flush_s=60, chunk_values=10)
    async with rig(path, store) as first:
        await first.commit(message(1))
    async with rig(path, store) as again:
        bus = Retained()
        report = reporting(again, bus)
        task = asyncio.create_task(report.run())
        await eventually(lambda: bus.published)
        for seq in (2, 3, 5):
            await again.commit(message(seq))
        told = len(bus.published)
        await report.stop()
        await task

        assert told == 1
        assert [topic for topic, _ in bus.published] == [f"dinrail/v1/{SITE}/stored/recorder/frame/plc/fast"] * 2
        assert [epoch.have for _, message in bus.published for epoch in message.epochs] == [[(1, 1)], [(1, 3), (5, 5)]]
        assert {message.store for _, message in bus.published} == {again.database.store}


async def test_ranges_that_find_no_room_in_one_message_are_told_in_the_next(path, eventually, monkeypatch):
    monkeypatch.setattr("services.recorder.spool.marks.MOST_TOLD", 2)
    async with rig(path, EmbeddedStore(batch_bytes=1 << 20, flush_s=60, chunk_values=10)) as bench:
        await bench.commit(*(message(seq) for seq in (1, 3, 5)))
        bus = Retained()
        report = reporting(bench, bus)
        task = asyncio.create_task(report.run())
        await eventually(lambda: bus.published)
        await bench.commit(message(7))
        await report.stop()
        await task

    assert [message.epochs[0].have for _, message in bus.published] == [[(1, 1), (3, 3)], [(5, 5), (7, 7)]]


async def test_what_an_earlier_database_has_left_retained_is_written_over(path, eventually):
    store = EmbeddedStore(batch_bytes=1 << 20, flush_s=60, chunk_values=10)
    async with rig(path, store) as bench:
        bus = Retained()
        report = reporting(bench, bus)
        await bus.had("an earlier one", retained=True, owner="gone")
        await bus.had(bench.database.store, retained=True, owner="own")
        await bus.had("another's", retained=False, owner="live")
        task = asyncio.create_task(report.run())
        await eventually(lambda: bus.published)
        await report.stop()
        await task

    assert bus.published == [
        (f"dinrail/v1/{SITE}/stored/recorder/frame/gone/fast", Stored(store=bench.database.store, epochs=[]))
    ]


async def test_a_database_that_has_told_more_than_it_has_is_an_older_copy_and_misses_what_it_lacks(path):
    plc = StreamKey("frame", "plc", "fast")
    store = EmbeddedStore(batch_bytes=1 << 20, flush_s=60, chunk_values=10)
    async with rig(path, store) as bench:
        await bench.commit(message(1), message(2))
        bus = Retained()
        report = reporting(bench, bus)
        told = (
            StoredEpoch(epoch=1, have=[(1, 5)], lost=[(6, 7, "cap_bytes")]),
            StoredEpoch(epoch=2, have=[(1, 3)], closed=True),
        )
        for _ in range(2):  # as at each connect
            await bus.had(bench.database.store, *told, retained=True, owner="plc")

        assert {epoch: marks.holes for epoch, marks in bench.spool.marks[plc].items()} == {1: ((3, 5),), 2: ((1, 3),)}
        assert bench.spool.marks[plc][1].lost == ((6, 7, "cap_bytes"),)
        assert report._gaps.count == 6
        assert [line["event"] for line in bench.logged.entries] == ["database_older"]
        await bench.commit(*(message(seq) for seq in (3, 4, 5)))
        assert bench.spool.marks[plc][1].complete

    async with rig(path, store) as again:
        assert again.spool.marks[plc][2].holes == ((1, 3),)


async def test_what_is_missing_is_handed_to_those_who_ask_for_it(path, eventually):
    async with running(path) as bench:
        bench.intake.feed(message(1), message(5))
        await eventually(lambda: bench.recorder._gaps.count == 3)
