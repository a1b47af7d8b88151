"""Ctrl-C: the first one ends a site in order, a second one at once."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from services.cli import up

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """As they were before."""
    before = {number: signal.getsignal(number) for number in STOPS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("again", STOPS)
async def test_signals_of_one_press_of_ctrl_c_end_a_site_in_order_and_a_later_one_ends_it_at_once(
    again: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(up, "ONE_PRESS_S", 0.5)  # longer than a busy machine keeps us waiting between two of them
    second = asyncio.Event()
    stopping = up.stop_signals(on_second=second.set)

    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.wait_for(stopping.wait(), 30)
    os.kill(os.getpid(), again)  # as a program does that is just being forked
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(second.wait(), up.ONE_PRESS_S)
    os.kill(os.getpid(), again)

    await asyncio.wait_for(second.wait(), 30)
