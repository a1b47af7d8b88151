"""Where people call compute functions by name, without a pipeline."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from contracts.v1.task import CALL_FUNCTION, CallFunction, FunctionResult
from plugins.api.clock import Clock
from services.orchestrator.desks.desk import answered
from services.orchestrator.errors import RateLimited, TooManyCalls
from services.orchestrator.functions.dispatch import Dispatcher
from services.runtime.bus.bus import Bus, Delivery
from services.runtime.settings import Rate

MOST_CALLS = 128
"""Calls under way at the same time: half of the tasks that the dispatcher has, so that pipelines keep the other."""
MOST_OF_A_USER = 16
REFUSING = 16
"""Commands that are read while all calls are under way: each is refused at once."""
RETRY_AFTER_S = 1.0


class FunctionDesk:
    """Serves the commands of all functions from its making on. rate: how often a user may call.

    A call lasts as long as its function does; so a user has but a share of the calls, and who finds no place is told so
    at once.
    """

    def __init__(self, *, bus: Bus, dispatcher: Dispatcher, rate: Rate, clock: Clock) -> None:
        self._dispatcher = dispatcher
        self._clock = clock
        self._calls: Counter[str] = Counter()
        bus.serve(CALL_FUNCTION, self._call, at_once=MOST_CALLS + REFUSING, rate=rate)

    async def _call(self, command: Delivery[CallFunction]) -> FunctionResult:
        """The deadline of the command is that of the task."""
        now_s, function, asked = self._clock.monotonic(), command.levels["id"], command.payload
        user = command.levels["user"]
        with answered(), self._place(user):
            computed = await self._dispatcher.compute(
                function, asked.inputs, timeout_s=command.deadline_s - now_s, version=asked.version
            )
        return FunctionResult(
            function=function, outputs=dict(computed.outputs), seconds=computed.seconds, cached=computed.cached
        )

    @contextmanager
    def _place(self, user: str) -> Iterator[None]:
        """One of the user's places inside. Raises RateLimited, TooManyCalls."""
        if self._calls[user] >= MOST_OF_A_USER:
            message = f"{user} has {MOST_OF_A_USER} calls under way; wait for one of them"
            raise RateLimited(message, retry_after_s=RETRY_AFTER_S)
        if self._calls.total() >= MOST_CALLS:
            raise TooManyCalls(f"{MOST_CALLS} calls are under way; try again", retry_after_s=RETRY_AFTER_S)
        self._calls[user] += 1
        try:
            yield
        finally:
            self._calls[user] -= 1
            if not self._calls[user]:
                del self._calls[user]
