"""What the desks have in common: how a command is bounded, and answered."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from pydantic import BaseModel

from plugins.api.clock import Clock
from services.orchestrator.allowance import Allowance
from services.orchestrator.errors import OrchestratorError
from services.runtime.bus.bus import CommandFailed, Delivery

P = TypeVar("P", bound=BaseModel)
R = TypeVar("R")


@contextmanager
def answered() -> Iterator[None]:
    """What is raised inside is the answer to the command. Raises CommandFailed."""
    try:
        yield
    except OrchestratorError as error:
        failure = error.failure
        raise CommandFailed(failure.code, failure.message, detail=failure.detail) from error


def metered(
    handler: Callable[[Delivery[P]], Awaitable[R]], *, allowance: Allowance, clock: Clock
) -> Callable[[Delivery[P]], Awaitable[R]]:
    """The handler, for users who ask no more often than they may."""

    async def spend_first(command: Delivery[P]) -> R:
        """Raises CommandFailed, what the handler raises."""
        with answered():
            allowance.spend(command.levels["user"], clock.monotonic())
        return await handler(command)

    return spend_first


def timely(handler: Callable[[Delivery[P]], Awaitable[R]], *, clock: Clock) -> Callable[[Delivery[P]], Awaitable[R]]:
    """The handler of commands that stand in the book, given up at the deadline."""

    async def by_deadline(command: Delivery[P]) -> R:
        """Raises TimeoutError, what the handler raises."""
        async with asyncio.timeout(command.deadline_s - clock.monotonic()):
            return await handler(command)

    return by_deadline
