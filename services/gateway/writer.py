"""Writes to one device: each accepted or refused with its reason, done once, read back, and told in the ledger."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Protocol

from contracts.v1.command import ErrorCode, Write, WriteResult
from contracts.v1.message import Scalar
from plugins.api.clock import Clock
from plugins.api.driver import DeviceError, Reading, Value
from services.gateway.actor import Actor
from services.gateway.attempt import Attempt, Story
from services.gateway.device_file import Tag
from services.gateway.info import wire_value
from services.gateway.write_rules import Order, Refused, accept, fail_safe_order, verified
from services.runtime.bus import CommandFailed, Delivery
from services.runtime.event_log import EventLog

READ_BACK_S = 10.0
"""How long it is tried to read back what a write that was cut off has left."""
_LOOK_S = 0.1


class Guard(Protocol):
    """Is told of every write to a tag that has a fail-safe value, before it is done; see guard.Guard."""

    def watch(self, device: str, tag: str, *, user: str, after_s: float) -> Awaitable[None]:
        """From now on the user's silence makes the gateway write the fail-safe value. Raises OSError."""
        ...


class Writer:
    """Writes to the device that `actor` gives: the one that runs now. actor: raises CommandFailed if none does."""

    def __init__(
        self, *, device: str, actor: Callable[[], Actor], guard: Guard, events: EventLog, clock: Clock
    ) -> None:
        self._device = device
        self._actor = actor
        self._guard = guard
        self._events = events
        self._clock = clock
        # Writes to one tag are done in the order in which they came.
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def write(self, command: Delivery[Write]) -> WriteResult:
        """Does what a user asks for. Raises CommandFailed."""
        name, user = command.levels["arg"], command.levels["user"]
        story = self._story(name, user, command.payload.value)
        try:
            actor = self._actor()
            order = _accepted(lambda: accept(actor.device, name, command.payload))
            story.tell("write.accepted")
            async with self._turns[name]:
                if order.tag.fail_safe:
                    await self._watch(name, user=user, after_s=order.tag.fail_safe.after)
                result = await self._do(order, actor, command.deadline_s, story)
        except CommandFailed as error:
            story.tell("write.failed", code=error.failure.code, message=error.failure.message, **error.failure.detail)
            raise
        story.tell("write.done", read_back=result.read_back)
        return result

    async def write_fail_safe(self, name: str, *, user: str, why: str) -> bool:
        """Writes the tag's fail-safe value as this user. Whether it is done with: written, or no longer asked for."""
        actor = self._actor()
        tag = actor.device.tags.get(name)
        if tag is None or tag.fail_safe is None or not actor.device.writes:
            return True
        story = self._story(name, user, tag.fail_safe.value)
        story.note = {**story.note, "fail_safe": why}
        story.tell("write.accepted")
        try:
            result = await self._write_safe(tag, tag.fail_safe.value, actor, story)
        except CommandFailed as error:
            story.tell("write.failed", code=error.failure.code, message=error.failure.message, **error.failure.detail)
            return False
        story.tell("write.done", read_back=result.read_back)
        return True

    async def account(self, command: Delivery[Write]) -> CommandFailed:
        """The answer to a write that an earlier session of the gateway had begun: what the device holds now."""
        name = command.levels["arg"]
        error = _unknown(name, "the gateway was stopped before it was answered", await self._read_back(name))
        story = self._story(name, command.levels["user"], command.payload.value)
        story.tell("write.failed", code=error.failure.code, message=error.failure.message, **error.failure.detail)
        return error

    async def _watch(self, name: str, *, user: str, after_s: float) -> None:
        try:
            await self._guard.watch(self._device, name, user=user, after_s=after_s)
        except OSError as error:
            message = f"{name} was not written: its fail-safe value cannot be watched over: {error}"
            raise CommandFailed(ErrorCode.UNAVAILABLE, message) from error

    async def _write_safe(self, tag: Tag, value: Scalar, actor: Actor, story: Story) -> WriteResult:
        async with self._turns[tag.name]:
            order = _accepted(lambda: fail_safe_order(actor.device, tag, value))
            return await self._do(order, actor, float("inf"), story)

    async def _do(self, order: Order, actor: Actor, deadline_s: float, story: Story) -> WriteResult:
        attempt = Attempt(order=order, actor=actor, deadline_s=deadline_s, clock=self._clock, story=story)
        try:
            return await attempt.run()
        except DeviceError as error:
            if not attempt.begun:
                raise actor.unavailable(f"{order.tag.name} was not written: {error}") from error
            reading = await self._read_back(order.tag.name)
            if isinstance(reading, Reading) and verified(order, reading.values.get(order.tag.name)):
                return attempt.done(reading)
            raise _unknown(order.tag.name, str(error), reading) from error

    async def _read_back(self, name: str) -> Reading | str:
        """What the device holds, or why that cannot be told; waits a while for a device that is away."""
        until = self._clock.monotonic() + READ_BACK_S
        while True:
            try:
                actor = self._actor()
                tag = actor.device.tags.get(name)
                if tag is None:
                    return f"there is no tag {name!r} any more"
                return (await actor.poller.ask([tag.group]))[0]
            except (CommandFailed, DeviceError) as error:
                if self._clock.monotonic() >= until:
                    return str(error)
            await asyncio.sleep(_LOOK_S)

    def _story(self, tag: str, user: str, value: Scalar) -> Story:
        return Story(self._events, self._device, user, {"tag": tag, "value": value})


def _accepted(decide: Callable[[], Order]) -> Order:
    """A refusal as the answer to a command."""
    try:
        return decide()
    except Refused as error:
        raise CommandFailed(error.code, str(error), detail=error.detail) from None


def _unknown(name: str, why: str, found: Reading | str) -> CommandFailed:
    """The answer to a write of which nobody knows whether it was done. found: see Writer._read_back."""
    detail: dict[str, Value] = {}
    if isinstance(found, Reading):
        detail["read_back"] = wire_value(found.values.get(name))
    said = repr(detail["read_back"]) if detail else f"nothing ({found})"
    return CommandFailed(ErrorCode.INTERNAL, f"{name}: outcome unknown, {why}; read back = {said}", detail=detail)
