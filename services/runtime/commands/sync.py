"""A thread that brings pages of the command book to the disk: at once where somebody waits, else soon.

With a queue of its own: to hand a page to an executor's thread, and to be told by its future, took a tenth of a write.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from queue import SimpleQueue
from threading import Thread

from services.runtime.commands.page import Page

SOON_S = 0.005
"""How long after the first of them what was written on a page is brought to the disk together."""

STUCK_S = 0.25
"""A disk that takes longer for one page is not to be left behind any further."""

Keep = Callable[[], Awaitable[None]]
"""Returns once what was written may be relied on."""
Then = Callable[[OSError | None], object]
"""Is called in the thread once the page is on the disk, or with what the disk said instead."""
Lost = Callable[[Page, OSError], None]
"""Is called in the event loop: what was written on the page may not be on the disk."""


class Syncs:
    """Pages that are synced one after the other, in the order of asking. now_s: the monotonic clock."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        # No longer than there are pages and commands at work, which the bus bounds.
        self._asked: SimpleQueue[tuple[Page, Then] | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._soon: dict[Page, asyncio.TimerHandle] = {}
        self._due: set[Page] = set()
        self._since_s: float | None = None

    @property
    def stuck(self) -> bool:
        """Whether the disk has been at work on one page for longer than STUCK_S."""
        since_s = self._since_s
        return since_s is not None and self._now_s() > since_s + STUCK_S

    def ask(self, page: Page, then: Then) -> None:
        """Syncs what was written on the page before."""
        if self._thread is None:
            thread = Thread(target=self._work, name="commands", daemon=True)
            thread.start()
            self._thread = thread  # one that could not be started takes nothing
        self._asked.put((page, then))

    async def now(self, page: Page) -> OSError | None:
        """Returns once what was written on the page before is on the disk, or with what the disk said instead."""
        loop = asyncio.get_running_loop()
        synced: asyncio.Future[OSError | None] = loop.create_future()
        self.ask(page, lambda error: loop.call_soon_threadsafe(_settle, synced, error))
        return await synced

    def soon(self, page: Page, lost: Lost) -> None:
        """Syncs the page after SOON_S, and with it what is written on it until then."""
        if page not in self._soon:
            loop = asyncio.get_running_loop()
            self._soon[page] = loop.call_later(SOON_S, self._begin, page, lost, loop)

    def _begin(self, page: Page, lost: Lost, loop: asyncio.AbstractEventLoop) -> None:
        del self._soon[page]
        if page not in self._due:  # else it is asked for, and not begun: it takes in what was written meanwhile
            self._due.add(page)
            self.ask(page, lambda error: error and loop.call_soon_threadsafe(lost, page, error))

    def close(self) -> list[tuple[Page, OSError]]:
        """Returns once what was asked for is done; gives what was to be synced soon and was not. Idempotent."""
        failures: list[tuple[Page, OSError]] = []

        def keep(error: OSError | None, page: Page) -> None:
            """In the thread."""
            if error is not None:
                failures.append((page, error))

        for page, timer in self._soon.items():
            timer.cancel()
            self.ask(page, partial(keep, page=page))
        self._soon.clear()
        if self._thread is not None:
            self._asked.put(None)
            self._thread.join()
            self._thread = None
        return failures

    def _work(self) -> None:
        while (asked := self._asked.get()) is not None:
            page, then = asked
            failure: OSError | None = None
            self._due.discard(page)  # what is written from now on is not in it
            self._since_s = self._now_s()
            try:
                page.sync()
            except OSError as error:
                failure = error
            self._since_s = None
            then(failure)


def _settle(synced: asyncio.Future[OSError | None], error: OSError | None) -> None:
    if not synced.done():  # else who waited was cancelled
        synced.set_result(error)
