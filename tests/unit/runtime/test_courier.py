"""Retained values give way to what has asked for quiet, and none of them for ever."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import structlog

from services.runtime.connection import Connection
from services.runtime.courier import WINDOW, Courier
from services.runtime.outbox import Retained
from tests.conftest import Eventually


class Broker:
    """Stands for the connection: answers each publication in the next turn of the loop."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def send(self, topic: str, data: bytes, **_: Any) -> asyncio.Future[None]:
        self.sent.append(topic)
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(answer.set_result, None)
        return answer


async def answered(answer: asyncio.Future[None], kind: str) -> None:
    await answer


@asynccontextmanager
async def carrying(courier: Courier, broker: Broker) -> AsyncIterator[None]:
    task = asyncio.create_task(courier.run(cast("Connection", broker)))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def put(courier: Courier, count: int) -> None:
    for number in range(count):
        courier.put(f"tag/{number}", Retained(kind="TAG", encode=lambda again: b"1", expiry_s=None))


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_no_value_goes_out_between_the_steps_of_what_has_asked_for_quiet() -> None:
    courier, broker = Courier(answered=answered, log=structlog.stdlib.get_logger()), Broker()
    async with carrying(courier, broker):
        with courier.quiet():
            with courier.quiet():
                put(courier, WINDOW)
                await turns(5)
            await turns(5)
            sent_meanwhile = len(broker.sent)
        async with asyncio.timeout(5):
            await courier.wait_empty()

    assert sent_meanwhile == 0
    assert len(broker.sent) == WINDOW


async def test_quiet_without_end_does_not_keep_values_back(eventually: Eventually) -> None:
    courier, broker = Courier(answered=answered, log=structlog.stdlib.get_logger()), Broker()
    async with carrying(courier, broker):
        with courier.quiet():
            put(courier, 5 * WINDOW)
            await eventually(lambda: len(broker.sent) == 5 * WINDOW)
