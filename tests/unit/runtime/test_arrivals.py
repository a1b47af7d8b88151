"""From the thread of a client to the event loop, in order, and without waking it in vain."""

import asyncio
import threading

import pytest

from services.runtime.mqtt.arrivals import Arrivals, ArrivalsClosed
from tests.conftest import Eventually


async def test_all_items_of_a_thread_faster_than_us_arrive_in_order() -> None:
    arrivals: Arrivals[int] = Arrivals(most=1000)
    thread = threading.Thread(target=lambda: [arrivals.add(number, patience_s=5) for number in range(50_000)])
    taken: list[int] = []

    thread.start()
    async with asyncio.timeout(30):
        while len(taken) < 50_000:
            await arrivals.wait(1)
            taken += arrivals.take(500)
    thread.join()

    assert taken == list(range(50_000))


async def test_waiting_for_several_ends_when_the_last_of_them_comes() -> None:
    arrivals: Arrivals[int] = Arrivals(most=10)
    waiting = asyncio.create_task(arrivals.wait(3))
    await asyncio.sleep(0)

    arrivals.add(1, patience_s=0)
    arrivals.add(2, patience_s=0)
    await asyncio.sleep(0)
    early = waiting.done()
    arrivals.add(3, patience_s=0)
    async with asyncio.timeout(30):
        await waiting

    assert not early


async def test_what_finds_no_room_in_time_is_not_taken_in() -> None:
    arrivals: Arrivals[int] = Arrivals(most=2)

    kept = [arrivals.add(number, patience_s=0) for number in range(3)]

    assert kept == [True, True, False]
    assert arrivals.take(10) == [0, 1]


async def test_the_thread_waits_for_room(eventually: Eventually) -> None:
    arrivals: Arrivals[int] = Arrivals(most=1)
    arrivals.add(0, patience_s=0)
    adding = asyncio.create_task(asyncio.to_thread(arrivals.add, 1, patience_s=30))

    await eventually(lambda: not arrivals._room.is_set())
    first = arrivals.take(1)
    async with asyncio.timeout(30):
        added = await adding

    assert added
    assert (first, arrivals.take(1)) == ([0], [1])


async def test_waiting_for_more_than_fit_ends_when_it_is_full() -> None:
    arrivals: Arrivals[int] = Arrivals(most=2)
    for number in range(2):
        arrivals.add(number, patience_s=0)

    async with asyncio.timeout(30):
        await arrivals.wait(3)


async def test_closing_ends_the_waiting_and_gives_nothing_more_out() -> None:
    arrivals: Arrivals[int] = Arrivals(most=2)
    waiting = asyncio.create_task(arrivals.wait(1))
    await asyncio.sleep(0)

    arrivals.close()
    with pytest.raises(ArrivalsClosed):
        await waiting
    arrivals.add(1, patience_s=0)
    with pytest.raises(ArrivalsClosed):
        await arrivals.wait(1)
