"""A queue that never grows without bound and counts what it could not take."""

import asyncio
from collections import deque
from typing import Generic, Literal, TypeVar

from services.runtime.metrics import Metrics

T = TypeVar("T")

Overflow = Literal["block", "drop_oldest", "refuse"]


class QueueClosed(Exception):
    """The queue takes nothing more, or holds nothing more to give."""


class BoundedQueue(Generic[T]):
    """A first-in first-out queue of at most `size` items, for the tasks of one event loop.

    overflow says what happens to an item that finds the queue full: `block` makes put() wait, `drop_oldest` gives up
    the oldest item for it, `refuse` gives up the new one. What is given up is counted in metrics.dropped.
    """

    def __init__(self, *, name: str, size: int, overflow: Overflow, metrics: Metrics) -> None:
        if size < 1:
            raise ValueError(f"queue {name}: size must be at least 1, not {size}")
        self.name = name
        self._size = size
        self._overflow = overflow
        self._items: deque[T] = deque()
        self._filled = asyncio.Event()
        self._freed = asyncio.Event()
        self._closed = False
        self._drops = metrics.dropped.labels(name, "oldest" if overflow == "drop_oldest" else "full")
        metrics.watch_depth(name, self._items)

    def __len__(self) -> int:
        return len(self._items)

    async def put(self, item: T) -> bool:
        """Adds the item; waits for room if overflow is `block`. False if the item was given up (`refuse`).

        Raises QueueClosed.
        """
        while self._overflow == "block" and len(self._items) >= self._size and not self._closed:
            self._freed.clear()
            await self._freed.wait()
        return self.put_nowait(item)

    def put_nowait(self, item: T) -> bool:
        """Adds the item without waiting. False if there was no room for it (`block`, `refuse`): it is then counted.

        Raises QueueClosed.
        """
        if self._closed:
            raise QueueClosed(self.name)
        if len(self._items) >= self._size:
            self._drops.inc()
            if self._overflow != "drop_oldest":
                return False
            self._items.popleft()
        self._items.append(item)
        self._filled.set()
        return True

    async def get(self) -> T:
        """The oldest item; waits for one. Raises QueueClosed once the queue is closed and empty."""
        await self._wait_filled()
        item = self._items.popleft()
        self._freed.set()
        return item

    def close(self) -> None:
        """Takes nothing more; what is there can still be got. Idempotent."""
        self._closed = True
        self._filled.set()
        self._freed.set()

    async def drain(self) -> None:
        """Returns once every item has been got. What the consumer then does with them is its own affair."""
        while self._items:
            self._freed.clear()
            await self._freed.wait()

    async def _wait_filled(self) -> None:
        while not self._items:
            if self._closed:
                raise QueueClosed(self.name)
            self._filled.clear()
            await self._filled.wait()
