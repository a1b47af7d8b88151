"""An open device at work: its groups polled in their slots, its subscriptions followed, questions answered between.

One task asks the device; only subscriptions run beside it. A group that fails while others answer is tried again after
growing waits, so that one dead unit does not hold up the others behind its timeouts.
"""

import asyncio
import math
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Protocol, cast

from plugins.api.clock import Clock
from plugins.api.driver import Device, DeviceError, DeviceSpec, GroupSpec, Reading, Subscribes
from services.gateway.schedule import Schedule
from services.runtime.retry import Backoff

MOST_QUESTIONS = 100


class Listener(Protocol):
    """Who is told what the device gave."""

    def on_reading(self, group: str, reading: Reading) -> None:
        """A poll or a subscription gave this. Raises DeviceError on what cannot be sent: the poll has then failed."""
        ...

    def on_failure(self, group: str, error: DeviceError) -> None:
        """A poll failed, though other groups answer."""
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
class _Question:
    groups: Sequence[str]
    answer: asyncio.Future[list[Reading]]


class Poller:
    """Works on one connection of one device.

    room: awaited before each poll of a group without interval, which would outrun whatever comes after it.
    backoff: makes the waits of a group that fails alone. subscribed: the groups that push.
    """

    def __init__(
        self,
        *,
        device: Device,
        spec: DeviceSpec,
        listener: Listener,
        room: Callable[[], Awaitable[None]],
        clock: Clock,
        backoff: Callable[[], Backoff],
    ) -> None:
        self._device = device
        self._listener = listener
        self._room = room
        self._clock = clock
        pushing = device if isinstance(device, Subscribes) else None
        self._pushing = [group for group in spec.groups if pushing and pushing.subscribes(group.name)]
        self.subscribed = frozenset(group.name for group in self._pushing)
        start = clock.monotonic()
        self._polled = [
            _Polled(group, Schedule(group.interval_s, start=start), backoff())
            for group in spec.groups
            if group.name not in self.subscribed
        ]
        self._questions: deque[_Question] = deque()
        self._asked = asyncio.Event()
        self._over = False

    @property
    def asked_hz(self) -> float:
        """Polls per second that the intervals ask for."""
        return sum(1 / polled.group.interval_s for polled in self._polled if polled.group.interval_s)

    async def run(self) -> None:
        """Works until the connection is lost: raises a group of exceptions with a DeviceError in it."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for group in self._pushing:
                    tasks.create_task(self._follow(group.name), name=f"subscription of {group.name}")
                await self._work()
        finally:
            self._over = True
            for question in self._questions:
                if not question.answer.done():
                    question.answer.set_exception(DeviceError("the connection was lost before the answer came"))
            self._questions.clear()

    async def ask(self, groups: Sequence[str]) -> list[Reading]:
        """Reads these groups between two polls. Raises DeviceError."""
        if self._over:
            raise DeviceError("the connection was lost")
        if len(self._questions) >= MOST_QUESTIONS:
            raise DeviceError(f"{MOST_QUESTIONS} reads wait for the device already", cause="busy")
        question = _Question(groups, asyncio.get_running_loop().create_future())
        self._questions.append(question)
        self._asked.set()
        return await question.answer

    async def _work(self) -> None:
        while True:
            polled = min(self._polled, key=lambda one: one.schedule.due, default=None)
            await self._wait(polled.schedule.due if polled else math.inf)
            if self._questions:
                await self._answer(self._questions[0])
                self._questions.popleft()  # not before: run() answers what is left if the connection is lost meanwhile
            if polled and polled.schedule.due <= self._clock.monotonic():
                await self._poll(polled)

    async def _wait(self, due: float) -> None:
        """Returns when that time has come or a question waits."""
        while not self._questions and (left := due - self._clock.monotonic()) > 0:
            self._asked.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left if left < math.inf else None):
                    await self._asked.wait()

    async def _poll(self, polled: _Polled) -> None:
        if not polled.group.interval_s:
            await self._room()
            await asyncio.sleep(0)  # a device that answers without waiting must not hold up the others
        begun = self._clock.monotonic()
        reading: Reading | None = None
        try:
            reading = await self._device.read(polled.group.name)
            self._listener.on_reading(polled.group.name, reading)
        except DeviceError as error:
            polled.failing = True
            self._ended(polled, None, begun)
            if not self.subscribed and all(one.failing for one in self._polled):
                raise
            polled.schedule.postpone(self._clock.monotonic() + polled.backoff.next())
            self._listener.on_failure(polled.group.name, error)
            return
        if polled.failing:
            polled.failing = False
            polled.backoff.reset()
        self._ended(polled, reading, begun)

    def _ended(self, polled: _Polled, reading: Reading | None, begun: float) -> None:
        now = self._clock.monotonic()
        self._listener.on_poll(reading, seconds=now - begun, overruns=polled.schedule.done(now))

    async def _answer(self, question: _Question) -> None:
        if question.answer.done():
            return  # who asked has given up
        try:
            readings = [await self._device.read(group) for group in question.groups]
        except DeviceError as error:
            if not question.answer.done():
                question.answer.set_exception(error)
            return
        if not question.answer.done():
            question.answer.set_result(readings)

    async def _follow(self, group: str) -> None:
        pushing = cast("Subscribes", self._device)
        async with aclosing(cast("AsyncGenerator[Reading, None]", pushing.subscribe(group))) as readings:
            async for reading in readings:
                self._listener.on_reading(group, reading)
        raise DeviceError(f"the subscription of {group} has ended")
