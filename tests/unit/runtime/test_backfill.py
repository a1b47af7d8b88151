"""What did not go out live goes out of the journal: in order, at a bounded rate, until the recorders have it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
import structlog
from prometheus_client import CollectorRegistry

from contracts.v1.command import ErrorCode
from contracts.v1.resend import RESEND, RESEND_EVENTS, Resend
from contracts.v1.stored import Stored, StoredEpoch
from services.runtime import backfill as module
from services.runtime.backfill import PIECE, Backfill
from services.runtime.bus.bus import BusUnavailable, CommandFailed, Delivery
from services.runtime.clock import SystemClock
from services.runtime.journal import Journal, Stream
from services.runtime.metrics import Metrics
from services.runtime.resend import ResendDesk
from services.runtime.retry import Backoff
from tests.conftest import Eventually

NAME = ("frame", "pump", "fast")


class ScriptedBus:
    """Takes what is published while `connected`; hands STORED and commands to who subscribed."""

    def __init__(self) -> None:
        self.connected = False
        self.back = asyncio.Event()
        self.news = asyncio.Event()
        self.taken: list[tuple[str, int]] = []
        self.served: dict[tuple[str, str], Any] = {}

    def subscribe(self, topic: Any, handler: Callable[[Any], Awaitable[None]], **_: Any) -> None:
        self.on_stored = handler

    def on_connect(self, hook: Callable[[], None]) -> None:
        self.hook = hook

    def serve(self, command: Any, handler: Any, *, id: str) -> None:  # noqa: A002
        self.served[command.name, id] = handler

    async def wait_connected(self, timeout_s: float) -> None:
        async with asyncio.timeout(timeout_s):
            await self.back.wait()

    async def publish_bytes(self, topic: str, data: bytes, *, kind: str) -> None:
        await asyncio.sleep(0)
        if not self.connected:
            raise BusUnavailable("away")
        self.taken.append((topic.removeprefix("dinrail/v1/test/backfill/"), int(data)))
        self.news.set()

    def connect(self) -> None:
        self.connected = True
        self.back.set()
        self.hook()

    def leave(self) -> None:
        self.connected = False
        self.back.clear()

    @property
    def numbers(self) -> list[int]:
        return [number for _, number in self.taken]


@dataclass
class Bench:
    """A journal with one stream, its backfill, and the recorder's words."""

    journal: Journal
    rate: float = 1e6
    bus: ScriptedBus = field(default_factory=ScriptedBus)

    def __post_init__(self) -> None:
        self.metrics = Metrics(CollectorRegistry())
        log = structlog.stdlib.get_logger()
        wait = Backoff(first_s=0.05, most_s=0.05, jitter=0.0, random=Random(1))
        self.backfill = Backfill(
            site="test",
            journal=self.journal,
            bus=self.bus,  # type: ignore[arg-type]
            rate=self.rate,
            backoff=wait,
            metrics=self.metrics,
            log=log,
        )
        self.desk = ResendDesk(
            instance="gateway",
            bus=self.bus,
            journal=self.journal,
            backfill=self.backfill,  # type: ignore[arg-type]
        )

    def fill(self, count: int, stream: Stream | None = None) -> Stream:
        """A stream with records 1..count."""
        stream = stream or self.journal.open_stream(*NAME)
        for _ in range(count):
            seq = stream.next_seq()
            self.journal.append(stream, seq, str(seq).encode())
        return stream

    async def stored(
        self,
        epoch: int,
        *have: tuple[int, int],
        store: str = "a",
        retained: bool = False,
        recorder: str = "recorder",
    ) -> None:
        """The recorder says what it has."""
        message = Stored(store=store, epochs=[StoredEpoch(epoch=epoch, have=list(have))])
        levels = dict(zip(("kind", "owner", "stream"), NAME, strict=True)) | {"recorder": recorder}
        await self.bus.on_stored(Delivery(topic="t", levels=levels, payload=message, retained=retained))

    async def resend(self, epoch: int, *ranges: tuple[int, int]) -> Any:
        """The answer to a request."""
        request = Resend(stream="fast", epoch=epoch, ranges=list(ranges))
        return await self.bus.served["RESEND", "pump"](Delivery(topic="t", levels={"id": "pump"}, payload=request))


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETTLE_S", 0.01)
    monkeypatch.setattr(module, "STALL_S", 0.1)
    monkeypatch.setattr(module, "LOOK_S", 0.02)


