"""From the thread in which messages arrive to the event loop in which they are consumed."""

import asyncio
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
        self._items: deque[T] = deque(maxlen=most)
        self._most = most
        self._enough = asyncio.Event()
        self._wanted = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: T) -> bool:
        """From the other thread: takes an item in. False if the oldest was given up for it."""
        room = len(self._items) < self._most
        self._items.append(item)
        wanted = self._wanted
        if wanted and len(self._items) >= wanted and self._loop is not None:
            self._wanted = 0
            self._loop.call_soon_threadsafe(self._enough.set)
        return room

    def clear(self) -> None:
        """From the other thread: forgets what is here."""
        self._items.clear()

    async def wait(self, count: int) -> None:
        """Returns when there are at least `count` items. Raises ArrivalsClosed."""
        self._loop = asyncio.get_running_loop()
        while len(self._items) < count and not self._closed:
            self._enough.clear()
            self._wanted = min(count, self._most)
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
        return taken

    def close(self) -> None:
        """Gives nothing more out, and says so to who waits."""
        self._closed = True
        self._enough.set()
