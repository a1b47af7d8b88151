"""Retained values give way to what has asked for quiet, and none of them for ever."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import cast

import pytest
import structlog

from contracts.v1.tag import TAG
from services.runtime.bus.courier import WINDOW, Courier
from services.runtime.bus.outbox import RetainedValue
from services.runtime.mqtt.connection import Connection
from services.runtime.mqtt.envelope import envelope_of
from services.runtime.mqtt.outgoing import MOST_IN_FLIGHT, Message, Refusals
from tests.conftest import Eventually


class Broker:
    """Stands for the connection: answers each publication in the next turn of the loop."""

    def __init__(self, window: int = MOST_IN_FLIGHT) -> None:
        self.window = window
        self.sent: list[str] = []
        self.most_at_once = 0

    def send(self, messages: Sequence[Message]) -> asyncio.Future[Refusals]:
        self.most_at_once = max(self.most_at_once, len(messages))
        self.sent += (envelope.topic for envelope, _ in messages)
        answer: asyncio.Future[Refusals] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(answer.set_result, [])
        return answer


def send(connection: Connection, messages: Sequence[Message]) -> asyncio.Future[Refusals]:
    return connection.send(messages)


@asynccontextmanager
async def carrying(courier: Courier, broker: Broker) -> AsyncIterator[None]:
    task = asyncio.create_task(courier.run(cast("Connection", broker)))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def put(courier: Courier, count: int) -> None:
    courier.put(RetainedValue(envelope_of(TAG, f"tag/{number}"), lambda again: b"1") for number in range(count))


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize(("window", "at_once"), [(MOST_IN_FLIGHT, WINDOW), (20, 16), (1, 1)])
async def test_values_leave_room_for_a_frame_in_what_the_broker_takes(window: int, at_once: int) -> None:
    courier, broker = Courier(carry=send, log=structlog.stdlib.get_logger()), Broker(window)
    async with carrying(courier, broker):
        put(courier, 2 * WINDOW)
        async with asyncio.timeout(30):
            await courier.wait_empty()

    assert broker.most_at_once == at_once
    assert len(broker.sent) == 2 * WINDOW


async def test_no_value_goes_out_between_the_steps_of_what_has_asked_for_quiet() -> None:
    courier, broker = Courier(carry=send, log=structlog.stdlib.get_logger(), quiet_s=60), Broker()
    async with carrying(courier, broker):
        with courier.quiet():
            with courier.quiet():
                put(courier, WINDOW)
                await turns(5)
            await turns(5)
            sent_meanwhile = len(broker.sent)
        async with asyncio.timeout(30):
            await courier.wait_empty()

    assert sent_meanwhile == 0
    assert len(broker.sent) == WINDOW


async def test_quiet_without_end_does_not_keep_values_back(eventually: Eventually) -> None:
    courier, broker = Courier(carry=send, log=structlog.stdlib.get_logger()), Broker()
    async with carrying(courier, broker):
        with courier.quiet():
            put(courier, 5 * WINDOW)
            await eventually(lambda: len(broker.sent) == 5 * WINDOW)
