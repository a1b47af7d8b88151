"""The life of a service: its parts start, work, drain in the order of the data's way, and end by a deadline.

A part is a piece with a life of its own. Sources (pollers, intakes) come before sinks (writers, the bus): a stop asks
the first source, waits until it has drained, then asks the next, so that nothing in between is lost.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from random import Random
from typing import Any, Protocol, Self

from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.retry import Backoff

_GRACE = 0.75
"""The share of the deadline that parts have to drain; the rest is for what cancelled parts must still put away."""

_HEALTHY_S = 60.0
"""A child that ran this long before it crashed is restarted as soon as one that never crashed."""


class Part(Protocol):
    """A piece of a service with a life of its own."""

    @property
    def name(self) -> str:
        """Names the part in logs."""
        ...

    async def run(self) -> None:
        """Works until stop() has been called and the work is drained, then returns."""
        ...

    async def stop(self) -> None:
        """Asks for a graceful end: a source takes nothing new, a sink finishes what it has."""
        ...


async def run_service(*, parts: Sequence[Part], drain_s: float, log: Log) -> int:
    """Runs the parts until SIGTERM or SIGINT, or until one of them ends by itself; then stops them all.

    parts: sources first, sinks last; they are started in the opposite order. drain_s: seconds from the signal to the
    end: parts that have not drained after three quarters of it, or at a second signal, are cancelled.
    Returns the exit code: 0 after a clean stop, 1 if a part crashed, ended unasked or had to be cancelled.
    """
    with _Signals() as signals:
        life = _Life(parts, log=log)
        try:
            await asyncio.wait([signals.first, *life.tasks], return_when=asyncio.FIRST_COMPLETED)
            log.info("service_stopping", reason=signals.received or "a part ended", drain_s=drain_s)
            await life.drain(grace_s=drain_s * _GRACE, hasten=signals.second)
        finally:
            clean = await life.end(most_s=drain_s * (1 - _GRACE))
    log.info("service_stopped", exit_code=0 if clean else 1)
    return 0 if clean else 1


class _Life:
    """The parts of a service while they run, drain and end."""

    def __init__(self, parts: Sequence[Part], *, log: Log) -> None:
        self._log = log
        self._clean = True
        self._asked: set[str] = set()
        started = [(part, self._start(part.run(), part.name)) for part in reversed(parts)]
        self._running = started[::-1]
        self.tasks = [task for _, task in self._running]
        log.info("service_started", parts=[part.name for part in parts])

    async def drain(self, *, grace_s: float, hasten: asyncio.Future[None]) -> None:
        """Stops part after part, each once the one before has drained; gives up at the end of the grace."""
        loop = asyncio.get_running_loop()
        until = loop.time() + grace_s
        for part, task in self._running:
            begun = loop.time()
            self._asked.add(part.name)
            waiting = {task}
            if not task.done():
                stopping = self._start(part.stop(), f"{part.name}.stop")
                self._asked.add(stopping.get_name())
                self.tasks.append(stopping)
                waiting.add(stopping)
            while waiting := {task for task in waiting if not task.done()}:
                if hasten.done() or loop.time() >= until:
                    reason = "second signal" if hasten.done() else "deadline"
                    self._log.warning("drain_cut_short", part=part.name, reason=reason)
                    return
                await asyncio.wait([*waiting, hasten], timeout=until - loop.time(), return_when=asyncio.FIRST_COMPLETED)
            self._log.info("part_drained", part=part.name, seconds=round(loop.time() - begun, 3))

    async def end(self, *, most_s: float) -> bool:
        """Cancels what still runs and says whether nothing did and nothing had failed."""
        left = [task for task in self.tasks if not task.done()]
        for task in left:
            self._log.error("part_cancelled", part=task.get_name())
            self._asked.add(task.get_name())
            task.cancel()
        if left:
            _, stuck = await asyncio.wait(left, timeout=most_s)
            for task in stuck:
                self._log.error("part_stuck", part=task.get_name())
        return self._clean and not left

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._on_end)
        return task

    def _on_end(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._clean = False
            self._log.error("part_crashed", part=task.get_name(), exc_info=error)
        elif task.get_name() not in self._asked:
            self._clean = False
            self._log.error("part_ended_unasked", part=task.get_name())


class _Signals:
    """SIGTERM and SIGINT as futures: the first asks for the end, the second hastens it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.first: asyncio.Future[None] = self._loop.create_future()
        self.second: asyncio.Future[None] = self._loop.create_future()
        self.received: str | None = None

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._on, number)
        return self

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.remove_signal_handler(number)

    def _on(self, number: signal.Signals) -> None:
        self.received = self.received or number.name
        for event in (self.first, self.second):
            if not event.done():
                event.set_result(None)
                return


