"""Where a device's commands are answered (read, write, call, browse) by whatever actor it has when they come."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from contracts.v1.command import BROWSE, CALL, READ, WRITE, ErrorCode, Read, ReadResult, Write
from plugins.api.driver import DeviceError
from services.gateway.actor import Actor
from services.gateway.browser import Browser
from services.gateway.caller import Caller
from services.gateway.collaborators import Collaborators
from services.gateway.info import read_result
from services.gateway.writer import Guard, Writer
from services.runtime.bus.bus import CommandFailed, Delivery, Service

CONNECT_S = 30.0
"""How long an answer that was left over waits for the broker."""


class Desk:
    """Serves one device from its making until close(). actor: raises CommandFailed while there is none."""

    def __init__(self, *, device: str, actor: Callable[[], Actor], guard: Guard, use: Collaborators) -> None:
        self._device = device
        self._actor = actor
        self._use = use
        self.writer = Writer(device=device, actor=actor, guard=guard, events=use.events, clock=use.clock)
        self._caller = Caller(device=device, actor=actor, events=use.events, clock=use.clock)
        bus, book = use.bus, use.book
        self._writes = bus.serve(WRITE, self.writer.write, book=book, early=True, id=device)
        self._calls = bus.serve(CALL, self._caller.call, book=book, id=device)
        self._services: Sequence[Service[Any, Any]] = (
            bus.serve(READ, self._read, id=device),
            bus.serve(BROWSE, Browser(device=device, actor=actor, clock=use.clock).browse, id=device),
            self._writes,
            self._calls,
        )

    async def account(self) -> None:
        """Answers the writes and calls that an earlier session of the gateway had begun: they are never repeated."""
        writes, calls = self._writes.left_over(), self._calls.left_over()
        if writes or calls:
            with suppress(TimeoutError):
                await self._use.bus.wait_connected(CONNECT_S)
        for call in calls:
            await self._calls.settle(call, await self._caller.account(call))
        # At the same time: each may wait long for a device that is away.
        await asyncio.gather(*map(self._account_of_write, writes))

    async def _account_of_write(self, write: Delivery[Write]) -> None:
        await self._writes.settle(write, await self.writer.account(write))

    async def close(self) -> None:
        """Takes no more commands; returns when those taken have been answered, or after a few seconds."""
        await asyncio.gather(*(service.close() for service in self._services))

    async def _read(self, command: Delivery[Read]) -> ReadResult:
        actor, group = self._actor(), command.payload.group
        groups = [one.name for one in actor.device.spec.groups]
        if group is not None and group not in groups:
            message = f"{self._device} has no group {group!r}; there are: {', '.join(groups)}"
            raise CommandFailed(ErrorCode.NOT_FOUND, message)
        try:
            return read_result(await actor.poller.ask(groups if group is None else [group]))
        except DeviceError as error:
            raise actor.unavailable(str(error)) from error
