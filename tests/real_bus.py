"""Buses for tests: made with as little as a test has to say, and run while it lasts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import structlog
from prometheus_client import CollectorRegistry
from structlog.testing import CapturingLogger

from services.runtime.bus.bus import Bus, Delivery, Presence
from services.runtime.clock import SystemClock
from services.runtime.metrics import Metrics
from tests.real_broker import SITE, Broker

T = TypeVar("T")

WAIT_S = 30.0


class MovedClock(SystemClock):
    """The machine's clock, but ahead of it by what a test has moved it on. Messages arrive by the machine's own."""

    def __init__(self) -> None:
        super().__init__()
        self._ahead_s = 0.0

    def advance(self, seconds: float) -> None:
        self._ahead_s += seconds

    def now_us(self) -> int:
        return super().now_us() + round(1e6 * self._ahead_s)

    def monotonic(self) -> float:
        return super().monotonic() + self._ahead_s


def make_bus(
    broker: Broker,
    client_id: str,
    *,
    account: str | None = None,
    password: str | None = None,
    port: int | None = None,
    presence: Presence | None = None,
    registry: CollectorRegistry | None = None,
    log: CapturingLogger | None = None,
) -> Bus:
    """A bus at the broker; with an account, its password is the broker's own unless another is given."""
    if account and password is None:
        assert broker.accounts is not None
        password = broker.accounts[account]
    return Bus(
        broker=broker.settings(port),
        site=SITE,
        client_id=client_id,
        username=account,
        password=None if password is None else lambda: password,
        presence=presence,
        metrics=Metrics(registry or CollectorRegistry()),
        clock=SystemClock(),
        log=structlog.wrap_logger(log or CapturingLogger(), processors=[], wrapper_class=structlog.stdlib.BoundLogger),
    )


@asynccontextmanager
async def running(*buses: Bus) -> AsyncIterator[None]:
    """The buses run and are connected inside, and end in good order."""
    async with asyncio.TaskGroup() as group:
        for bus in buses:
            group.create_task(bus.run())
        try:
            for bus in buses:
                await bus.wait_connected(WAIT_S)
            yield
        finally:
            for bus in buses:
                await bus.stop()


class Inbox(list[Delivery[Any]]):
    """A handler that keeps what it gets, and lets a test wait until there is enough of it."""

    def __init__(self) -> None:
        super().__init__()
        self._arrived = asyncio.Event()

    async def handle(self, delivery: Delivery[Any]) -> None:
        """The handler."""
        self.append(delivery)
        self._arrived.set()

    async def wait(self, count: int, timeout_s: float = WAIT_S) -> None:
        """Returns when there are at least `count` messages."""
        try:
            async with asyncio.timeout(timeout_s):
                while len(self) < count:
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            raise AssertionError(f"{len(self)} of {count} messages after {timeout_s} s: {self[-5:]}") from None

    @property
    def topics(self) -> list[str]:
        """The topics below the site's root, in order of arrival."""
        return [delivery.topic.split("/", 3)[3] for delivery in self]

    @property
    def payloads(self) -> list[Any]:
        """The payloads, in order of arrival."""
        return [delivery.payload for delivery in self]
