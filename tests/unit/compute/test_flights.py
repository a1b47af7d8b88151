"""What is asked several times at the same time is computed once."""

import asyncio

import pytest

from services.compute.flights import Begun, Flights


class Work:
    """A computation that the test lets begin and end."""

    def __init__(self) -> None:
        self.calls = 0
        self.cancelled = False
        self.may_begin = asyncio.Event()
        self.result: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def compute(self, begun: Begun) -> int:
        self.calls += 1
        try:
            await self.may_begin.wait()
            begun()
            return await self.result
        except asyncio.CancelledError:
            self.cancelled = True
            raise


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_all_get_the_result_and_hear_of_the_begin() -> None:
    flights, work, begins = Flights[int](), Work(), list[int]()
    waiting = [
        asyncio.create_task(flights.share(b"a", work.compute, lambda number=number: begins.append(number)))
        for number in range(3)
    ]
    await turns()
    assert begins == []
    work.may_begin.set()
    await turns()
    assert begins == [0, 1, 2]
    work.result.set_result(7)

    assert await asyncio.gather(*waiting) == [7, 7, 7]
    assert work.calls == 1


async def test_it_goes_on_while_one_waits_and_ends_with_the_last() -> None:
    flights, work = Flights[int](), Work()
    first, second = (asyncio.create_task(flights.share(b"a", work.compute, lambda: None)) for _ in range(2))
    await turns()

    first.cancel()
    await turns()
    assert not work.cancelled
    second.cancel()
    await asyncio.wait([first, second])

    assert work.cancelled


async def test_who_comes_after_the_last_has_gone_begins_anew() -> None:
    flights, gone, work = Flights[int](), Work(), Work()
    first = asyncio.create_task(flights.share(b"a", gone.compute, lambda: None))
    await turns()
    first.cancel()
    await asyncio.sleep(0)  # the work has been told to end, and has not ended yet
    work.may_begin.set()
    work.result.set_result(3)

    assert await flights.share(b"a", work.compute, lambda: None) == 3
    assert gone.cancelled
    await asyncio.wait([first])


async def test_a_failure_is_told_to_all_and_not_kept() -> None:
    flights, work, again = Flights[int](), Work(), Work()
    waiting = [asyncio.create_task(flights.share(b"a", work.compute, lambda: None)) for _ in range(2)]
    await turns()
    work.may_begin.set()
    work.result.set_exception(ValueError("no"))
    for task in waiting:
        with pytest.raises(ValueError, match="no"):
            await task
    again.may_begin.set()
    again.result.set_result(1)

    assert await flights.share(b"a", again.compute, lambda: None) == 1
