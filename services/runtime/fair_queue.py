"""A queue that several share: none of them keeps the others waiting with what he has put in."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import ref

from services.runtime.metrics import Metrics
from services.runtime.queue import QueueClosed

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Holds at most `size` items, for the tasks of one event loop; gives one of each owner in turn, his oldest first.

    owner: of an item. given_up: is called with what finds no room, and does not wait: of a full queue whoever has most
    in it gives up his newest; where each has one, who has come last. It is counted in metrics.dropped.
    """

    def __init__(
        self,
        *,
        name: str,
        size: int,
        owner: Callable[[T], str],
        given_up: Callable[[T], None],
        metrics: Metrics,
    ) -> None:
        if size < 1:
            raise ValueError(f"queue {name}: size must be at least 1, not {size}")
        self.name = name
        self._size = size
        self._owner = owner
        self._given_up = given_up
        self._items: OrderedDict[str, deque[T]] = OrderedDict()  # by owner, whose turn is next first
        self._count = 0
        self._filled = asyncio.Event()
        self._closed = False
        self._drops = metrics.dropped.labels(name, "full")
        # The registry outlives the queue and must not keep its items alive.
        queue = ref(self)
        metrics.queue_depth.labels(name).set_function(lambda: float(len(queue() or ())))

    def __len__(self) -> int:
        return self._count

    def put_nowait(self, item: T) -> bool:
        """Adds the item without waiting. False if it is the one that was given up. Raises QueueClosed."""
        if self._closed:
            raise QueueClosed(self.name)
        owner = self._owner(item)
        own = self._items.get(owner)
        if self._count >= self._size:
            self._drops.inc()
            longest = max(self._items.values(), key=len)
            if len(own or ()) >= len(longest) or len(longest) == 1:  # nobody has more than the one that he may have
                self._given_up(item)
                return False
            self._given_up(longest.pop())
            self._count -= 1
        if own is None:
            own = self._items[owner] = deque()
        own.append(item)
        self._count += 1
        self._filled.set()
        return True

    async def get(self) -> T:
        """The oldest item of who is next; waits for one. Raises QueueClosed once the queue is closed and empty."""
        while not self._count:
            if self._closed:
                raise QueueClosed(self.name)
            self._filled.clear()
            await self._filled.wait()
        owner, own = next(iter(self._items.items()))
        item = own.popleft()
        self._count -= 1
        if own:
            self._items.move_to_end(owner)
        else:
            del self._items[owner]
        return item

    def close(self) -> None:
        """Takes nothing more; what is there can still be got. Idempotent."""
        self._closed = True
        self._filled.set()
