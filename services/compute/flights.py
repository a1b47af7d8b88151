"""Single flight: what is asked several times at the same time is computed once."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Begun = Callable[[], None]
Compute = Callable[[Begun], Coroutine[Any, Any, T]]


class Flight(Generic[T]):
    """One computation, for all who wait for it."""

    def __init__(self, compute: Compute[T]) -> None:
        self._begun = False
        self._to_tell: list[Begun] = []
        self._waiting = 0
        self._task = asyncio.create_task(compute(self._begin), name="flight")
        self._task.add_done_callback(_look_at)

    @property
    def over(self) -> bool:
        """Whether nobody can join any more."""
        return self._task.done() or self._task.cancelling() > 0

    async def join(self, begun: Begun) -> T:
        """What comes of it; `begun` is called once it has a worker. It is cancelled when nobody waits any more."""
        self._waiting += 1
        if self._begun:
            begun()
        else:
            self._to_tell.append(begun)
        try:
            return await asyncio.shield(self._task)
        finally:
            self._waiting -= 1
            if not self._waiting and not self._task.done():
                self._task.cancel()
                with suppress(asyncio.CancelledError):
                    await self._task

    def _begin(self) -> None:
        """It has a worker."""
        self._begun = True
        for begun in self._to_tell:
            begun()
        self._to_tell.clear()


class Flights(Generic[T]):
    """The flights that are under way, by key."""

    def __init__(self) -> None:
        self._flights: dict[bytes, Flight[T]] = {}

    async def share(self, key: bytes, compute: Compute[T], begun: Begun) -> T:
        """What `compute` gives, called anew unless it is under way under this key. Raises what it raises."""
        flight = self._flights.get(key)
        if flight is None or flight.over:
            flight = self._flights[key] = Flight(compute)
        try:
            return await flight.join(begun)
        finally:
            if flight.over and self._flights.get(key) is flight:
                del self._flights[key]


def _look_at(task: "asyncio.Task[Any]") -> None:
    """What a flight has raised counts as looked at, should nobody wait for it any more."""
    if not task.cancelled():
        task.exception()
