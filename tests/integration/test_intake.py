"""The intake against a real mosquitto: nothing that was not acknowledged is lost, whoever dies."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from prometheus_client import CollectorRegistry
from structlog.testing import CapturingLogger

from contracts.v1.frame import FRAME
from services.runtime.bus import Bus
from services.runtime.intake import Intake
from services.runtime.metrics import Metrics
from tests.real_broker import SITE, Broker
from tests.real_bus import make_bus, running

TOPIC = FRAME.build(site=SITE, device="filler", group="fast")


def make_intake(
    broker: Broker,
    *,
    registry: CollectorRegistry | None = None,
    receive_maximum: int = 500,
    log: CapturingLogger | None = None,
) -> Intake:
    return Intake(
        broker=broker.settings(),
        client_id="recorder-intake",
        username=None,
        password=None,
        filters=[FRAME.filter(site=SITE)],
        receive_maximum=receive_maximum,
        metrics=Metrics(registry or CollectorRegistry()),
        log=structlog.wrap_logger(log or CapturingLogger(), processors=[], wrapper_class=structlog.stdlib.BoundLogger),
    )


@asynccontextmanager
async def taking(intake: Intake) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        group.create_task(intake.run())
        try:
            await intake.wait_connected(5)
            yield
        finally:
            await intake.stop()


async def send(bus: Bus, numbers: range) -> None:
    await asyncio.gather(*(bus.publish_bytes(TOPIC, b"%d" % number, kind="FRAME") for number in numbers))


async def take(intake: Intake, count: int, *, ack: bool = True, timeout_s: float = 10) -> list[int]:
    taken: list[int] = []
    async with asyncio.timeout(timeout_s):
        while len(taken) < count:
            batch = await intake.batch(most=min(500, count - len(taken)))
            taken += [int(message.payload) for message in batch.messages]
            if ack:
                batch.ack()
    return taken


async def test_all_messages_come_in_order_with_their_topic(broker: Broker) -> None:
    intake, bus = make_intake(broker), make_bus(broker, "sender")

    async with running(bus), taking(intake):
        await send(bus, range(2000))
        batch = await intake.batch(most=1)
        batch.ack()
        taken = await take(intake, 1999)

    assert batch.messages[0].topic == TOPIC
    assert [int(batch.messages[0].payload), *taken] == list(range(2000))
