"""The asking side of compute: sends a function's inputs to whichever compute service takes them, and gets the outputs.

However a service ends, what was asked of it is asked of another or answered with an error: nothing is lost in silence.
"""

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from random import Random

from pydantic import JsonValue

from contracts.codec import ContractError
from contracts.v1.command import ErrorCode, Failure, Reply
from contracts.v1.function import FunctionInfo
from contracts.v1.service import SERVICE, ServiceState, ServiceStatus
from contracts.v1.task import CANCEL_TASK, TAKEN_WITHIN_S, TASK, CancelTask, Task, TaskReport, TaskStatus
from plugins.api.clock import Clock
from plugins.api.ports import check_inputs, check_outputs
from services.orchestrator.errors import NodeFailed
from services.orchestrator.run.plan import Values
from services.runtime.bus.bus import Bus, BusError, BusUnavailable, Delivery
from services.runtime.commands.request import Conversation
from services.runtime.identifier import uuid7
from services.runtime.logs import Log
from services.runtime.mqtt.delivery import NobodyListens
from services.runtime.retry import Backoff

COMPUTE = "compute"
GRACE_S = 1.0
"""How long after its deadline a task's answer may still come: whoever computes it ends it then, and says so."""
NOBODY_S = 5.0
"""For how long it is tried again while no compute service is there for it: one that is started anew is back by then."""
CANCEL_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """What a function gave. seconds: of execution. cached: it was known already. instance: who answered.

    attempts: how often it was asked for.
    """

    outputs: Values
    seconds: float
    cached: bool
    instance: str
    attempts: int


class _Again(Exception):
    """Nobody has begun it, or whoever did has died and it may be done twice. nobody: no service may have it."""

    def __init__(self, failure: Failure, *, nobody: bool = False) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.nobody = nobody