def open_journal(folder: Path) -> Journal:
    return Journal.open(folder, cap_bytes=1 << 14, clock=SystemClock(), metrics=Metrics(CollectorRegistry()))


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = open_journal(tmp_path)
    yield journal
    journal.close()


def owing(journal: Journal, count: int, *, first: int = 1, **settings: Any) -> tuple[Bench, Stream]:
    """A stream of so many messages, of which all from `first` on are owed. settings: of Bench."""
    bench = Bench(journal, **settings)
    stream = bench.fill(count)
    for seq in range(first, count + 1):
        bench.backfill.owe(stream, seq)
    return bench, stream


@asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[Bench]:
    task = asyncio.create_task(bench.backfill.run())
    try:
        yield bench
    finally:
        await bench.backfill.stop()
        async with asyncio.timeout(30):
            await task


async def test_what_is_owed_goes_out_in_order_and_is_announced_until_it_is_stored(
    journal: Journal, eventually: Eventually
) -> None:
    bench, stream = owing(journal, 50, first=11)
    assert bench.backfill.announced(stream) is None, "nothing is said while nothing goes out"
    async with running(bench):
        bench.bus.connect()
        assert bench.backfill.announced(stream) == [(stream.epoch, 11, 50)]
        await eventually(lambda: len(bench.bus.taken) == 40)
        assert bench.bus.taken == [("frame/pump/fast", seq) for seq in range(11, 51)]
        await bench.stored(stream.epoch, (1, 30))
        assert bench.backfill.announced(stream) == [(stream.epoch, 31, 50)]
        await bench.stored(stream.epoch, (1, 50))

    assert (bench.backfill.announced(stream), bench.backfill.pending(stream)) == (None, 0)


async def test_a_broken_connection_costs_neither_a_message_nor_the_order(
    journal: Journal, eventually: Eventually
) -> None:
    bench, _ = owing(journal, 100)
    async with running(bench):
        bench.bus.connect()
        await eventually(lambda: len(bench.bus.taken) >= 20)
        bench.bus.leave()
        await asyncio.sleep(0)
        bench.bus.connect()
        await eventually(lambda: bench.bus.numbers[-1:] == [100])

    first_seen = list(dict.fromkeys(bench.bus.numbers))
    assert first_seen == list(range(1, 101))


async def test_the_rate_is_kept_and_a_long_message_counts_as_several(
    journal: Journal, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "UNIT_BYTES", 20)
    bench = Bench(journal, rate=100)
    stream = journal.open_stream(*NAME)
    for _ in range(20):
        seq = stream.next_seq()
        journal.append(stream, seq, str(seq).zfill(100 if seq < 3 else 1).encode())
        bench.backfill.owe(stream, seq)
    loop = asyncio.get_running_loop()
    async with running(bench):
        bench.bus.connect()
        began = loop.time()
        await eventually(lambda: len(bench.bus.taken) >= 10)
        await eventually(lambda: len(bench.bus.taken) == 20)
        took = loop.time() - began

    assert took >= 0.18, "a piece of ten messages, two of them as long as five, then the other"


