"""The state machine of a run: what happened in, what is to be done out. Pure.

No clock, no waiting, no chance: the same plan, inputs and happenings give the same orders and events, so that a run can
be gone through again from what was recorded of it.
"""

from collections import deque

from pydantic import JsonValue

from contracts.v1.command import ErrorCode, Failure
from contracts.v1.node import INPUTS, TRIGGER
from contracts.v1.run import NodeStatus, RunStatus
from services.orchestrator.run.abandonment import abandon, drop_work
from services.orchestrator.run.agenda import Agenda
from services.orchestrator.run.carried import MOST_HELD_BYTES, NotCarried, carried_bytes, check_held
from services.orchestrator.run.failures import FAULTS, failure_of, located, plain, shortened, wait_before_next
from services.orchestrator.run.loops import EachTurns, RepeatTurns
from services.orchestrator.run.orders import Done, Failed, Outcome
from services.orchestrator.run.passage import SETTLED, Passage, Turns
from services.orchestrator.run.plan import Choice, Each, External, Formed, Pause, Plan, Repeat, Step, Values

MOST_AT_ONCE = 500
"""Steps that one happening may settle, one with long outputs counting for several; then others have their turn."""
_STEP_BYTES = 16 << 10
"""So many bytes of outputs count for one step more."""
_ASKED = frozenset(("call", "compute", "pipeline"))
"""Kinds of work whose outputs do not show what they were given."""