class Dispatcher:
    """user: as whom the bus is logged in. functions: what is known of a function; of one that is unknown nothing is
    checked here, and it is not taken for pure. most: tasks under way at the same time; more wait here. presence: of the
    compute services, by instance.
    """

    def __init__(
        self,
        *,
        bus: Bus,
        user: str,
        functions: Callable[[str], FunctionInfo | None],
        most: int = 256,
        clock: Clock,
        log: Log,
        random: Random,
    ) -> None:
        self._bus = bus
        self._functions = functions
        self._user = user
        self._places = asyncio.Semaphore(most)
        self._clock = clock
        self._log = log
        self._random = random
        self.presence: dict[str, ServiceState] = {}
        self._taken: defaultdict[str, set[asyncio.Future[None]]] = defaultdict(set)
        bus.subscribe(SERVICE, self._on_service, service=COMPUTE)

    async def run(
        self, function: str, inputs: Mapping[str, JsonValue], *, timeout_s: float, version: str | None = None
    ) -> Values:
        """As compute(), and gives the outputs alone."""
        return (await self.compute(function, inputs, timeout_s=timeout_s, version=version)).outputs

    async def compute(
        self,
        function: str,
        inputs: Mapping[str, JsonValue],
        *,
        timeout_s: float,
        version: str | None = None,
        cache_s: float | None = None,
    ) -> Computed:
        """What the function gives within timeout_s. Cancelled, it stops the work at the compute service too.

        cache_s: how old a result may be that was computed before; None: as the service is set up. Raises NodeFailed.
        """
        info = self._functions(function)
        if info is not None and (faults := check_inputs(info.inputs, inputs)):
            raise _failed(ErrorCode.INVALID, f"{function}: {'; '.join(faults)}")
        now_us, until_s = self._clock.now_us(), self._clock.monotonic() + timeout_s
        task = Task(
            task=f"t{uuid7(now_us, self._random).hex}",
            function=function,
            version=version,
            inputs=dict(inputs),
            attempt=1,
            deadline=now_us // 1000 + round(timeout_s * 1000),
            cache_s=cache_s,
        )
        try:
            async with asyncio.timeout(timeout_s + GRACE_S), self._places:
                computed = await self._tried(task, until_s, pure=info is not None and info.pure is not False)
        except TimeoutError:
            raise _failed(ErrorCode.TIMEOUT, f"{function}: no answer within {timeout_s:g} s") from None
        except ContractError as error:
            raise _failed(ErrorCode.INVALID, str(error)) from error
        if info is not None and (faults := check_outputs(info.outputs, computed.outputs)):
            raise _failed(ErrorCode.COMPUTE_FAILED, f"{function}: {'; '.join(faults)}")
        return computed

    async def _tried(self, task: Task, until_s: float, *, pure: bool) -> Computed:
        """Tries until somebody computes it."""
        backoff = Backoff(first_s=0.02, most_s=1.0, jitter=0.5, random=self._random)
        nobody_s: float | None = None  # since when nobody may have it
        while True:
            try:
                return await self._tried_once(task, until_s - self._clock.monotonic(), pure=pure)
            except _Again as again:
                wait_s, now_s = backoff.next(), self._clock.monotonic()
                nobody_s = (now_s if nobody_s is None else nobody_s) if again.nobody else None
                if now_s + wait_s >= until_s or (nobody_s is not None and now_s - nobody_s > NOBODY_S):
                    raise NodeFailed(again.failure) from again
                self._log.info(
                    "task_again", task=task.task, function=task.function, attempt=task.attempt, why=str(again)
                )
                await asyncio.sleep(wait_s)
                task = task.model_copy(update={"attempt": task.attempt + 1})

    async def _tried_once(self, task: Task, left_s: float, *, pure: bool) -> Computed:
        """As _attempt(). Of several services one may lack what another has: it has refused the plugin, for example."""
        try:
            return await self._attempt(task, left_s, pure=pure)
        except NodeFailed as failed:
            several = sum(state.state is not ServiceStatus.OFFLINE for state in self.presence.values()) > 1
            lacking = failed.failure.code is ErrorCode.NOT_FOUND and self._functions(task.function) is not None
            if not (several and lacking):
                raise
            raise _Again(failed.failure, nobody=True) from failed

    async def _attempt(self, task: Task, left_s: float, *, pure: bool) -> Computed:
        """Raises NodeFailed, _Again."""
        expiry_s = max(1, math.ceil(left_s))
        try:
            async with self._bus.exchange.converse(
                TASK, task, user=self._user, expiry_s=expiry_s, function=task.function
            ) as replies:
                return await self._followed(task, replies, pure=pure)
        except NobodyListens as error:
            raise _Again(_failure(ErrorCode.UNAVAILABLE, "there is no compute service"), nobody=True) from error
        except BusUnavailable as error:
            # Before it was sent for certain: whether the broker has taken it is unknown.
            raise _lost(task, str(error), pure=pure) from error
        except BusError as error:
            raise _failed(ErrorCode.UNAVAILABLE, str(error)) from error
        except asyncio.CancelledError:
            await self._cancel(task)  # it may be on its way, though nobody has told us so yet
            raise

    async def _followed(self, task: Task, replies: Conversation, *, pure: bool) -> Computed:
        try:
            async with asyncio.timeout(TAKEN_WITHIN_S):
                report = _report(await replies.next())
        except TimeoutError:
            raise _lost(task, f"nobody has taken it within {TAKEN_WITHIN_S:g} s", pure=pure) from None
        if report.state is not TaskStatus.TAKEN:
            return _ended(task, report)
        with self._watched(report.instance) as death:
            answer = asyncio.ensure_future(replies.next())
            try:
                await asyncio.wait((answer, death), return_when=asyncio.FIRST_COMPLETED)
                if not answer.done():
                    raise _lost(task, f"{report.instance}, which had taken it, has died", pure=pure)
                return _ended(task, _report(answer.result()))
            finally:
                answer.cancel()

    @contextmanager
    def _watched(self, instance: str) -> Iterator["asyncio.Future[None]"]:
        """A future that is set when the instance dies."""
        death: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._taken[instance].add(death)
        try:
            yield death
        finally:
            self._taken[instance].discard(death)

    async def _on_service(self, delivery: Delivery[ServiceState]) -> None:
        """A session that is offline, or another in its place: what it had taken is lost."""
        state, instance = delivery.payload, delivery.levels["instance"]
        before = self.presence.get(instance)
        offline, another = state.state is ServiceStatus.OFFLINE, before is not None and before.sid != state.sid
        if offline and another:
            return  # the will of a session that another has followed
        self.presence[instance] = state
        if offline or another:
            for death in self._taken.pop(instance, ()):
                if not death.done():
                    death.set_result(None)

    async def _cancel(self, task: Task) -> None:
        """Nobody waits for it any more. Whether the cancellation arrives changes nothing here."""
        with suppress(BusError, TimeoutError):
            async with asyncio.timeout(CANCEL_S):
                await self._bus.publish(CANCEL_TASK, CancelTask(), expiry_s=5, user=self._user, id=task.task)


def _report(reply: Reply) -> TaskReport:
    """Raises NodeFailed on a reply that is no report."""
    if reply.result is None:
        raise NodeFailed(reply.error or _failure(ErrorCode.INTERNAL, "an answer that says nothing"))
    return TaskReport.model_validate(reply.result, strict=False)


def _ended(task: Task, report: TaskReport) -> Computed:
    """Raises NodeFailed, _Again."""
    failure = report.error or _failure(ErrorCode.INTERNAL, f"{report.instance} says {report.state.value}, and not why")
    if report.state is TaskStatus.UNAVAILABLE:
        raise _Again(failure)
    if report.outputs is None:
        raise NodeFailed(failure)
    return Computed(
        outputs=report.outputs,
        seconds=report.seconds or 0.0,
        cached=bool(report.cached),
        instance=report.instance,
        attempts=task.attempt,
    )


def _lost(task: Task, why: str, *, pure: bool) -> Exception:
    """Whether it is computed, or was, is unknown."""
    failure = _failure(ErrorCode.UNAVAILABLE, f"{task.function}: {why}")
    if pure:
        return _Again(failure)
    unknown = f"{failure.message}; it is not pure, so it is not done again: whether it was done is unknown"
    return _failed(ErrorCode.UNAVAILABLE, unknown)


def _failed(code: ErrorCode, message: str) -> NodeFailed:
    return NodeFailed(_failure(code, message))


def _failure(code: ErrorCode, message: str) -> Failure:
    return Failure(code=code, message=message)
