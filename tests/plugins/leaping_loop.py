"""An event loop whose time stands still while there is anything to do, and leaps to the next timer when there is not.

So what a test says of rates and waits does not depend on how busy the machine is, though its sockets are real ones.
"""

import asyncio
import os
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

R = TypeVar("R")
_ON_ITS_WAY_S = 0.002
"""How long bytes may take from one socket of this process to another before they count as not sent."""
_THROUGH_A_TERMINAL_S = 5.0
"""And from one end of a pseudo-terminal to the other: the kernel has that done by a thread, when it finds the time."""


class Transit:
    """Counts the bytes that are between the ends of a pseudo-terminal, both of which are this process's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._bytes = 0
        self._read, self._write = os.read, os.write
        monkeypatch.setattr(os, "read", self._counted_read)
        monkeypatch.setattr(os, "write", self._counted_write)

    def longest_s(self) -> float:
        """How long the next byte may still take."""
        return _THROUGH_A_TERMINAL_S if self._bytes else _ON_ITS_WAY_S

    def _counted_read(self, fd: int, most: int) -> bytes:
        data = self._read(fd, most)
        self._bytes -= len(data)
        return data

    def _counted_write(self, fd: int, data: bytes) -> int:
        written = self._write(fd, data)
        self._bytes += written
        return written


class LeapingLoop(asyncio.SelectorEventLoop):
    """See the module's docstring. Its time begins at 0."""

    def __init__(self, transit: Transit | None) -> None:
        self._now = 0.0
        super().__init__(_Selector(self._leap, transit))

    def time(self) -> float:
        return self._now

    def _leap(self, seconds: float) -> None:
        self._now += seconds


class _Selector(selectors.DefaultSelector):
    def __init__(self, leap: Callable[[float], None], transit: Transit | None) -> None:
        super().__init__()
        self._leap = leap
        self._transit = transit

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return super().select(None)
        longest_s = self._transit.longest_s() if self._transit else _ON_ITS_WAY_S
        ready = super().select(longest_s if timeout else 0)
        if not ready:
            self._leap(timeout)
        return ready


class LoopClock:
    """The running loop's time. See plugins.api.clock.Clock."""

    def now_us(self) -> int:
        return int(self.monotonic() * 1e6)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


async def pass_time(seconds: float) -> None:
    """Lets so much of the leaping loop's time go by, which takes none of ours: the pace of what a test plays."""
    assert isinstance(asyncio.get_running_loop(), LeapingLoop)
    await asyncio.sleep(seconds)


def run_leaping(main: Coroutine[Any, Any, R], *, transit: Transit | None = None) -> R:
    """Runs it to its end in a loop of its own."""
    with asyncio.Runner(loop_factory=lambda: LeapingLoop(transit)) as runner:
        return runner.run(main)
