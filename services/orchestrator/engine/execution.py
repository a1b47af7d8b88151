"""A run at work: the orders of its state machine carried out, its events told, its state shown."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from contracts.v1.command import ErrorCode, Failure
from contracts.v1.run import RunState, RunStatus
from services.orchestrator.engine.board import Key
from services.orchestrator.engine.executor import Do, Work
from services.orchestrator.engine.workplace import Workplace
from services.orchestrator.errors import NodeFailed
from services.orchestrator.run.node_cache import Key as CacheKey
from services.orchestrator.run.node_cache import key_of
from services.orchestrator.run.orders import Done, Failed, Order, Outcome, Start, Stop, Told, Wake
from services.orchestrator.run.plan import External, Values
from services.orchestrator.run.queue import Place
from services.orchestrator.run.request import RunRequest
from services.orchestrator.run.run import Run
from services.orchestrator.run.run_state import millis, node_states, short_values

_CRASHED = Failure(code=ErrorCode.INTERNAL, message="it crashed; the orchestrator's log says where")


class Execution:
    """One run, from its being accepted to its end. identifier: its name. cut_short: by the stop of the orchestrator.

    place: where a run waits. ended: is called once, when it is over.
    """

    def __init__(
        self,
        request: RunRequest,
        identifier: str,
        *,
        use: Workplace,
        place: Callable[[str], Place | None],
        ended: Callable[["Execution"], None],
    ) -> None:
        self.request = request
        self.identifier = identifier
        self.over = asyncio.Event()
        self.cut_short = False
        self.since_us = use.clock.now_us()
        trigger = request.trigger
        known = {"kind": trigger.kind, "t": self.since_us if trigger.t is None else trigger.t, **request.values}
        self.run = Run(request.plan, inputs=request.inputs, trigger=known)
        self._use = use
        self._place = place
        self._ended = ended
        self._rev = 0
        self._callers: list[Callable[[Execution], None]] = []
        self._executors = use.shadows if request.shadow else use.executors
        self._under_way: dict[int, asyncio.Task[None] | asyncio.TimerHandle] = {}
        self._late: asyncio.TimerHandle | None = None
        self._until_s = 0.0
        self._cause: str | None = request.trigger.by
        self._told = False

    def queue(self) -> None:
        """It waits for its turn."""
        plan, place = self.request.plan, self.place
        data: dict[str, object] = {"pipeline": plan.pipeline, "version": plan.version, "trigger": self._trigger}
        if place is not None:
            data["position"] = place.position
        self._conclude([Told("run.queued", data)])

    def begin(self) -> None:
        """It is its turn."""
        loop, timeout_s = asyncio.get_running_loop(), self.request.plan.timeout_s
        self._late = loop.call_later(timeout_s, self._on_late)
        self._until_s = self._use.clock.monotonic() + timeout_s
        if self.request.note is None:
            self._begin()
        else:
            self._use.crew.start(self._begin_noted(self.request.note), name=f"{self.identifier}.note")

    async def _begin_noted(self, note: Callable[[], Awaitable[None]]) -> None:
        try:
            await note()
        except NodeFailed as error:
            self.end(RunStatus.FAILED, error.failure)
        if not self.run.over:
            self._begin()

    def _begin(self) -> None:
        self.since_us = self._use.clock.now_us()
        outcome = self.run.begin(self.since_us)
        outcome.events[0].data["trigger"] = self._trigger
        self._carry_out(outcome)

    def end(self, status: RunStatus, failure: Failure) -> None:
        """It ends now, as failed or cancelled."""
        self._carry_out(self.run.end(status, failure, self._use.clock.now_us()))

    def when_over(self, call: Callable[["Execution"], None]) -> None:
        """`call` is called once the run is over: at its end, or now."""
        if self.over.is_set():
            call(self)
        else:
            self._callers.append(call)

    @property
    def _trigger(self) -> dict[str, object]:
        return self.request.trigger.model_dump(mode="json", exclude_none=True)

    @property
    def key(self) -> Key:
        """See board.Shown."""
        return self.request.plan.scope, self.identifier

    @property
    def pipeline(self) -> str:
        """See board.Shown."""
        return self.request.plan.pipeline

    @property
    def active(self) -> bool:
        """See board.Shown."""
        return not self.run.over

    @property
    def place(self) -> Place | None:
        """Where it waits; None if it does not."""
        return self._place(self.identifier) if self.run.status is RunStatus.QUEUED else None

    def state(self) -> RunState:
        """See board.Shown."""
        run, request = self.run, self.request
        self._rev += 1
        place = self.place
        return RunState(
            run=self.identifier,
            pipeline=request.plan.pipeline,
            scope=request.plan.scope,
            version=request.plan.version,
            state=run.status,
            since=self.since_us // 1000,
            started=millis(run.started_us),
            ended=millis(run.ended_us),
            trigger=request.trigger,
            user=request.user,
            position=place.position if place else None,
            expected_wait_s=place.expected_wait_s if place else None,
            nodes=node_states(run.top),
            outputs=short_values(run.outputs),
            error=run.error,
            shadow=request.shadow or None,
            rev=self._rev,
        )

    @property
    def seconds(self) -> float | None:
        """How long it took, once it is over; None if it never began."""
        if self.run.started_us is None or self.run.ended_us is None:
            return None
        return (self.run.ended_us - self.run.started_us) / 1e6

    def _carry_out(self, outcome: Outcome) -> None:
        events, orders = outcome.events, deque(outcome.orders)
        whole = False
        try:
            while orders:
                result = self._obey(order := orders.popleft())
                if result is not None:
                    more = self.run.answer(order.number, result, self._use.clock.now_us())
                    events += more.events
                    orders.extend(more.orders)
            whole = True
        finally:
            if not whole:  # an executor has crashed, which its caller hears of; the run must not wait for ever
                events += self.run.end(RunStatus.FAILED, _CRASHED, self._use.clock.now_us()).events
            self._conclude(events)

    def _conclude(self, events: Sequence[Told]) -> None:
        """After a step: it is told and shown. A run of which something cannot be told does not go on."""
        try:
            self._tell(events)
        except ValueError as error:
            untold = Failure(code=ErrorCode.INTERNAL, message=f"what happened in it cannot be told: {error}")
            self._tell(self.run.void(untold, self._use.clock.now_us()).events)
        finally:
            if self.run.over and not self.over.is_set():
                self._close()
            if events:
                self._use.board.show(self)

    def _tell(self, events: Sequence[Told]) -> None:
        """Raises ContractError, or another ValueError: they cannot be told."""
        if events:
            plan, over = self.request.plan, self.run.over
            self._cause = self._use.chronicle.tell(
                plan.scope, self.identifier, events, user=self.request.user, cause=self._cause, over=over
            )
            self._told = over

    def _close(self) -> None:
        """It keeps nothing any more, and whoever waits for it hears that it is over."""
        self.since_us = self.run.ended_us or self.since_us
        self._drop_all()
        if not self._told:
            self._use.chronicle.give_up(self.request.plan.scope, self.identifier)
        self.over.set()
        self._ended(self)
        for call in self._callers:
            call(self)

    def _obey(self, order: Order) -> Done | Failed | None:
        """The result of what could be done at once."""
        match order:
            case Start():
                return self._start(order)
            case Wake(number, after_s):
                loop = asyncio.get_running_loop()
                self._under_way[number] = loop.call_later(after_s, self._on_time, number)
            case Stop(number):
                handle = self._under_way.pop(number, None)
                if handle is not None:
                    handle.cancel()
        return None

    def _start(self, order: Start) -> Done | Failed | None:
        external = order.step.work
        assert isinstance(external, External)
        policy, now_s = order.step.policy, self._use.clock.monotonic()
        if policy.cache_s:
            known = self._use.cache.get(self._cache_key(order), now_s)
            if known is not None:
                return Done(known, cached=True)
        left_s = self._until_s - now_s
        work = Work(
            run=self.identifier,
            plan=self.run.plan,
            path=order.path,
            node=external.node,
            formulas=external.formulas,
            inputs=order.inputs,
            left_s=left_s if policy.timeout_s is None else min(left_s, policy.timeout_s),
            request=self.request,
        )
        instant = self._executors.instant.get(external.kind)
        try:
            outputs = instant(work) if instant is not None else None
        except NodeFailed as error:
            return Failed(error.failure)
        if outputs is not None:
            return self._done(order, outputs)
        lasting = self._executors.lasting.get(external.kind)
        if lasting is None:
            message = f"nothing here does the work of a node of type {external.kind}"
            return Failed(Failure(code=ErrorCode.UNAVAILABLE, message=message))
        name = f"{self.identifier}.{order.path}"
        self._under_way[order.number] = self._use.crew.start(self._do(order, lasting, work), name=name)
        return None

    def _done(self, order: Start, outputs: Values) -> Done:
        policy = order.step.policy
        if policy.cache_s:
            self._use.cache.put(self._cache_key(order), outputs, until_s=self._use.clock.monotonic() + policy.cache_s)
        return Done(outputs)

    def _cache_key(self, order: Start) -> CacheKey:
        """Live runs take nothing that was only held back in a shadow."""
        return key_of(self.run.plan, order.step.path, order.inputs, shadow=self.request.shadow)

    async def _do(self, order: Start, lasting: Do, work: Work) -> None:
        result: Done | Failed | None = Failed(_CRASHED)
        try:
            async with asyncio.timeout(work.left_s):
                outputs = await lasting(work)
            result = self._done(order, outputs)
        except TimeoutError:
            message = f"not done within {work.left_s:g} s"
            result = Failed(Failure(code=ErrorCode.TIMEOUT, message=message))
        except NodeFailed as error:
            result = Failed(error.failure)
        except asyncio.CancelledError:
            result = None
            raise
        finally:
            if result is not None:
                self._under_way.pop(order.number, None)
                self._carry_out(self.run.answer(order.number, result, self._use.clock.now_us()))

    def _on_time(self, number: int) -> None:
        self._under_way.pop(number, None)
        self._carry_out(self.run.wake(number, self._use.clock.now_us()))

    def _on_late(self) -> None:
        message = f"not done within {self.request.plan.timeout_s:g} s, which is all that its limits allow"
        self.end(RunStatus.FAILED, Failure(code=ErrorCode.TIMEOUT, message=message))

    def _drop_all(self) -> None:
        if self._late is not None:
            self._late.cancel()
        for handle in self._under_way.values():
            handle.cancel()
        self._under_way.clear()
