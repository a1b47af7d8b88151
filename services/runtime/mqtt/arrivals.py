"""From the thread in which messages arrive to the event loop in which they are consumed."""

import asyncio
import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class ArrivalsClosed(Exception):
    """Nothing more is given out."""


class Arrivals(Generic[T]):
    """A bounded buffer that one other thread fills and one task of the event loop empties.

    The thread wakes the loop only when the task waits and there is as much as it waits for: to wake it for each message
    would cost both of them more than the message.
    """

    def __init__(self, *, most: int) -> None:
        self._items: deque[T] = deque()
        self._most = most
        self._room = threading.Event()
        self._enough = asyncio.Event()
        self._wanted = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: T, *, patience_s: float) -> bool:
        """From the other thread: takes an item in, once there is room. False if there was none within patience_s."""
        if len(self._items) >= self._most and not self._wait_for_room(patience_s):
            return False
        self._items.append(item)
        wanted = self._wanted
        if wanted and len(self._items) >= wanted and self._loop is not None:
            self._wanted = 0
            self._loop.call_soon_threadsafe(self._enough.set)
        return True

    def clear(self) -> None:
        """From the other thread: forgets what is here."""
        self._items.clear()

    async def wait(self, count: int) -> None:
        """Returns when there are at least `count` items, or as many as fit. Raises ArrivalsClosed."""
        self._loop = asyncio.get_running_loop()
        count = min(count, self._most)
        while len(self._items) < count and not self._closed:
            self._enough.clear()
            self._wanted = count
            if len(self._items) < count:  # looked at again: the thread may not have seen that we want something
                await self._enough.wait()
        if self._closed:
            raise ArrivalsClosed

    def take(self, most: int) -> list[T]:
        """What is here, oldest first, at most `most`."""
        taken: list[T] = []
        while self._items and len(taken) < most:
            try:
                taken.append(self._items.popleft())
            except IndexError:  # the thread has cleared it in between
                break
        self._room.set()
        return taken

    def close(self) -> None:
        """Gives nothing more out, and says so to who waits."""
        self._closed = True
        self._enough.set()
        self._room.set()

    def _wait_for_room(self, patience_s: float) -> bool:
        self._room.clear()
        if len(self._items) >= self._most and not self._closed:  # looked at again: some may have been taken just now
            self._room.wait(patience_s)
        return len(self._items) < self._most
