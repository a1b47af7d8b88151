"""The groups of a device that fail together, polled one after the other; questions are answered between the polls.

One task works on a lane, so its groups never wait for those of another. A group that fails while others answer is tried
again after growing waits, which stay short where there is no answer. Where one gets none the next is asked at once;
where that gets none either, nothing of the lane reads good any more, however long the others' intervals. Failures in a
row open the lane's circuit: then one group probes it, after such waits too, and when it answers all are due at once.
"""

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from contracts.v1.device import Circuit
from plugins.api.clock import Clock
from plugins.api.driver import Device, DeviceError, GroupSpec, Reading
from services.gateway.schedule import Schedule
from services.runtime.breaker import Breaker
from services.runtime.retry import Backoff

MOST_QUESTIONS = 100
SILENCE = "comm"
"""The cause of a DeviceError that says that there was no answer."""
_HEAD_START = 2
"""Turns of the event loop: in the first, who asked goes on, and in the second, what it has then sent goes out."""
R = TypeVar("R")


class Listener(Protocol):
    """Who is told what the device gave."""

    def on_reading(self, group: str, reading: Reading) -> None:
        """A poll or a subscription gave this. Raises DeviceError on what cannot be sent: the poll has then failed."""
        ...

    def on_failure(self, group: str, error: DeviceError) -> None:
        """A poll failed, or must be taken to fail, though other groups answer."""
        ...

    def on_poll(self, reading: Reading | None, *, seconds: float, overruns: int) -> None:
        """A poll has ended; reading is None if it failed. overruns: slots of the group that it cost."""
        ...


@dataclass(slots=True)
class _Polled:
    group: GroupSpec
    schedule: Schedule
    backoff: Backoff
    failing: bool = False