class Run:
    """One run of a plan. status, outputs, error: how it stands. trigger: what its nodes may know of what started it.

    Times are microseconds since 1970 UTC. A number (of work, of a time) that is not awaited any more is passed over.
    """

    def __init__(self, plan: Plan, *, inputs: Values, trigger: Values | None = None) -> None:
        self.plan = plan
        self.inputs = inputs
        self.top = Passage(plan.graph, {INPUTS: inputs, TRIGGER: trigger or {}})
        self.status = RunStatus.QUEUED
        self.outputs: dict[str, JsonValue] | None = None
        self.error: Failure | None = None
        self.executed = 0
        self.started_us: int | None = None
        self.ended_us: int | None = None
        self._settled = 0
        self._held = 0
        self._ready: deque[tuple[Passage, int]] = deque()
        self._agenda = Agenda()
        self._now_us = 0

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.ended_us is not None

    def begin(self, now_us: int) -> Outcome:
        """Starts what needs nothing."""
        self._now_us = self.started_us = now_us
        self.status = RunStatus.RUNNING
        plan, values = self.plan, dict(self.top.spaces[TRIGGER])
        about = {"pipeline": plan.pipeline, "version": plan.version, "rev": plan.rev}
        self._agenda.tell("run.started", **about, inputs=dict(self.inputs), values=values)
        self._enter(self.top)
        return self._go_on()

    def answer(self, number: int, result: Done | Failed, now_us: int) -> Outcome:
        """The work of this number has ended."""
        place = self._agenda.answered(number)
        if place is not None:
            self._now_us = now_us
            place[0].marks[place[1]].call = None
            if isinstance(result, Done):
                self._give(*place, result.outputs, cached=result.cached)
            else:
                self._fail(*place, result.failure)
        return self._go_on()

    def wake(self, number: int, now_us: int) -> Outcome:
        """The time of this number has come."""
        act = self._agenda.woken(number)
        if act is not None:
            self._now_us = now_us
            act()
        return self._go_on()

    def end(self, status: RunStatus, failure: Failure, now_us: int) -> Outcome:
        """Ends it now, as failed or cancelled; what is under way is stopped."""
        if not self.over:
            self._now_us = now_us
            self._finish(status, shortened(failure))
        return self._agenda.take()

    def void(self, failure: Failure, now_us: int) -> Outcome:
        """What came of it cannot be told: it has failed, even if it was over."""
        if self.over:
            self.ended_us, self.outputs = None, None
        return self.end(RunStatus.FAILED, failure, now_us)

    def _go_on(self) -> Outcome:
        """Starts what is ready, and what becomes so by that; but not for ever."""
        until = self._settled + MOST_AT_ONCE
        while self._ready:
            if self._settled >= until:
                self._agenda.wake_after(0.0, "more", "", lambda: None)
                break
            self._start(*self._ready.popleft())
        return self._agenda.take()

    def _enter(self, passage: Passage) -> None:
        self._ready.extend((passage, root) for root in passage.graph.roots)

    # A step's way: waiting, running (once per try), settled.

    def _start(self, passage: Passage, index: int) -> None:
        mark, step = passage.marks[index], passage.graph.steps[index]
        if passage.over or mark.status in SETTLED:
            return
        mark.tries += 1
        mark.timer = None
        inputs = passage.inputs_of(index)
        try:
            if mark.status is NodeStatus.WAITING:
                self._begin_step(passage, index, step, inputs)
            self._do(passage, index, step, inputs)
        except FAULTS as error:
            self._fail(passage, index, failure_of(error))

    def _begin_step(self, passage: Passage, index: int, step: Step, inputs: Values) -> None:
        """Raises NotCarried."""
        mark, work = passage.marks[index], step.work
        asked: dict[str, object] = {}
        if isinstance(work, External):
            carried_bytes(inputs)
            if work.kind in _ASKED:
                asked["inputs"] = inputs
        mark.status, mark.started_us = NodeStatus.RUNNING, self._now_us
        self.executed += 1
        self._agenda.tell("node.executing", node=passage.name_of(index), **asked)

    def _do(self, passage: Passage, index: int, step: Step, inputs: dict[str, JsonValue]) -> None:
        """Raises ExpressionError, LoopFailed."""
        mark = passage.marks[index]
        match step.work:
            case External():
                mark.call = self._agenda.start((passage, index), passage.name_of(index), step, inputs)
            case Formed(formula):
                self._give(passage, index, {"value": formula(inputs)})
            case Choice(formula):
                mark.branch = "then" if formula(inputs) else "else"
                self._complete(passage, index, {})
            case Pause(seconds):
                name = passage.name_of(index)
                mark.timer = self._agenda.wake_after(seconds, "pause", name, lambda: self._complete(passage, index, {}))
            case Each() as each:
                items = passage.value(each.items)
                self._loop(passage, index, EachTurns(each, items, inputs, passage.spaces))
            case Repeat() as repeat:
                self._loop(passage, index, RepeatTurns(repeat, inputs, passage.spaces))

    def _give(self, passage: Passage, index: int, outputs: Values, *, cached: bool = False) -> None:
        """The work of a step has come to this; what no message could hold fails it."""
        try:
            size = carried_bytes(outputs)
            self._settled += size // _STEP_BYTES
            self._hold(passage, size)
        except NotCarried as error:
            self._fail(passage, index, failure_of(error))
        else:
            self._complete(passage, index, outputs, cached=cached)

    def _hold(self, passage: Passage, size: int) -> None:
        """Raises NotCarried: it is too much with what the run holds already."""
        self._held += size
        if self._held > MOST_HELD_BYTES:  # or was, before turns of loops ended
            self._held = self.top.held + size
            check_held(self._held)
        passage.carried += size

    def _complete(
        self, passage: Passage, index: int, outputs: Values, *, cached: bool = False, error: Failure | None = None
    ) -> None:
        mark = passage.marks[index]
        mark.outputs, mark.error = outputs, error
        self._settle(passage, index, NodeStatus.DONE)
        more: dict[str, object] = {}
        if mark.branch is not None:
            more["branch"] = mark.branch
        if cached:
            more["cached"] = True
        if error is not None:
            more["error"] = plain(error)
        seconds = (self._now_us - (mark.started_us or self._now_us)) / 1e6
        self._agenda.tell("node.completed", node=passage.name_of(index), outputs=outputs, seconds=seconds, **more)
        self._follow(passage, index)

    def _fail(self, passage: Passage, index: int, failure: Failure) -> None:
        """One try has failed."""
        failure = shortened(failure)
        mark, policy, name = passage.marks[index], passage.graph.steps[index].policy, passage.name_of(index)
        drop_work(passage, index, self._agenda, self._now_us)
        wait_s = wait_before_next(policy, mark.tries, failure.code)
        if wait_s is not None:
            mark.error = failure
            self._agenda.tell("node.retried", node=name, error=plain(failure), tries=mark.tries, in_s=wait_s)
            again = (passage, index)
            mark.timer = self._agenda.wake_after(wait_s, "retry", name, lambda: self._ready.append(again))
        elif policy.on_error == "default":
            self._complete(passage, index, policy.default, error=failure)
        elif policy.on_error == "skip":
            mark.error = failure
            self._settle(passage, index, NodeStatus.SKIPPED)
            self._agenda.tell("node.skipped", node=name, error=plain(failure))
            self._follow(passage, index)
        else:
            mark.error = failure
            self._settle(passage, index, NodeStatus.FAILED)
            self._agenda.tell("node.failed", node=name, error=plain(failure), tries=mark.tries)
            self._break_off(passage, name, failure)

    def _settle(self, passage: Passage, index: int, status: NodeStatus) -> None:
        passage.settle(index, status, self._now_us)
        self._settled += 1

    def _follow(self, passage: Passage, index: int) -> None:
        found = passage.follow(index, self._now_us)
        self._settled += len(found.skipped)
        for skipped in found.skipped:
            self._agenda.tell("node.skipped", node=passage.name_of(skipped))
        self._ready.extend((passage, step) for step in found.ready)
        if not passage.left and not passage.over:
            self._leave(passage)

    # Loops, and the ends of passages.

    def _loop(self, passage: Passage, index: int, turns: Turns) -> None:
        """Raises ExpressionError, LoopFailed."""
        mark, timeout_s = passage.marks[index], passage.graph.steps[index].policy.timeout_s
        mark.turns = turns
        if timeout_s is not None:
            late = Failure(code=ErrorCode.TIMEOUT, message=f"not done within {timeout_s:g} s")
            name = passage.name_of(index)
            mark.timer = self._agenda.wake_after(timeout_s, "late", name, lambda: self._fail(passage, index, late))
        self._begin_turns(passage, index, turns)

    def _begin_turns(self, passage: Passage, index: int, turns: Turns) -> None:
        """Raises ExpressionError, LoopFailed."""
        for number, spaces in turns.due():
            turn = Passage(turns.body, spaces, f"{passage.name_of(index)}[{number}].", (passage, index), number)
            turns.under_way[number] = turn
            self._enter(turn)
        if turns.outputs is not None:
            drop_work(passage, index, self._agenda, self._now_us)
            self._give(passage, index, turns.outputs)

    def _leave(self, passage: Passage) -> None:
        """All steps of the passage are settled, and none has failed it."""
        passage.over = True
        if passage.owner is None:
            self._finish(RunStatus.DONE)
            return
        owner, index = passage.owner
        turns = owner.marks[index].turns
        assert turns is not None
        try:
            turns.end(passage)
            self._begin_turns(owner, index, turns)
        except FAULTS as error:
            self._fail(owner, index, failure_of(error))

    def _break_off(self, passage: Passage, name: str, failure: Failure) -> None:
        """A step has failed for good: with it the run, or the loop that it is in."""
        abandon(passage, self._agenda, self._now_us)
        failure = located(failure, name)
        if passage.owner is None:
            self._finish(RunStatus.FAILED, failure)
        else:
            self._fail(*passage.owner, failure)

    def _finish(self, status: RunStatus, failure: Failure | None = None) -> None:
        if not self.top.over:
            abandon(self.top, self._agenda, self._now_us)
        if failure is None:
            outputs = {name: self.top.value(source) for name, source in self.plan.outputs.items()}
            try:
                carried_bytes(outputs)
                self.outputs = outputs
            except NotCarried as error:
                status, failure = RunStatus.FAILED, failure_of(error)
        self.status, self.error, self.ended_us = status, failure, self._now_us
        self._ready.clear()
        self._agenda.forget_times()
        seconds = (self._now_us - (self.started_us or self._now_us)) / 1e6
        came: dict[str, object] = {"outputs": self.outputs} if failure is None else {"error": plain(failure)}
        end = "completed" if failure is None else status
        self._agenda.tell(f"run.{end}", **came, seconds=seconds, nodes=self.executed)
