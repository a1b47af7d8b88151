"""What an earlier session has left as retained runs: those that were under way have failed, the others are kept."""

import asyncio
from contextlib import suppress

from contracts.v1.command import ErrorCode, Failure
from contracts.v1.run import RUN, RunState, RunStatus
from plugins.api.clock import Clock
from services.orchestrator.engine.board import Board
from services.runtime.bus.bus import Bus, Delivery

QUIET_S = 1.0
"""So long after the last retained run, and after the first connection, all have come."""
MOST_LEFT = 210_000
"""More than any settings let be shown, queued and running at the same time: the earlier session had its own."""
_ENDED = Failure(code=ErrorCode.INTERNAL, message="the orchestrator was stopped while it ran")
_ACTIVE = frozenset((RunStatus.QUEUED, RunStatus.RUNNING))


class LeftOverRuns:
    """Run by a Supervisor; ends by itself."""

    name = "left_over_runs"

    def __init__(self, *, bus: Bus, board: Board, clock: Clock) -> None:
        self._bus = bus
        self._board = board
        self._clock = clock
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Returns once all have come and are dealt with."""
        end = self._bus.subscribe(RUN, self._take, queue_size=MOST_LEFT)
        connected = asyncio.Event()
        self._bus.on_connect(connected.set)
        if not self._bus.connected:
            await connected.wait()
        with suppress(TimeoutError):
            while True:
                async with asyncio.timeout(QUIET_S):
                    await self._news.wait()
                self._news.clear()
        await end()

    async def _take(self, delivery: Delivery[RunState]) -> None:
        state = delivery.payload
        if not delivery.retained or self._board.find(state.scope, state.run) is not None:
            return  # of this session
        self._news.set()
        if state.state in _ACTIVE:
            now = self._clock.now_us() // 1000
            state = state.model_copy(
                update={"state": RunStatus.FAILED, "since": now, "ended": now, "error": _ENDED, "rev": state.rev + 1}
            )
            self._board.adopt(state, changed=True)
        else:
            self._board.adopt(state, changed=False)
