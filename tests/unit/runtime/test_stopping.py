"""What a part waits for between two looks: its end, but no longer than the interval."""

import asyncio

from services.runtime.stopping import Stopping
from tests.plugins.leaping_loop import run_leaping


def test_a_part_that_is_not_asked_to_end_waits_for_the_whole_interval() -> None:
    async def wait() -> tuple[bool, float]:
        return await Stopping().within(30), asyncio.get_running_loop().time()

    stopped, now = run_leaping(wait())

    assert not stopped
    assert 30 <= now < 31


def test_a_part_that_is_asked_to_end_waits_no_longer() -> None:
    async def wait() -> tuple[bool, bool, float]:
        stopping = Stopping()
        asyncio.get_running_loop().call_later(1, stopping.set)
        return await stopping.within(30), await stopping.within(30), asyncio.get_running_loop().time()

    first, second, now = run_leaping(wait())

    assert first
    assert second
    assert 1 <= now < 2
