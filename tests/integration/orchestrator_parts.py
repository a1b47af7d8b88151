"""What parts of the orchestrator need around them in a test: a bus, a stream of events, a database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from services.orchestrator.database import FILE, Database
from services.runtime.bus.bus import Bus
from services.runtime.clock import SystemClock
from services.runtime.event_log import EventLog
from services.runtime.journal import Journal
from services.runtime.lifecycle import Part
from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.versions import Versions
from tests.counted import counted
from tests.real_broker import SITE, Broker
from tests.real_bus import make_bus, running


@dataclass
class Parts:
    """Around the part under test. bus: as the orchestrator; stack: what is to end with the test goes in here."""

    bus: Bus
    events: EventLog
    database: Database
    clock: SystemClock
    metrics: Metrics
    log: Log
    stack: AsyncExitStack

    async def start(self, part: Part) -> Part:
        """Runs the part until the end."""
        task = asyncio.create_task(part.run())

        async def end() -> None:
            await part.stop()
            await task

        self.stack.push_async_callback(end)
        return part

    async def caller(self, broker: Broker, user: str, account: str | None = None) -> Bus:
        """A bus to send commands with, as this user."""
        bus = make_bus(broker, f"{user}-tool", account=account)
        await self.stack.enter_async_context(running(bus))
        return bus

    def metric(self, name: str, **labels: str) -> float:
        """The value of a metric; 0 if it has none."""
        return counted(self.metrics.registry, name, labels)


@asynccontextmanager
async def orchestrator_parts(broker: Broker, folder: Path, *, account: str | None = None) -> AsyncIterator[Parts]:
    """They run; whatever subscribes later is subscribed at once."""
    clock, metrics = SystemClock(), Metrics(CollectorRegistry())
    log: Any = structlog.wrap_logger(structlog.PrintLogger(), wrapper_class=Log)
    bus = make_bus(broker, "orchestrator-bus", account=account)
    journal = Journal.open(folder, clock=clock, metrics=metrics)
    events = EventLog(
        site=SITE,
        instance="orchestrator",
        bus=bus,
        journal=journal,
        versions=Versions(folder / "versions"),
        clock=clock,
        metrics=metrics,
        log=log,
        random=Random(1),
    )
    async with AsyncExitStack() as stack:
        stack.callback(journal.close)
        database = await stack.enter_async_context(Database(folder / FILE))
        parts = Parts(bus, events, database, clock, metrics, log, stack)
        await stack.enter_async_context(running(bus))
        await parts.start(events)
        yield parts
