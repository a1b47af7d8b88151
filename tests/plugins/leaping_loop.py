"""An event loop whose time stands still while there is anything to do, and leaps to the next timer when there is not.

So what a test says of rates and waits does not depend on how busy the machine is, though its sockets are real ones.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

R = TypeVar("R")
ON_ITS_WAY_S = 0.002
"""How long bytes may take from one socket of this process to another before they count as not sent."""
THROUGH_A_TERMINAL_S = 0.02
"""And from one end of a pseudo-terminal to the other: the kernel has that done by a thread of its own."""


class LeapingLoop(asyncio.SelectorEventLoop):
    """See the module's docstring. Its time begins at 0."""

    def __init__(self, on_its_way_s: float) -> None:
        self._now = 0.0
        super().__init__(_Selector(self._leap, on_its_way_s))

    def time(self) -> float:
        return self._now

    def _leap(self, seconds: float) -> None:
        self._now += seconds


class _Selector(selectors.DefaultSelector):
    def __init__(self, leap: Callable[[float], None], on_its_way_s: float) -> None:
        super().__init__()
        self._leap = leap
        self._on_its_way_s = on_its_way_s

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return super().select(None)
        ready = super().select(min(timeout, self._on_its_way_s))
        if not ready:
            self._leap(timeout)
        return ready


class LoopClock:
    """The running loop's time. See plugins.api.clock.Clock."""

    def now_us(self) -> int:
        return int(self.monotonic() * 1e6)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


def run_leaping(main: Coroutine[Any, Any, R], *, on_its_way_s: float = ON_ITS_WAY_S) -> R:
    """Runs it to its end in a loop of its own."""
    with asyncio.Runner(loop_factory=lambda: LeapingLoop(on_its_way_s)) as runner:
        return runner.run(main)
