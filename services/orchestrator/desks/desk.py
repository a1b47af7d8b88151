"""What the desks have in common: how a command is bounded, and answered."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from pydantic import BaseModel

from plugins.api.clock import Clock
from services.orchestrator.errors import Forbidden, OrchestratorError, RateLimited
from services.runtime.bus.bus import CommandFailed, Delivery, Denied

P = TypeVar("P", bound=BaseModel)
R = TypeVar("R")


@contextmanager
def answered() -> Iterator[None]:
    """What is raised inside is the answer to the command. Raises CommandFailed."""
    try:
        yield
    except OrchestratorError as error:
        failure = error.failure
        if isinstance(error, Forbidden | RateLimited):
            raise Denied(failure.message, code=error.code, why=str(error.code), detail=failure.detail) from error
        raise CommandFailed(failure.code, failure.message, detail=failure.detail) from error


def timely(handler: Callable[[Delivery[P]], Awaitable[R]], *, clock: Clock) -> Callable[[Delivery[P]], Awaitable[R]]:
    """The handler of commands that stand in the book, given up at the deadline."""

    async def by_deadline(command: Delivery[P]) -> R:
        """Raises TimeoutError, what the handler raises."""
        async with asyncio.timeout(command.deadline_s - clock.monotonic()):
            return await handler(command)

    return by_deadline