class Supervisor:
    """Keeps children running: one that crashes is restarted after a growing wait, and no other notices. A Part.

    This is the one place that takes any exception: what is not foreseen below it is a bug, is logged with its
    traceback and counted, and costs that child alone.
    """

    name = "supervisor"

    def __init__(
        self, *, log: Log, metrics: Metrics, first_s: float = 1.0, again_s: float = 10.0, random: Random | None = None
    ) -> None:
        """first_s: seconds until the first restart of a child. again_s: until who does not end is cancelled again."""
        self._log = log
        self._metrics = metrics
        self._first_s = first_s
        self._again_s = again_s
        self._random = random or Random()  # noqa: S311 - it only spreads restarts
        self._wanted: dict[str, Callable[[], Awaitable[None]]] = {}
        self._children: dict[str, asyncio.Task[None]] = {}
        self._running = False
        self._stopping = asyncio.Event()

    def keep(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Keeps `run` running until it returns, is dropped, or the supervisor stops. Starts with the supervisor.

        A child ends by cancellation: what it must put away it puts away in its own `finally`.
        """
        if name in self._wanted:
            raise ValueError(f"a child named {name} is kept already")
        self._wanted[name] = run
        if self._running:
            self._start(name)

    async def drop(self, name: str) -> None:
        """Cancels the child and returns when it has ended. One that is unknown or has ended is none to drop."""
        self._wanted.pop(name, None)
        child = self._children.get(name)
        if child is not None:
            await self._cancel({child})

    async def run(self) -> None:
        """Runs the children until stop()."""
        self._running = True
        for name in self._wanted:
            self._start(name)
        try:
            await self._stopping.wait()
        finally:
            self._running = False
            await self._end()

    async def stop(self) -> None:
        """Ends the children, all at the same time."""
        self._stopping.set()

    async def _end(self) -> None:
        await self._cancel(set(self._children.values()))

    async def _cancel(self, children: set[asyncio.Task[None]]) -> None:
        """Returns when they have ended. A library, or a group of tasks that fails then, may lose a cancellation."""
        while children:
            for child in children:
                child.cancel()
            _, children = await asyncio.wait(children, timeout=self._again_s)

    def _start(self, name: str) -> None:
        child = asyncio.create_task(self._guard(name, self._wanted[name]), name=name)
        self._children[name] = child
        child.add_done_callback(lambda _: self._forget(name, child))

    def _forget(self, name: str, child: asyncio.Task[None]) -> None:
        if self._children.get(name) is child:
            del self._children[name]
            self._wanted.pop(name, None)

    async def _guard(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        backoff = Backoff(first_s=self._first_s, random=self._random)
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            try:
                await run()
            except asyncio.CancelledError:
                # Asked for by drop() or the end; or by nobody: a library let one escape, which is a crash as any other.
                if self._is_over(name):
                    raise
                await self._pause(name, backoff, lived_s=loop.time() - begun)
            except Exception:  # noqa: BLE001 - see the class
                await self._pause(name, backoff, lived_s=loop.time() - begun)
            else:
                return

    async def _pause(self, name: str, backoff: Backoff, *, lived_s: float) -> None:
        """Tells of the crash that is being handled, and waits before the next life, if there is to be one."""
        if lived_s >= _HEALTHY_S:
            backoff.reset()
        wait_s = backoff.next()
        self._metrics.crashes.labels(name).inc()
        self._log.exception("child_crashed", child=name, restart_in_s=round(wait_s, 3))
        if self._is_over(name):
            raise asyncio.CancelledError  # it crashed at its end, or in the moment in which that was asked for
        await asyncio.sleep(wait_s)
        task = asyncio.current_task()
        while task is not None and task.uncancel():  # a failed group has left them: see Poller.run
            pass

    def _is_over(self, name: str) -> bool:
        """Whether the child is to end. Its task cannot tell: a group of tasks that fails adds to its cancelling()."""
        return name not in self._wanted or not self._running
