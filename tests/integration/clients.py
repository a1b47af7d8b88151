"""Intakes for tests, and the processes that tests kill: `python -m tests.integration.clients ROLE PORT`."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry
from structlog.testing import CapturingLogger

from contracts.v1.frame import FRAME
from contracts.v1.service import ServiceStatus
from services.runtime.bus.bus import Presence
from services.runtime.intake import Intake
from services.runtime.metrics import Metrics
from tests.real_broker import SITE, Broker
from tests.real_bus import WAIT_S, make_bus

ROOT = Path(__file__).parents[2]
PRESENCE = Presence(service="gateway", instance="gateway", sid="session-1", version="1.2.3")


def make_intake(
    broker: Broker,
    *,
    registry: CollectorRegistry | None = None,
    port: int | None = None,
    receive_maximum: int = 500,
    drain_s: float = 5.0,
    log: CapturingLogger | None = None,
) -> Intake:
    """An intake of all frames, always in the same session."""
    return Intake(
        broker=broker.settings(port),
        client_id="recorder-intake",
        username=None if broker.accounts is None else "recorder",
        password=broker.password("recorder"),
        filters=[FRAME.filter(site=SITE)],
        receive_maximum=receive_maximum,
        drain_s=drain_s,
        metrics=Metrics(registry or CollectorRegistry()),
        log=structlog.wrap_logger(log or CapturingLogger(), processors=[], wrapper_class=structlog.stdlib.BoundLogger),
    )


@asynccontextmanager
async def taking(intake: Intake) -> AsyncIterator[None]:
    """The intake runs and is connected inside, and ends in good order."""
    async with asyncio.TaskGroup() as group:
        group.create_task(intake.run())
        try:
            await intake.wait_connected(WAIT_S)
            yield
        finally:
            await intake.stop()


@contextmanager
def child(role: str, broker: Broker) -> Iterator[subprocess.Popen[bytes]]:
    """A process in one of the roles below, ready inside; killed at the end if the test has not done so."""
    command = [sys.executable, "-m", "tests.integration.clients", role, str(broker.port)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


async def take_1000_and_acknowledge_150(broker: Broker) -> None:
    """Holds 850 messages that it has received and not acknowledged."""
    intake = make_intake(broker, receive_maximum=1000)
    running = asyncio.create_task(intake.run())
    taken = 0
    while taken < 1000:
        batch = await intake.batch(most=150 - taken if taken < 150 else 1000)
        taken += len(batch.messages)
        if taken <= 150:
            batch.ack()
    say_ready()
    await running


async def be_online(broker: Broker) -> None:
    """Is there, and says so."""
    bus = make_bus(broker, "gateway-bus", presence=PRESENCE)
    running = asyncio.create_task(bus.run())
    await bus.announce(ServiceStatus.ONLINE)
    await bus.wait_connected(WAIT_S)
    say_ready()
    await running


def say_ready() -> None:
    """To child() in the process that waits for it."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()


ROLES = {"intake": take_1000_and_acknowledge_150, "presence": be_online}

if __name__ == "__main__":
    asyncio.run(ROLES[sys.argv[1]](Broker(Path("unused"), port=int(sys.argv[2]))))
