"""Where people call compute functions by name, without a pipeline."""

from contracts.v1.task import CALL_FUNCTION, CallFunction, FunctionResult
from plugins.api.clock import Clock
from services.orchestrator.allowance import Allowance
from services.orchestrator.desk import answered
from services.orchestrator.dispatch import Dispatcher
from services.runtime.bus import Bus, Delivery


class FunctionDesk:
    """Serves the commands of all functions from its making on. allowance: of who calls."""

    def __init__(self, *, bus: Bus, dispatcher: Dispatcher, allowance: Allowance, clock: Clock) -> None:
        self._dispatcher = dispatcher
        self._allowance = allowance
        self._clock = clock
        bus.serve(CALL_FUNCTION, self._call)

    async def _call(self, command: Delivery[CallFunction]) -> FunctionResult:
        """The deadline of the command is that of the task."""
        now_s, function, asked = self._clock.monotonic(), command.levels["id"], command.payload
        with answered():
            self._allowance.spend(command.levels["user"], now_s)
            computed = await self._dispatcher.compute(
                function, asked.inputs, timeout_s=command.deadline_s - now_s, version=asked.version
            )
        return FunctionResult(
            function=function, outputs=dict(computed.outputs), seconds=computed.seconds, cached=computed.cached
        )
