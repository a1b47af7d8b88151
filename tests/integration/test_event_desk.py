"""Questions about stored events that take long, over a real broker."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event, Lock

import pytest
import structlog
from prometheus_client import CollectorRegistry

from contracts.policy import WHOLE
from contracts.v1.event import Event as StoredEvent
from contracts.v1.event_store import AUDIT_EVENTS, READ_EVENTS, AggregateEvents, AuditEvents, FoundEvents, ReadEvents
from contracts.v1.policy import Rights
from services.recorder.database import Database
from services.recorder.embedded.store import EmbeddedStore
from services.recorder.events.archive import EventArchive
from services.recorder.events.desk import AT_ONCE, EventDesk
from services.recorder.events.replay import EventReplay
from services.recorder.events.verification import EventVerifier
from services.runtime.bus.bus import Bus
from services.runtime.commands.answers import MOST_BYTES
from tests.conftest import Eventually
from tests.real_broker import Broker
from tests.real_bus import make_bus, running
from tests.recorder_rig import event_message, rig

LONG = 1_000_000
NOWHERE = Path("nowhere")
PUMP = ReadEvents(scope="plant", aggregate="device", aggregate_id="pump")


class SlowArchive(EventArchive):
    """Looks until `found` is set. looking, most: how many questions at the same time, now and at most."""

    def __init__(self) -> None:
        super().__init__(NOWHERE)
        self.found = Event()
        self.looking = self.most = 0
        self._lock = Lock()

    def read(self, asked: ReadEvents) -> AggregateEvents:
        """Finds nothing, late."""
        self._look()
        return AggregateEvents(events=[])

    def audit(self, asked: AuditEvents, rights: Rights = WHOLE) -> FoundEvents:
        """Finds nothing, late."""
        self._look()
        return FoundEvents(events=[])

    def _look(self) -> None:
        with self._lock:
            self.looking += 1
            self.most = max(self.most, self.looking)
        self.found.wait(20)
        with self._lock:
            self.looking -= 1


class LongAnswers(EventArchive):
    """Finds an event of LONG bytes each time."""

    def __init__(self) -> None:
        super().__init__(NOWHERE)

    def read(self, asked: ReadEvents) -> AggregateEvents:
        """The event."""
        event = StoredEvent(
            id="1", aggregate="device", aggregate_id="pump", scope="plant", version=1, type="a", t=1, cause="c" * LONG
        )
        return AggregateEvents(events=[event])


@asynccontextmanager
async def desk(broker: Broker, archive: EventArchive, registry: CollectorRegistry | None = None) -> AsyncIterator[Bus]:
    """A desk at work, and a bus to ask it."""
    bus, asker = make_bus(broker, "recorder-bus", registry=registry), make_bus(broker, "viewer-tool")
    one = EventDesk(
        bus=bus,
        archive=archive,
        replay=EventReplay(NOWHERE),
        verifier=EventVerifier(NOWHERE),
        database=Database(NOWHERE),
        instance="recorder",
        log=structlog.get_logger(),
    )
    async with running(bus, asker), asyncio.TaskGroup() as group:
        group.create_task(one.run())
        try:
            yield asker
        finally:
            await one.stop()


async def test_long_searches_are_few_and_hold_up_nothing_else_though_nobody_waits_for_them_any_more(
    broker: Broker, eventually: Eventually
) -> None:
    archive = SlowArchive()
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    async with desk(broker, archive) as asker:
        try:
            outcomes = await asyncio.gather(
                *(
                    asker.request(command, asked, timeout_s=1, user="viewer", id="recorder")
                    for command, asked in ((READ_EVENTS, PUMP), (AUDIT_EVENTS, AuditEvents())) * (2 * AT_ONCE + 1)
                )
            )
            assert {outcome.error and outcome.error.code for outcome in outcomes} == {"timeout"}
            assert archive.looking > 0
            async with asyncio.timeout(30):
                await asyncio.to_thread(int)
            assert archive.most <= 2 * AT_ONCE
        finally:
            archive.found.set()
        outcome = await asker.request(READ_EVENTS, PUMP, timeout_s=20, user="viewer", id="recorder")
        assert outcome.ok


async def test_answers_about_events_are_not_kept(broker: Broker) -> None:
    archive, registry = LongAnswers(), CollectorRegistry()
    async with desk(broker, archive, registry) as asker:
        for _ in range(MOST_BYTES // LONG + 1):
            assert (await asker.request(READ_EVENTS, PUMP, timeout_s=20, user="viewer", id="recorder")).ok
    assert not registry.get_sample_value("dinrail_dropped_items_total", {"queue": "bus.answers", "reason": "oldest"})


@pytest.mark.parametrize("changed", ["data = '{'", "data = CAST(x'ff' AS TEXT)", "type = 'NONE'"])
async def test_a_row_that_cannot_be_read_is_said_to_be_one(broker: Broker, tmp_path: Path, changed: str) -> None:
    path = tmp_path / "recorder.db"
    async with rig(path, EmbeddedStore(batch_bytes=1 << 20, flush_s=60, chunk_values=10)) as one:
        await one.commit(event_message(1, "online"))
        await one.database.transaction(lambda sql: sql.execute(f"UPDATE event SET {changed}"))
    async with desk(broker, EventArchive(path)) as asker:
        row = await asker.request(READ_EVENTS, PUMP, timeout_s=20, user="viewer", id="recorder")
    assert row.error is not None
    assert row.error.code == "unavailable"
