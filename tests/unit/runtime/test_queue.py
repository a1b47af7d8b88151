import asyncio
import gc
from weakref import ref

import pytest

from services.runtime.metrics import Metrics
from services.runtime.queue import BoundedQueue, Overflow, QueueClosed


def make(metrics: Metrics, overflow: Overflow, size: int = 2) -> BoundedQueue[int]:
    return BoundedQueue(name="intake", size=size, overflow=overflow, metrics=metrics)


def count(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


async def test_items_come_out_in_the_order_they_went_in(metrics: Metrics) -> None:
    queue = make(metrics, "block", size=5)
    for item in range(5):
        await queue.put(item)

    assert [await queue.get() for _ in range(5)] == [0, 1, 2, 3, 4]


async def test_a_full_queue_that_blocks_takes_the_item_once_there_is_room(metrics: Metrics) -> None:
    queue = make(metrics, "block", size=1)
    await queue.put(1)
    putting = asyncio.create_task(queue.put(2))
    await asyncio.sleep(0)
    assert not putting.done()

    assert await queue.get() == 1

    assert await putting
    assert await queue.get() == 2
    assert count(metrics, "dinrail_dropped_items_total", queue="intake", reason="full") == 0


async def test_a_full_queue_that_drops_gives_up_the_oldest_and_counts_it(metrics: Metrics) -> None:
    queue = make(metrics, "drop_oldest")

    assert [await queue.put(item) for item in range(5)] == [True] * 5

    assert [await queue.get() for _ in range(len(queue))] == [3, 4]
    assert count(metrics, "dinrail_dropped_items_total", queue="intake", reason="oldest") == 3


async def test_a_full_queue_that_refuses_says_so_and_counts_it(metrics: Metrics) -> None:
    queue = make(metrics, "refuse")

    assert [await queue.put(item) for item in range(3)] == [True, True, False]

    assert [await queue.get() for _ in range(len(queue))] == [0, 1]
    assert count(metrics, "dinrail_dropped_items_total", queue="intake", reason="full") == 1


async def test_put_nowait_never_waits(metrics: Metrics) -> None:
    queue = make(metrics, "block", size=1)

    assert queue.put_nowait(1)
    assert not queue.put_nowait(2)


async def test_every_waiting_consumer_gets_its_item(metrics: Metrics) -> None:
    queue = make(metrics, "block", size=10)
    consumers = [asyncio.create_task(queue.get()) for _ in range(3)]
    await asyncio.sleep(0)

    for item in range(3):
        queue.put_nowait(item)

    async with asyncio.timeout(30):
        assert sorted(await asyncio.gather(*consumers)) == [0, 1, 2]


async def test_a_cancelled_consumer_takes_no_item_with_it(metrics: Metrics) -> None:
    queue = make(metrics, "block")
    consumer = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.put_nowait(7)

    consumer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consumer

    assert await queue.get() == 7


async def test_a_closed_queue_gives_what_it_has_and_takes_nothing(metrics: Metrics) -> None:
    queue = make(metrics, "block")
    await queue.put(1)

    queue.close()

    with pytest.raises(QueueClosed):
        queue.put_nowait(2)
    assert await queue.get() == 1
    with pytest.raises(QueueClosed):
        await queue.get()


async def test_close_wakes_whoever_waits(metrics: Metrics) -> None:
    empty, full = make(metrics, "block"), make(metrics, "block", size=1)
    full.put_nowait(1)
    waiting = [
        asyncio.create_task(empty.get()),
        asyncio.create_task(full.put(2)),
    ]
    await asyncio.sleep(0)

    empty.close()
    full.close()

    async with asyncio.timeout(30):
        ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(end) for end in ends] == [QueueClosed] * 2


async def test_drain_returns_when_the_last_item_is_taken(metrics: Metrics) -> None:
    queue = make(metrics, "block")
    await queue.put(1)
    await queue.put(2)
    draining = asyncio.create_task(queue.drain())
    await queue.get()
    await asyncio.sleep(0)
    assert not draining.done()

    await queue.get()

    async with asyncio.timeout(30):
        await draining


async def test_the_depth_is_a_metric_that_does_not_keep_the_items_alive(metrics: Metrics) -> None:
    class Item:
        pass

    queue: BoundedQueue[Item] = BoundedQueue(name="intake", size=2, overflow="block", metrics=metrics)
    item = Item()
    alive = ref(item)
    queue.put_nowait(item)
    assert count(metrics, "dinrail_queue_depth_items", queue="intake") == 1

    del queue, item
    gc.collect()

    assert alive() is None
    assert count(metrics, "dinrail_queue_depth_items", queue="intake") == 0


def test_a_queue_without_room_is_refused(metrics: Metrics) -> None:
    with pytest.raises(ValueError, match="size must be at least 1"):
        make(metrics, "block", size=0)
