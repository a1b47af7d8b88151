"""A thread that brings pages of the command book to the disk.

With a queue of its own: to hand a page to an executor's thread, and to be told by its future, took a tenth of a write.
"""

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread

from services.runtime.commands.page import Page

Then = Callable[[OSError | None], object]
"""Is called in the thread once the page is on the disk, or with what the disk said instead."""


class Syncs:
    """Pages that are synced one after the other, in the order of asking."""

    def __init__(self) -> None:
        # No longer than there are commands at work, which the bus bounds.
        self._asked: SimpleQueue[tuple[Page, Then] | None] = SimpleQueue()
        self._thread: Thread | None = None

    def ask(self, page: Page, then: Then) -> None:
        """Syncs what was written on the page before."""
        if self._thread is None:
            thread = Thread(target=self._work, name="commands", daemon=True)
            thread.start()
            self._thread = thread  # one that could not be started takes nothing
        self._asked.put((page, then))

    def close(self) -> None:
        """Returns once what was asked for is done. Idempotent."""
        if self._thread is not None:
            self._asked.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        while (asked := self._asked.get()) is not None:
            page, then = asked
            failure: OSError | None = None
            try:
                page.sync()
            except OSError as error:
                failure = error
            then(failure)
