"""The commands that an earlier session had begun and not answered: they are not repeated, and answered as unknown."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from contracts.v1.command import ErrorCode
from services.runtime.bus.bus import Bus, CommandFailed, Service

CONNECT_S = 30.0
"""How long the answers wait for the broker; then they are kept for who asks again."""
_UNKNOWN = "outcome unknown: the orchestrator was ended before it had answered; see what there is before you ask anew"


class LeftOverCommands:
    """Run by a Supervisor; ends by itself."""

    name = "left_over_commands"

    def __init__(self, *, services: Sequence[Service[Any, Any]], bus: Bus) -> None:
        self._services = services
        self._bus = bus

    async def run(self) -> None:
        """Returns once each has its answer."""
        left = [(service, command) for service in self._services for command in service.left_over()]
        if not left:
            return
        with suppress(TimeoutError):
            await self._bus.wait_connected(CONNECT_S)
        for service, command in left:
            await service.settle(command, CommandFailed(ErrorCode.INTERNAL, _UNKNOWN))