async def test_after_a_connect_the_live_data_has_the_line_for_itself(
    journal: Journal, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SETTLE_S", 0.1)
    bench = Bench(journal)
    bench.backfill.owe(bench.fill(1), 1)
    loop = asyncio.get_running_loop()
    async with running(bench):
        connected_at = loop.time()
        bench.bus.connect()
        await eventually(lambda: bench.bus.taken)
        took = loop.time() - connected_at

    assert took >= 0.1


async def test_what_ended_in_an_earlier_connection_is_offered_at_the_next(
    journal: Journal, eventually: Eventually
) -> None:
    bench = Bench(journal)
    stream = bench.fill(5)
    async with running(bench):
        bench.bus.connect()
        journal.end_stream(stream)
        bench.bus.leave()
        bench.bus.connect()
        await eventually(lambda: bench.bus.numbers == [1, 2, 3, 4, 5])


async def test_an_epoch_that_an_earlier_process_left_is_offered_but_for_what_is_stored(
    tmp_path: Path, eventually: Eventually
) -> None:
    journal = open_journal(tmp_path)
    before = Bench(journal).fill(20)
    journal.close()
    journal = open_journal(tmp_path)
    bench = Bench(journal)
    live = bench.fill(5)
    async with running(bench):
        bench.bus.connect()
        assert bench.backfill.announced(live) == [(before.epoch, 1, 20)]
        await bench.stored(before.epoch, (1, 12), retained=True)
        await eventually(lambda: len(bench.bus.taken) == 8)
        await bench.stored(before.epoch, (1, 20))
    journal.close()

    assert bench.bus.numbers == list(range(13, 21))


async def test_what_is_not_stored_in_time_is_sent_again_a_little_at_a_time(
    journal: Journal, eventually: Eventually
) -> None:
    bench = Bench(journal)
    stream = bench.fill(3 * PIECE)
    for seq in range(1, 3 * PIECE + 1):
        bench.backfill.owe(stream, seq)
    async with running(bench):
        bench.bus.connect()
        await eventually(lambda: len(bench.bus.taken) >= 5 * PIECE)
        again = bench.bus.numbers[3 * PIECE : 5 * PIECE]
        await bench.stored(stream.epoch, (1, PIECE))
        await eventually(lambda: set(range(PIECE + 1, 3 * PIECE + 1)) <= set(bench.bus.numbers[5 * PIECE :]))

    assert again == [*range(1, PIECE + 1)] * 2


async def test_a_recorder_with_a_new_store_is_offered_all_and_an_old_word_of_another_store_changes_nothing(
    journal: Journal, eventually: Eventually
) -> None:
    bench = Bench(journal)
    stream = bench.fill(10)
    async with running(bench):
        bench.bus.connect()
        await bench.stored(stream.epoch, (1, 10))
        await bench.stored(stream.epoch, store="b", retained=True)
        assert bench.backfill.pending(stream) == 0
        await bench.stored(stream.epoch, (9, 10), store="b")
        await eventually(lambda: len(bench.bus.taken) == 8)
        await bench.stored(stream.epoch, (1, 10), store="b")

    assert bench.bus.numbers == list(range(1, 9))


async def test_what_left_the_journal_is_owed_no_more(journal: Journal, eventually: Eventually) -> None:
    bench = Bench(journal)
    stream = bench.fill(400)  # far more than the cap
    for seq in range(1, 401):
        bench.backfill.owe(stream, seq)
    held = journal.held(*NAME, stream.epoch)
    async with running(bench):
        bench.bus.connect()
        await eventually(lambda: bench.bus.numbers[-1:] == [400])
        assert bench.backfill.pending(stream) == held.count() < 400
        bench.metrics.look()
        assert bench.metrics.registry.get_sample_value("dinrail_backlog") == held.count()

    assert set(bench.bus.numbers) == {seq for first, last in held for seq in range(first, last + 1)}


async def test_what_cannot_be_read_now_stays_owed_and_is_read_again(
    journal: Journal, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, stream = owing(journal, 50)
    refused = 0

    def refuse(*_: object) -> None:
        nonlocal refused
        refused += 1
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(journal, "read", refuse)
        async with running(bench):
            bench.bus.connect()
            await eventually(lambda: refused >= 2)
            assert bench.backfill.pending(stream) == 50
            patch.undo()
            await eventually(lambda: bench.bus.numbers == [*range(1, 51)])


async def test_resend_says_what_comes_and_what_is_gone_with_the_reason(
    journal: Journal, eventually: Eventually
) -> None:
    bench = Bench(journal)
    stream = bench.fill(200)
    await bench.stored(stream.epoch, (1, 60))  # removed as soon as a segment holds nothing else
    bench.fill(300, stream)
    ((first, last),) = journal.held(*NAME, stream.epoch)
    bench.desk.serve("pump")
    async with running(bench):
        bench.bus.connect()
        answer = await bench.resend(stream.epoch, (1, 5), (100, first + 4), (last, last + 50))
        await eventually(lambda: len(bench.bus.taken) >= 6)

    assert answer.sending == [(first, first + 4), (last, last)]
    assert answer.gone == [(1, 5, "trimmed"), (100, first - 1, "cap_bytes")]
    assert bench.bus.numbers[:6] == [*range(first, first + 5), last]


async def test_resend_of_an_epoch_that_the_journal_does_not_know_is_not_found(journal: Journal) -> None:
    bench = Bench(journal)
    bench.fill(5)
    bench.desk.serve("pump")

    with pytest.raises(CommandFailed) as refused:
        await bench.resend(17, (1, 5))

    assert refused.value.failure.code is ErrorCode.NOT_FOUND


async def test_a_request_of_very_many_ranges_is_refused(journal: Journal) -> None:
    bench = Bench(journal)
    stream = bench.fill(5)
    bench.desk.serve("pump")

    with pytest.raises(CommandFailed) as refused:
        await bench.resend(stream.epoch, *[(1, 1)] * 1001)

    assert refused.value.failure.code is ErrorCode.INVALID
    assert bench.backfill.pending(stream) == 0


async def test_owners_without_a_device_are_served_too(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    Bench(journal).fill(5)
    journal.close()
    journal = open_journal(tmp_path)

    served = Bench(journal).bus.served

    journal.close()
    assert {*served} == {(RESEND.name, "pump"), (RESEND_EVENTS.name, "gateway")}


async def test_a_record_that_the_disk_gives_back_damaged_is_answered_as_gone_when_it_is_asked_for_again(
    journal: Journal, tmp_path: Path, eventually: Eventually
) -> None:
    bench = Bench(journal)
    stream = bench.fill(5)
    bench.desk.serve("pump")
    spoil_the_middle(tmp_path)
    async with running(bench):
        bench.bus.connect()
        first = await bench.resend(stream.epoch, (1, 5))
        await eventually(lambda: len(bench.bus.numbers) == 4)
        second = await bench.resend(stream.epoch, (1, 5))

    assert first.sending == [(1, 5)]
    assert second.gone == [(3, 3, "damaged")]
    assert second.sending == [(1, 2), (4, 5)]


def spoil_the_middle(folder: Path) -> None:
    path = min(folder.glob("*.segment"))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + b"#" + content[len(content) // 2 + 1 :])


async def test_numbers_that_an_ended_epoch_never_had_are_answered_as_unknown(journal: Journal) -> None:
    """A power cut has cost the last of them; the recorder had heard of even later ones."""
    bench = Bench(journal)
    stream = bench.fill(5)
    bench.desk.serve("pump")
    running_on = await bench.resend(stream.epoch, (4, 2**53 - 1))
    journal.end_stream(stream)
    ended = await bench.resend(stream.epoch, (4, 2**53 - 1))

    assert (running_on.sending, running_on.gone) == ([(4, 5)], [])
    assert (ended.sending, ended.gone) == ([(4, 5)], [(6, 2**53 - 1, "unknown")])


async def test_a_required_recorder_that_is_away_does_not_hold_up_another(
    tmp_path: Path, eventually: Eventually
) -> None:
    journal = Journal.open(
        tmp_path, required_recorders=("a", "b"), clock=SystemClock(), metrics=Metrics(CollectorRegistry())
    )
    bench, stream = owing(journal, 1000, rate=2000)
    async with running(bench):
        bench.bus.connect()

        async def recorder() -> None:
            while True:  # stores what comes at once; the other never does
                await bench.bus.news.wait()
                bench.bus.news.clear()
                await bench.stored(stream.epoch, (1, bench.bus.numbers[-1]), recorder="a")

        task = asyncio.create_task(recorder())
        await eventually(lambda: 1000 in bench.bus.numbers)
        task.cancel()
    journal.close()

    assert bench.bus.numbers[:1000] == list(range(1, 1001)), "none twice before all have gone once"


async def test_an_epoch_that_ends_while_connected_is_offered_too_if_nobody_has_it(
    journal: Journal, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last messages went out live, to a broker that knew of no recorder yet."""
    monkeypatch.setattr(module, "OFFER_S", 0.05)
    bench = Bench(journal)
    stream = bench.fill(5)
    async with running(bench):
        bench.bus.connect()
        await bench.stored(stream.epoch, (1, 3))
        journal.end_stream(stream)
        await eventually(lambda: bench.bus.numbers == [4, 5])