@dataclass(frozen=True, slots=True)
class _Question(Generic[R]):
    work: Callable[[], Awaitable[R]]
    then: Callable[[], None] | None
    answer: asyncio.Future[R] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Lane:
    """Works on the groups that one part of the device answers for.

    room: awaited before each poll of a group without interval, which would outrun whatever comes after it.
    quiet: entered for each other poll and each question, so that they do not wait for what is less urgent.
    backoff: makes the waits of a group that fails, and of the lane. lost: whether nothing of the device answers.
    """

    def __init__(
        self,
        *,
        device: Device,
        listener: Listener,
        room: Callable[[], Awaitable[None]],
        quiet: Callable[[], AbstractContextManager[None]],
        clock: Clock,
        backoff: Callable[[], Backoff],
        lost: Callable[[], bool],
    ) -> None:
        self._device = device
        self._listener = listener
        self._room = room
        self._quiet = quiet
        self._clock = clock
        self._lost = lost
        self._backoff = backoff
        self._polled: list[_Polled] = []
        self._breaker = Breaker(backoff=backoff())
        self._questions: deque[_Question[Any]] = deque()
        self._asked = asyncio.Event()
        self._at_work = asyncio.Lock()
        self._over = False

    @property
    def asked_hz(self) -> float:
        """Polls per second that the intervals ask for."""
        return sum(1 / polled.group.interval_s for polled in self._polled if polled.group.interval_s)

    @property
    def failing(self) -> bool:
        """Whether the last poll of every group failed."""
        return all(polled.failing for polled in self._polled)

    @property
    def circuit(self) -> Circuit:
        """Of this lane alone."""
        return self._breaker.state

    async def run(self) -> None:
        """Works until nothing of the device answers: raises the last DeviceError."""
        try:
            while True:
                await self._wait()
                async with self._at_work:
                    if self._questions:
                        await self._answer(self._questions[0])
                        self._questions.popleft()  # not before: whatever is left when this ends is answered below
                    polled = self._next()
                    if polled and polled.schedule.due <= self._clock.monotonic():
                        await self._poll(polled)
        finally:
            self._over = True
            for question in self._questions:
                if not question.answer.done():
                    question.answer.set_exception(DeviceError("the connection was lost before the answer came"))
            self._questions.clear()

    def take(self, group: GroupSpec) -> None:
        """Polls this group too, from now on: where the circuit is open, it is the next probe."""
        now = self._clock.monotonic()
        self._polled.append(_Polled(group, Schedule(group.interval_s, start=now), self._backoff()))
        if self._breaker.state is not Circuit.CLOSED:
            self._breaker.retry_at = now
        self._asked.set()

    async def leave(self, groups: Collection[str]) -> None:
        """Polls these groups no more. Returns when what is being asked of the device, for whatever group, is done."""
        self._polled = [one for one in self._polled if one.group.name not in groups]
        async with self._at_work:
            return

    async def ask(self, work: Callable[[], Awaitable[R]], then: Callable[[], None] | None = None) -> R:
        """Does this work on the device between two polls, and gives its result. Raises DeviceError.

        then: is called before the next poll, once who asked has gone on with the result.
        """
        if self._over:
            raise DeviceError("the connection was lost")
        if len(self._questions) >= MOST_QUESTIONS:
            raise DeviceError(f"{MOST_QUESTIONS} requests wait for the device already", cause="busy")
        question = _Question(work, then)
        self._questions.append(question)
        self._asked.set()
        return await question.answer

    def _next(self) -> _Polled | None:
        return min(self._polled, key=lambda one: one.schedule.due, default=None)

    async def _wait(self) -> None:
        """Returns when a poll is due or a question waits."""
        while not self._questions:
            polled = self._next()
            left = polled.schedule.due - self._clock.monotonic() if polled else math.inf
            if left <= 0:
                return
            self._asked.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left if left < math.inf else None):
                    await self._asked.wait()

    async def _poll(self, polled: _Polled) -> None:
        if not polled.group.interval_s:
            await self._room()
            await asyncio.sleep(0)  # a device that answers without waiting must not hold up the others
        begun = self._clock.monotonic()
        if not self._breaker.may_try(begun):
            self._postpone()
            return
        reading: Reading | None = None
        try:
            reading = await self._read(polled.group)
            self._listener.on_reading(polled.group.name, reading)
        except DeviceError as error:
            self._ended(polled, None, begun)
            self._failed(polled, error)
            return
        if polled.failing:
            polled.failing = False
            polled.backoff.reset()
        if self._breaker.failures:
            self._answered()
        self._ended(polled, reading, begun)

    async def _read(self, group: GroupSpec) -> Reading:
        if not group.interval_s:
            return await self._device.read(group.name)
        with self._quiet():
            return await self._device.read(group.name)

    def _failed(self, polled: _Polled, error: DeviceError) -> None:
        now = self._clock.monotonic()
        silent = error.cause == SILENCE
        self._breaker.on_failure(now, silent=silent)
        polled.failing = True
        failed = [polled, *self._doubted(now)] if silent else [polled]
        for one in failed:
            one.failing = True
        if error.lost or self._lost():
            raise error
        for one in failed:
            one.schedule.postpone(now + one.backoff.next(silent=silent))
        if self._breaker.state is not Circuit.CLOSED:
            self._postpone()
        for one in failed:
            self._listener.on_failure(one.group.name, error)

    def _doubted(self, now: float) -> list[_Polled]:
        """The other groups, if this is not the first failure in a row; if it is, the next of them is due now."""
        others = [one for one in self._polled if not one.failing]
        if self._breaker.failures > 1:
            return others
        if others:
            min(others, key=lambda one: one.schedule.due).schedule.hasten(now)
        return []

    def _postpone(self) -> None:
        """Nothing is due before the circuit's next probe, and everything then: the first one is the probe."""
        for polled in self._polled:
            polled.schedule.postpone(self._breaker.retry_at)
            polled.schedule.resume(self._breaker.retry_at)

    def _answered(self) -> None:
        """What was taken to be silent with the rest is due now: its own next slot might be in an hour."""
        if self._breaker.failures > 1:
            for polled in self._polled:
                if polled.failing:
                    polled.schedule.hasten(self._clock.monotonic())
        self._breaker.on_success()

    def _ended(self, polled: _Polled, reading: Reading | None, begun: float) -> None:
        now = self._clock.monotonic()
        self._listener.on_poll(reading, seconds=now - begun, overruns=polled.schedule.done(now))

    async def _answer(self, question: _Question[R]) -> None:
        if question.answer.done():
            return  # who asked has given up
        try:
            with self._quiet():
                result = await question.work()
        except DeviceError as error:
            if error.cause == "comm":
                self._look_now()
            if not question.answer.done():
                question.answer.set_exception(error)
            return
        if not question.answer.done():
            question.answer.set_result(result)
        if question.then is not None:
            for _ in range(_HEAD_START):
                await asyncio.sleep(0)
            question.then()

    def _look_now(self) -> None:
        """The device may be away, which only a poll can tell; the next one might be due in an hour."""
        for polled in self._polled:
            if not polled.failing:
                polled.schedule.hasten(self._clock.monotonic())
