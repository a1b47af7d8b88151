import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from services.runtime.fair_queue import FairQueue
from services.runtime.metrics import Metrics
from services.runtime.queue import QueueClosed

Item = tuple[str, int]


def make(size: int, metrics: Metrics | None = None) -> tuple[FairQueue[Item], list[Item]]:
    given_up: list[Item] = []
    queue = FairQueue[Item](
        name="asked",
        size=size,
        owner=lambda item: item[0],
        given_up=given_up.append,
        metrics=metrics or Metrics(CollectorRegistry()),
    )
    return queue, given_up


async def everything(queue: FairQueue[Item]) -> list[Item]:
    return [await queue.get() for _ in range(len(queue))]


async def test_owners_take_turns_and_each_ones_items_keep_their_order() -> None:
    queue, _ = make(10)
    for item in [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("c", 5), ("b", 6)]:
        assert queue.put_nowait(item)

    assert await everything(queue) == [("a", 1), ("b", 4), ("c", 5), ("a", 2), ("b", 6), ("a", 3)]


async def test_whoever_fills_it_gives_way_to_others_and_is_told(metrics: Metrics) -> None:
    queue, given_up = make(4, metrics)
    taken = [queue.put_nowait(("a", number)) for number in range(6)]
    others = [queue.put_nowait(("b", 7)), queue.put_nowait(("c", 8))]

    assert taken == [True] * 4 + [False] * 2
    assert others == [True] * 2
    assert given_up == [("a", 4), ("a", 5), ("a", 3), ("a", 2)]
    assert await everything(queue) == [("a", 0), ("b", 7), ("c", 8), ("a", 1)]
    drops = metrics.registry.get_sample_value("dinrail_dropped_items_total", {"queue": "asked", "reason": "full"})
    assert drops == 4


@given(st.integers(1, 8), st.lists(st.sampled_from("abcd"), max_size=60))
def test_nobody_loses_an_item_while_another_has_more_in_the_queue_and_all_others_come(
    size: int, owners: list[str]
) -> None:
    queue, given_up = make(size)
    held: Counter[str] = Counter()
    for number, owner in enumerate(owners):
        held[owner] += 1
        before = len(given_up)
        queue.put_nowait((owner, number))
        for loser, _ in given_up[before:]:
            assert held[loser] == max(held.values())
            held[loser] -= 1

        assert len(queue) == held.total() <= size
    assert Counter(owner for owner, _ in asyncio.run(everything(queue))) == +held


async def test_who_waits_gets_what_comes_and_the_end() -> None:
    queue, _ = make(2)
    getting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.put_nowait(("a", 1))
    assert await getting == ("a", 1)
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.close()

    with pytest.raises(QueueClosed):
        await waiting
    with pytest.raises(QueueClosed):
        queue.put_nowait(("a", 2))
