"""Live frames go out in order and first; what does not go out is owed out of the journal, each frame once."""

import asyncio
from contextlib import asynccontextmanager

import pytest
import structlog
from prometheus_client import CollectorRegistry

from services.gateway.publisher import AT_ONCE, ROOM, Parcel, Publisher
from services.runtime.bus.bus import BusUnavailable, PublishRefused
from services.runtime.metrics import Metrics


class ScriptedBus:
    """Takes what is published while `connected`, after `gate`; refuses the topics in `refused`."""

    def __init__(self):
        self.connected = True
        self.back = asyncio.Event()
        self.back.set()
        self.taken = []
        self.posted = []
        self.refused = set()
        self.breaks_after = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.news = asyncio.Event()

    def post_bytes(self, topic, data, *, kind):
        self.posted.append(data)
        return asyncio.ensure_future(self._publish(topic, data, kind=kind))

    async def _publish(self, topic, data, *, kind):
        assert kind == "FRAME"
        await self.gate.wait()
        if self.breaks_after is not None and len(self.taken) >= self.breaks_after:
            self.leave()
        if not self.connected:
            raise BusUnavailable("away")
        if topic in self.refused:
            return [PublishRefused(topic, 0x87, "not authorised")]
        self.taken.append(data)
        self.news.set()
        return []

    async def wait_connected(self, timeout_s):
        async with asyncio.timeout(timeout_s):
            await self.back.wait()

    def leave(self):
        self.connected = False
        self.back.clear()

    def reconnect(self):
        self.breaks_after = None
        self.connected = True
        self.back.set()

    async def until(self, count):
        async with asyncio.timeout(30):
            while len(self.taken) < count:
                self.news.clear()
                await self.news.wait()


class Owed(list):
    """Stands for the backfill: the numbers of what did not go out live."""

    def owe(self, stream, seq):
        assert stream == "pump/fast"
        self.append(seq)


@pytest.fixture
def owed():
    return Owed()


@pytest.fixture
def bus():
    return ScriptedBus()


@pytest.fixture
def metrics():
    return Metrics(CollectorRegistry())


@pytest.fixture
def publisher(bus, owed, metrics):
    return Publisher(bus=bus, backfill=owed, metrics=metrics, log=structlog.stdlib.get_logger(), queued=100)


@asynccontextmanager
async def running(publisher):
    task = asyncio.create_task(publisher.run())
    try:
        yield task
    finally:
        await publisher.stop()
        async with asyncio.timeout(30):
            await task


def submit(publisher, numbers, device="pump"):
    for number in numbers:
        publisher.submit(Parcel(f"{device}/fast", number, f"frame/{device}/fast", number))


async def test_frames_go_out_in_the_order_in_which_they_came(bus, publisher):
    async with running(publisher):
        submit(publisher, range(50))
        await bus.until(50)

    assert bus.taken == list(range(50))


async def test_a_frame_is_on_its_way_when_it_has_been_submitted(bus, publisher):
    async with running(publisher):
        submit(publisher, [1])
        assert bus.posted == [1]


async def test_no_more_frames_than_the_window_wait_for_an_answer_and_each_answer_lets_one_go(bus, publisher):
    async with running(publisher):
        bus.gate.clear()
        submit(publisher, range(AT_ONCE + 5))
        assert bus.posted == list(range(AT_ONCE))
        bus.gate.set()
        await bus.until(AT_ONCE + 5)

    assert bus.posted == list(range(AT_ONCE + 5))


async def test_after_an_outage_the_newest_frame_goes_first_and_all_before_it_are_owed(bus, publisher, owed, eventually):
    bus.breaks_after = 20
    async with running(publisher):
        submit(publisher, range(60))
        await bus.until(20)
        await eventually(lambda: len(owed) == 40)
        submit(publisher, range(60, 70))
        bus.reconnect()
        submit(publisher, range(70, 80))
        await bus.until(30)

    assert bus.taken == [*range(20), *range(70, 80)]
    assert owed == [*range(20, 70)]


async def test_before_the_first_connection_the_first_frames_wait_for_it(bus, publisher, owed):
    bus.leave()
    async with running(publisher):
        submit(publisher, range(7))
        await asyncio.sleep(0)
        bus.reconnect()
        await bus.until(7)

    assert bus.taken == list(range(7))
    assert owed == []


async def test_too_many_frames_push_out_the_oldest_which_are_owed(bus, publisher, owed, metrics):
    bus.leave()
    submit(publisher, range(120))
    bus.reconnect()
    async with running(publisher):
        await bus.until(100)

    assert bus.taken == list(range(20, 120))
    assert owed == list(range(20))
    labels = {"queue": "publisher", "reason": "oldest"}
    assert metrics.registry.get_sample_value("dinrail_dropped_items_total", labels) == 20


async def test_a_refused_frame_does_not_hold_up_the_next(bus, publisher, owed):
    bus.refused = {"frame/fan/fast"}
    async with running(publisher):
        submit(publisher, [1], device="fan")
        submit(publisher, [2])
        await bus.until(1)

    assert (bus.taken, owed) == ([2], [])


async def test_a_stop_sends_what_waits(bus, publisher):
    submit(publisher, range(40))
    async with running(publisher):
        pass

    assert bus.taken == list(range(40))


async def test_a_stop_does_not_wait_for_a_broker_that_is_away(bus, publisher, owed):
    bus.leave()
    async with running(publisher):
        submit(publisher, range(5))

    assert (bus.taken, owed) == ([], [0, 1, 2, 3, 4])


async def test_room_waits_for_a_slow_broker_and_not_for_one_that_is_away(bus, publisher):
    async with running(publisher):
        bus.gate.clear()
        submit(publisher, range(ROOM + 20))
        room = asyncio.create_task(publisher.room())
        await asyncio.sleep(0)
        assert not room.done()

        bus.gate.set()
        async with asyncio.timeout(30):
            await room

    bus.leave()
    submit(publisher, range(ROOM + 20))
    async with asyncio.timeout(30):
        await publisher.room()
