"""Frames go out in order, whatever the connection does; what does not fit stays in the journal and is counted."""

import asyncio
from contextlib import asynccontextmanager

import pytest
import structlog
from prometheus_client import CollectorRegistry

from services.gateway.publisher import ROOM, Parcel, Publisher
from services.runtime.bus import BusUnavailable, PublishRefused
from services.runtime.metrics import Metrics


class ScriptedBus:
    """Takes what is published while `connected`, after `gate`; refuses the topics in `refused`."""

    def __init__(self):
        self.connected = True
        self.taken = []
        self.refused = set()
        self.breaks_after = None
        self.back = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.news = asyncio.Event()

    async def publish_bytes(self, topic, data, *, kind):
        assert kind == "FRAME"
        await self.gate.wait()
        if self.breaks_after is not None and len(self.taken) >= self.breaks_after:
            self.connected = False
        if not self.connected:
            raise BusUnavailable("away")
        if topic in self.refused:
            raise PublishRefused(topic, 0x87, "not authorised")
        self.taken.append(data)
        self.news.set()

    async def wait_connected(self, timeout_s):
        async with asyncio.timeout(timeout_s):
            await self.back.wait()

    def reconnect(self):
        self.breaks_after = None
        self.connected = True
        self.back.set()

    async def until(self, count):
        async with asyncio.timeout(5):
            while len(self.taken) < count:
                self.news.clear()
                await self.news.wait()


@pytest.fixture
def bus():
    return ScriptedBus()


@pytest.fixture
def metrics():
    return Metrics(CollectorRegistry())


@pytest.fixture
def publisher(bus, metrics):
    return Publisher(bus=bus, metrics=metrics, log=structlog.stdlib.get_logger(), queued=100)


@asynccontextmanager
async def running(publisher):
    task = asyncio.create_task(publisher.run())
    try:
        yield task
    finally:
        await publisher.stop()
        async with asyncio.timeout(5):
            await task


def submit(publisher, numbers, device="pump"):
    for number in numbers:
        publisher.submit(Parcel(device, f"frame/{device}/fast", number))


async def test_frames_go_out_in_the_order_in_which_they_came(bus, publisher):
    async with running(publisher):
        submit(publisher, range(50))
        await bus.until(50)

    assert bus.taken == list(range(50))


async def test_what_a_broken_connection_did_not_answer_goes_out_first_when_it_is_back(bus, publisher):
    bus.breaks_after = 20
    async with running(publisher):
        submit(publisher, range(60))
        await bus.until(20)
        submit(publisher, range(60, 70))
        bus.reconnect()
        await bus.until(70)

    assert bus.taken == list(range(70))


async def test_while_the_broker_is_away_what_waits_is_the_backlog(bus, publisher):
    bus.connected = False
    submit(publisher, range(7))
    submit(publisher, range(3), device="fan")

    assert (publisher.backlog("pump"), publisher.backlog("fan")) == (7, 3)
    bus.reconnect()
    assert publisher.backlog("pump") == 0


async def test_too_many_frames_push_out_the_oldest_which_stay_backlog(bus, publisher, metrics):
    bus.connected = False
    submit(publisher, range(120))
    bus.reconnect()
    async with running(publisher):
        await bus.until(100)

    assert bus.taken == list(range(20, 120))
    assert publisher.backlog("pump") == 20
    labels = {"queue": "publisher", "reason": "oldest"}
    assert metrics.registry.get_sample_value("dinrail_dropped_items_total", labels) == 20


async def test_a_refused_frame_does_not_hold_up_the_next(bus, publisher):
    bus.refused = {"frame/fan/fast"}
    async with running(publisher):
        submit(publisher, [1], device="fan")
        submit(publisher, [2])
        await bus.until(1)

    assert (bus.taken, publisher.backlog("fan")) == ([2], 1)


async def test_a_stop_sends_what_waits(bus, publisher):
    submit(publisher, range(40))
    async with running(publisher):
        pass

    assert bus.taken == list(range(40))


async def test_a_stop_does_not_wait_for_a_broker_that_is_away(bus, publisher):
    bus.connected = False
    async with running(publisher):
        submit(publisher, range(5))

    assert bus.taken == []


async def test_room_waits_for_a_slow_broker_and_not_for_one_that_is_away(bus, publisher):
    async with running(publisher):
        bus.gate.clear()
        submit(publisher, range(ROOM + 20))
        room = asyncio.create_task(publisher.room())
        await asyncio.sleep(0)
        assert not room.done()

        bus.gate.set()
        async with asyncio.timeout(5):
            await room

    bus.connected = False
    submit(publisher, range(ROOM + 20))
    async with asyncio.timeout(1):
        await publisher.room()
