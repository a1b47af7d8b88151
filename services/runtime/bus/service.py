"""What a bus gives to who serves commands: what was left over from an earlier session, and the end of serving."""

from collections.abc import Mapping
from typing import Generic, TypeVar

from pydantic import BaseModel

from services.runtime.commands.failure import CommandFailed
from services.runtime.commands.rpc import CommandServer
from services.runtime.mqtt.delivery import Delivery
from services.runtime.mqtt.subscriptions import Subscriptions

P = TypeVar("P", bound=BaseModel)
R = TypeVar("R", bound=BaseModel)


class Service(Generic[P, R]):
    """The commands of these levels, served from now on until close()."""

    def __init__(self, server: CommandServer[P, R], *, subscriptions: Subscriptions, levels: Mapping[str, str]) -> None:
        self._server = server
        self._subscriptions = subscriptions
        self._levels = levels
        self._identifier = subscriptions.add(server.wanted(**levels))

    def left_over(self) -> list[Delivery[P]]:
        """See CommandServer.left_over; of the levels that are served."""
        return self._server.left_over(**self._levels)

    async def settle(self, command: Delivery[P], error: CommandFailed) -> None:
        """Answers a command that was left over."""
        await self._server.settle(command, error)

    async def close(self) -> None:
        """Takes no more commands, and returns when those taken have been answered, or after CLOSE_S. Idempotent."""
        await self._subscriptions.remove(self._identifier)
