"""Ctrl-C: the first one ends a site in order, a second one at once."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from services.cli import up

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MARK = signal.SIGUSR1


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """As they were before."""
    before = {number: signal.getsignal(number) for number in (*STOPS, MARK)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("again", STOPS)
async def test_signals_of_one_press_of_ctrl_c_end_a_site_in_order_and_a_later_one_ends_it_at_once(
    again: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, second, handled = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    stopping = up.stop_signals(on_second=second.set)
    loop.add_signal_handler(MARK, handled.set)

    monkeypatch.setattr(up, "ONE_PRESS_S", 3600.0)
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.wait_for(stopping.wait(), 30)
    os.kill(os.getpid(), again)  # as a program does that is just being forked
    os.kill(os.getpid(), MARK)
    await asyncio.wait_for(handled.wait(), 30)
    assert not second.is_set()
    monkeypatch.setattr(up, "ONE_PRESS_S", 0.0)
    os.kill(os.getpid(), again)

    await asyncio.wait_for(second.wait(), 30)
