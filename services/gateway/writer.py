"""Writes to one device: each accepted or refused with its reason, done once, read back, and told in the ledger."""

import asyncio
import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Protocol

from contracts.v1.command import ErrorCode, Write, WriteResult
from contracts.v1.message import Scalar
from plugins.api.clock import Clock
from plugins.api.driver import DeviceError, Reading
from services.gateway.actor import Actor
from services.gateway.attempt import Arm, Attempt, Decide, outcome_unknown
from services.gateway.behalf import Asker, asker
from services.gateway.device import DeviceFile
from services.gateway.info import wire_value
from services.gateway.story import Story
from services.gateway.write_rules import Order, Refused, accept, fail_safe_order, verified
from services.runtime.bus.bus import CommandFailed, Delivery
from services.runtime.event_log import EventLog

READ_BACK_S = 10.0
"""How long it is tried to read back what a write that was cut off has left."""
_LOOK_S = 0.1

Begin = Callable[[Scalar], Awaitable[bool]]
"""Whether the fail-safe value is still to be written; if so, that it is begun is on the disk. Asked at its turn."""


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
        name, sender = command.levels["arg"], command.levels["user"]

        def decide(device: DeviceFile) -> Order:
            """By the device file that holds at its turn. Raises CommandFailed."""
            return accept(device, name, command.payload)

        story = self._story(name, asker(sender, command.payload), command.payload.value)
        with _told_if_it_fails(story):
            order = _accepted(decide, self._actor().device)
            story.tell_soon("write.accepted")
            async with self._turns[name]:
                arm = partial(self._watch, sender)
                return await self._do(order, decide, arm, command.deadline_s, story)

    async def write_fail_safe(self, name: str, *, user: str, why: str, begin: Begin) -> bool:
        """Writes the tag's fail-safe value as this user, if it is still due at its turn.

        Whether it is done with: written, or no longer asked for.
        """
        async with self._turns[name]:
            try:
                return await self._write_fail_safe(name, self._actor().device, user, why, begin)
            except CommandFailed:
                return False

    async def _write_fail_safe(self, name: str, device: DeviceFile, user: str, why: str, begin: Begin) -> bool:
        tag = device.tags.get(name)
        if tag is None or tag.fail_safe is None or not device.writes:
            return True
        value = tag.fail_safe.value
        if not await begin(value):
            return True

        def decide(device: DeviceFile) -> Order:
            """By the device file that holds at its turn. Raises CommandFailed."""
            return fail_safe_order(device, name, value)

        story = self._fail_safe_story(name, user, value, why)
        story.tell("write.accepted")
        with _told_if_it_fails(story):
            await self._do(_accepted(decide, device), decide, _unwatched, math.inf, story)
        return True

    async def account(self, command: Delivery[Write]) -> CommandFailed:
        """The answer to a write that an earlier session of the gateway had begun: what the device holds now."""
        name = command.levels["arg"]
        return await self._account(
            name, self._story(name, asker(command.levels["user"], command.payload), command.payload.value)
        )

    async def account_fail_safe(self, name: str, *, user: str, value: Scalar, why: str) -> None:
        """Tells of a fail-safe value that an earlier session had begun to write: what the device holds now."""
        await self._account(name, self._fail_safe_story(name, user, value, why))

    async def _account(self, name: str, story: Story) -> CommandFailed:
        error = outcome_unknown(name, "the gateway was stopped before it was answered", await self._read_back(name))
        story.tell("write.failed", code=error.failure.code, message=error.failure.message, **error.failure.detail)
        return error

    async def _watch(self, user: str, order: Order) -> None:
        """Returns when a kill loses no watch over its fail-safe value. Raises Refused."""
        tag = order.tag
        if tag.fail_safe is None:
            return
        try:
            await self._guard.watch(self._device, tag.name, user=user, after_s=tag.fail_safe.after)
        except OSError as error:
            message = f"{tag.name} was not written: its fail-safe value cannot be watched over: {error}"
            raise Refused(ErrorCode.UNAVAILABLE, message) from error

    async def _do(self, order: Order, decide: Decide, arm: Arm, deadline_s: float, story: Story) -> WriteResult:
        """See Attempt."""
        actor, name = self._actor(), order.tag.name
        attempt = Attempt(
            order=order, decide=decide, arm=arm, actor=actor, deadline_s=deadline_s, clock=self._clock, story=story
        )
        try:
            return await attempt.run()
        except DeviceError as error:
            if not attempt.begun:
                raise actor.unavailable(f"{name} was not written: {error}") from error
            reading = await self._read_back(name)
            if isinstance(reading, Reading) and verified(attempt.order, reading):
                return attempt.done(reading)
            raise outcome_unknown(name, str(error), reading) from error

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

    def _story(self, tag: str, who: Asker, value: Scalar) -> Story:
        note = {"tag": tag, "value": wire_value(value), **who.note}
        return Story(self._events, self._clock, self._device, who.user, note)

    def _fail_safe_story(self, tag: str, user: str, value: Scalar, why: str) -> Story:
        return self._story(tag, Asker(user, {"fail_safe": why}), value)


def _accepted(decide: Decide, device: DeviceFile) -> Order:
    """A refusal as the answer to a command."""
    try:
        return decide(device)
    except Refused as error:
        raise CommandFailed(error.code, str(error), detail=error.detail) from None


@contextmanager
def _told_if_it_fails(story: Story) -> Iterator[None]:
    """A write that fails inside stands in the ledger with its reason."""
    try:
        yield
    except CommandFailed as error:
        story.tell("write.failed", code=error.failure.code, message=error.failure.message, **error.failure.detail)
        raise
    finally:
        story.tell()  # what it has put off, should it have been cancelled


async def _unwatched(_order: Order) -> None:
    """Of a fail-safe value nobody has to write again."""
