"""The way from what fires to its run: so many at a time, so many that wait, and what is too much is counted."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from services.orchestrator.errors import Draining, OrchestratorError, RateLimited, TooManyPipelines
from services.orchestrator.triggers.notice import REFUSED, TriggerNotice
from services.orchestrator.triggers.outcomes import Outcomes
from services.orchestrator.triggers.trigger import Firing
from services.runtime.allowance import Allowance
from services.runtime.metrics import Metrics

AGAIN_S = 0.1
"""How soon a run is asked for again when every place was taken, or it fired too often."""


class Ongoing(Protocol):
    """A run that was begun or is in line. over: is set at its end."""

    @property
    def over(self) -> asyncio.Event:
        """See the class."""
        ...


class Lane:
    """Of one trigger. start: begins a run; raises OrchestratorError. most: of its runs at the same time.

    room: firings that may wait; with one more the oldest of them is given up, so that with room for one the latest
    waits. allowance: how often runs are begun; None: as often as it fires. close() ends it; the runs go on.
    """

    def __init__(
        self,
        *,
        workspace: str,
        pipeline: str,
        kind: str,
        start: Callable[[Firing], Ongoing],
        most: int,
        room: int,
        allowance: Allowance | None = None,
        notice: TriggerNotice,
        metrics: Metrics,
    ) -> None:
        self._start = start
        self._most = most
        self._room = room
        self._allowance = allowance
        self._notice = notice
        expected = ("started", "replaced", "held")
        self._outcomes = Outcomes(workspace, pipeline, kind, metrics=metrics, expected=expected)
        self._waiting: deque[Firing] = deque()
        self._ongoing: set[asyncio.Task[None]] = set()
        self._again: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def busy(self) -> bool:
        """Whether no further run of it would begin now."""
        return len(self._ongoing) >= self._most or self._again is not None

    @property
    def waits(self) -> bool:
        """Whether a firing waits that was not given to a run."""
        return bool(self._waiting)

    def offer(self, firing: Firing) -> None:
        """A run is wanted. Never waits."""
        self._waiting.append(firing)
        self._fill()
        if len(self._waiting) > self._room:
            self._waiting.popleft()
            self._outcomes.count("replaced")

    async def close(self) -> None:
        """Starts nothing more."""
        self._closed = True
        self._waiting.clear()
        if self._again is not None:
            self._again.cancel()
        for task in self._ongoing:
            task.cancel()
        if self._ongoing:
            await asyncio.wait(self._ongoing)

    def _fill(self) -> None:
        while self._waiting and not self.busy and not self._closed:
            firing = self._waiting.popleft()  # one whose start crashes must not be tried for ever
            if not self._begin(firing):
                self._waiting.appendleft(firing)
                return

    def _begin(self, firing: Firing) -> bool:
        """False if every place is taken, when it is tried again soon, or nothing begins any more."""
        try:
            self._spend()
            run = self._start(firing)
        except (TooManyPipelines, RateLimited):
            self._outcomes.count("held")
            self._again = asyncio.get_running_loop().call_later(AGAIN_S, self._retry)
            return False
        except Draining:  # it waits for the end, and what is not to be missed is found missed at the next start
            return False
        except OrchestratorError as error:
            self._notice.tell(REFUSED, firing.trigger.by or "", error=str(error))
            return True
        self._outcomes.count("started")
        task = asyncio.create_task(self._watch(run), name="trigger.run")
        self._ongoing.add(task)
        return True

    def _spend(self) -> None:
        """Raises RateLimited."""
        if self._allowance is not None:
            wait_s = self._allowance.spend("", asyncio.get_running_loop().time())
            if wait_s:
                raise RateLimited("this trigger fires too often", retry_after_s=wait_s)

    def _retry(self) -> None:
        self._again = None
        self._fill()

    async def _watch(self, run: Ongoing) -> None:
        try:
            await run.over.wait()
        finally:
            task = asyncio.current_task()
            if task is not None:
                self._ongoing.discard(task)
        self._fill()
