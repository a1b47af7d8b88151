"""Takes tasks, of which each goes to one of the compute services, says that it has taken them, and answers them."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from random import Random
from typing import Any

from contracts.codec import ContractError
from contracts.v1.command import REPLY, ErrorCode, Failure, Reply
from contracts.v1.task import (
    CANCEL_TASK,
    COMPUTE_GROUP,
    TASK,
    CancelTask,
    Task,
    TaskReport,
    TaskStatus,
)
from plugins.api.clock import Clock
from services.compute.backend import BackendFull
from services.compute.computer import Computed, ComputeFailed, Computer, Wish
from services.compute.flights import Begun
from services.compute.workshop import Workshop
from services.runtime.bus.bus import Bus, BusError, BusUnavailable, Delivery
from services.runtime.commands.failure import NotOurs
from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.mqtt.delivery import NobodyListens
from services.runtime.retry import Backoff

TAKEN_AFTER_S = 0.1
"""When a task is said to be taken, unless it is done by then: what is done at once needs no two messages."""
MOST_TASKS = 512
"""Tasks that are here at the same time: computed, waiting for a worker, or for the result that another waits for."""
MOST_CANCELLED = 1000
"""Cancellations of tasks that are not here which are remembered: one may come before its task, or go to another."""
ANSWER_S = 30.0
"""How long it is tried to answer while the broker is away, or the asker, who comes back if the broker does."""
_CANCELLED = Failure(code=ErrorCode.CANCELLED, message="it was cancelled")
_CRASHED = Failure(code=ErrorCode.INTERNAL, message="the task crashed; the log says where")


class Desk:
    """A Part, and a source: it is stopped before the bus. drain_s: for how long its end waits for what is computed."""

    name = "desk"

    def __init__(
        self,
        *,
        instance: str,
        computer: Computer,
        workshop: Workshop,
        bus: Bus,
        drain_s: float,
        metrics: Metrics,
        clock: Clock,
        log: Log,
        random: Random,
    ) -> None:
        self._instance = instance
        self._computer = computer
        self._workshop = workshop
        self._bus = bus
        self._drain_s = drain_s
        self._metrics = metrics
        self._clock = clock
        self._log = log
        self._random = random
        self._here: dict[str, asyncio.Future[None]] = {}
        self._cancelled_before: OrderedDict[str, None] = OrderedDict()
        self._stopping = asyncio.Event()
        bus.serve(CANCEL_TASK, self._on_cancel)

    async def run(self) -> None:
        """Takes tasks from when the functions are loaded until stop(), and returns when those taken are answered."""
        loaded = asyncio.create_task(self._workshop.loaded.wait(), name="desk.loaded")
        stopping = asyncio.create_task(self._stopping.wait(), name="desk.stopping")
        try:
            await asyncio.wait((loaded, stopping), return_when=asyncio.FIRST_COMPLETED)
            if loaded.done():
                end = self._bus.exchange.share(
                    TASK, self._on_task, group=COMPUTE_GROUP, workers=MOST_TASKS, close_s=self._drain_s
                )
                await stopping
                await end()
        finally:
            loaded.cancel()
            stopping.cancel()

    async def stop(self) -> None:
        """Takes no more tasks."""
        self._stopping.set()

    @property
    def tasks(self) -> int:
        """Tasks that are here."""
        return len(self._here)

    async def _on_task(self, delivery: Delivery[Task]) -> None:
        task = delivery.payload
        if delivery.response_topic is None or REPLY.parse(delivery.response_topic) is None:
            self._metrics.dropped.labels("compute.tasks", "no_reply_topic").inc()
            return
        if task.task in self._here or len(self._here) >= MOST_TASKS - 1:
            await self._say(delivery, self._unavailable(task, "it has this task already, or too many"))
            return
        if task.task in self._cancelled_before:
            del self._cancelled_before[task.task]
            self._metrics.compute_tasks.labels(TaskStatus.CANCELLED.value).inc()
            await self._say(delivery, self._failed(task, _CANCELLED))
            return
        cancelled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._here[task.task] = cancelled
        report: TaskReport | None = self._failed(task, _CRASHED)
        try:
            report = await self._computed(delivery, cancelled)
        except asyncio.CancelledError:
            report = None
            raise
        finally:
            del self._here[task.task]
            if report is not None:
                self._metrics.compute_tasks.labels(report.state.value).inc()
                await self._say(delivery, report)

    async def _computed(self, delivery: Delivery[Task], cancelled: asyncio.Future[None]) -> TaskReport:
        """What is to be said of the task in the end; before, if it takes long, that it is taken."""
        begun = asyncio.Event()
        computing = asyncio.create_task(self._compute(delivery, begun.set), name=f"task.{delivery.payload.task}")
        ends = (computing, cancelled)
        try:
            done, _ = await asyncio.wait(ends, timeout=TAKEN_AFTER_S, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                await self._tell_taken(delivery, begun, ends)
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if computing.done():
                return computing.result()
            return self._failed(delivery.payload, _CANCELLED)
        finally:
            if not computing.done():
                computing.cancel()
                await asyncio.wait((computing,))

    async def _tell_taken(
        self, delivery: Delivery[Task], begun: asyncio.Event, ends: Iterable["asyncio.Future[Any]"]
    ) -> None:
        """Says so once it has begun, unless it has ended before."""
        beginning = asyncio.create_task(begun.wait(), name=f"task.{delivery.payload.task}.begun")
        try:
            await asyncio.wait((beginning, *ends), return_when=asyncio.FIRST_COMPLETED)
            if not any(end.done() for end in ends):
                await self._say(delivery, self._report(delivery.payload, TaskStatus.TAKEN))
        finally:
            beginning.cancel()

    async def _compute(self, delivery: Delivery[Task], begun: Begun) -> TaskReport:
        task = delivery.payload
        wish = Wish(
            function=task.function,
            inputs=task.inputs,
            until_s=self._until_s(delivery),
            begun=begun,
            version=task.version,
            most_age_s=task.cache_s,
        )
        try:
            return self._done(task, await self._computer.compute(wish, self._workshop.library))
        except BackendFull as error:
            return self._unavailable(task, str(error))
        except ComputeFailed as error:
            return self._failed(task, error.failure)

    def _until_s(self, delivery: Delivery[Task]) -> float:
        """By when, on our monotonic clock.

        The message's expiry, which the broker counts down, tells it to the second however the asker's clock goes; the
        deadline in the task tells which part of that second.
        """
        now_s, now_us = self._clock.monotonic(), self._clock.now_us()
        by_clock = now_s + delivery.payload.deadline / 1000 - now_us / 1e6
        if delivery.expiry_s is None:
            return by_clock
        latest = delivery.arrived_s + delivery.expiry_s
        return min(latest, max(latest - 1.0, by_clock))

    async def _say(self, delivery: Delivery[Task], report: TaskReport) -> None:
        try:
            await self._send(delivery, report)
        except ContractError as error:  # the worker bounds what it sends us, which is shorter than JSON
            message = f"{delivery.payload.function}: its outputs cannot be sent: {error}"
            failure = Failure(code=ErrorCode.COMPUTE_FAILED, message=message)
            await self._send(delivery, self._failed(delivery.payload, failure))

    async def _send(self, delivery: Delivery[Task], report: TaskReport) -> None:
        """Sends what came of a task again and again while the broker is away, or the asker at it.

        Raises ContractError.
        """
        ok = report.state in {TaskStatus.TAKEN, TaskStatus.DONE}
        reply = Reply(ok=ok, result=report.model_dump(mode="json"), error=report.error)
        backoff = Backoff(first_s=0.05, most_s=1.0, random=self._random)
        lasting = report.state in {TaskStatus.DONE, TaskStatus.FAILED}
        until_s = min(self._until_s(delivery), self._clock.monotonic() + ANSWER_S) if lasting else 0.0
        while True:
            try:
                await self._bus.exchange.reply(delivery, reply)
            except BusError as error:
                wait_s = backoff.next()
                passing = isinstance(error, BusUnavailable | NobodyListens)
                if passing and self._clock.monotonic() + wait_s < until_s:
                    await asyncio.sleep(wait_s)
                    continue
                self._log.warning("answer_lost", task=delivery.payload.task, error=str(error))
            return

    async def _on_cancel(self, delivery: Delivery[CancelTask]) -> TaskReport:
        cancelled = self._here.get(delivery.levels["id"])
        if cancelled is None:
            self._cancelled_before[delivery.levels["id"]] = None
            if len(self._cancelled_before) > MOST_CANCELLED:
                self._cancelled_before.popitem(last=False)
            raise NotOurs
        if not cancelled.done():
            cancelled.set_result(None)
        return TaskReport(task=delivery.levels["id"], state=TaskStatus.CANCELLED, instance=self._instance, attempt=1)

    def _done(self, task: Task, computed: Computed) -> TaskReport:
        result = computed.result
        return self._report(
            task, TaskStatus.DONE, outputs=result.outputs, seconds=result.seconds, cached=computed.cached or None
        )

    def _failed(self, task: Task, failure: Failure) -> TaskReport:
        state = TaskStatus.CANCELLED if failure.code is ErrorCode.CANCELLED else TaskStatus.FAILED
        return self._report(task, state, error=failure)

    def _unavailable(self, task: Task, why: str) -> TaskReport:
        failure = Failure(code=ErrorCode.UNAVAILABLE, message=f"{self._instance}: {why}")
        return self._report(task, TaskStatus.UNAVAILABLE, error=failure)

    def _report(
        self,
        task: Task,
        state: TaskStatus,
        *,
        outputs: Mapping[str, Any] | None = None,
        seconds: float | None = None,
        cached: bool | None = None,
        error: Failure | None = None,
    ) -> TaskReport:
        return TaskReport(
            task=task.task,
            state=state,
            instance=self._instance,
            attempt=task.attempt,
            outputs=None if outputs is None else dict(outputs),
            seconds=seconds,
            cached=cached,
            error=error,
        )
