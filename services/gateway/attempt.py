"""One write, from its turn at the device to its answer: conditions, the write, what was read back, and the judgement.

accepted -> executing -> verified -> done | failed, each an event of the device with the user.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import NoReturn

from contracts.v1.command import ErrorCode, WriteResult
from plugins.api.clock import Clock
from plugins.api.driver import DeviceError, NotSent, Reading, Value
from services.gateway.actor import Actor
from services.gateway.device import DeviceFile
from services.gateway.info import wire_value
from services.gateway.poller import Poller
from services.gateway.story import Story
from services.gateway.write_rules import Order, Refused, check, remembered, verified
from services.runtime.bus.bus import CommandFailed

LOOK_S = 0.05
"""How often a device that does not hold the value yet is read again."""
_CODES = {
    "range": ErrorCode.OUT_OF_RANGE,
    "device": ErrorCode.NOT_WRITABLE,
    "config": ErrorCode.NOT_WRITABLE,
    "busy": ErrorCode.DEVICE_UNAVAILABLE,
}
"""What a device's refusal means, by its cause: the value did not get there. Any other cause leaves that open."""

Decide = Callable[[DeviceFile], Order]
Arm = Callable[[Order], Awaitable[None]]


@dataclass(slots=True)
class _Turn:
    """What came of the write's turn at the device. begun: it may have changed something."""

    begun: bool = False
    refused: Refused | None = None
    write_error: DeviceError | None = None
    read_error: DeviceError | None = None
    reading: Reading | None = None


@dataclass(slots=True, kw_only=True)
class Attempt:
    """Does one order, once.

    decide: the order by the device file as it then is, asked again at its turn; raises Refused. arm: is awaited when
    nothing but the write itself is left to do; raises Refused. deadline_s: by the clock's monotonic(), until when it
    may be begun.
    """

    order: Order
    decide: Decide
    arm: Arm
    actor: Actor
    deadline_s: float
    clock: Clock
    story: Story
    turn: _Turn = field(default_factory=_Turn)

    @property
    def begun(self) -> bool:
        """Whether the device may have been changed."""
        return self.turn.begun

    async def run(self) -> WriteResult:
        """Returns once the device holds the value.

        Raises CommandFailed, and DeviceError if the connection was lost: nothing was written unless it had begun.
        """
        tag, poller = self.order.tag, self.actor.poller
        lane = poller.lane(tag.group)
        # What another lane answers for is read in its own turn, a moment before.
        values = good_values(await poller.ask([group for group in self._asked() if poller.lane(group) != lane]))
        await poller.between(tag.group, partial(self._take_turn, poller, lane, values), self._offer)
        if self.turn.refused is not None:
            raise CommandFailed(self.turn.refused.code, str(self.turn.refused), detail=self.turn.refused.detail)
        await self._settle(poller)
        return self._judge()

    def _asked(self) -> list[str]:
        """The groups of the tags that there are demands on."""
        return list(dict.fromkeys(demand.tag.group for demand in self.order.demands))

    async def _take_turn(self, poller: Poller, lane: str, values: dict[str, Value]) -> None:
        """Raises DeviceError if nothing was written, and if neither the write nor what was read back was answered."""
        turn = self.turn
        try:
            await self._make_ready(poller, lane, values)
        except Refused as refused:
            turn.refused = refused
            return
        order, device = self.order, poller.device
        turn.begun = True
        self.story.tell_soon("write.executing")
        try:
            await self._write(poller)
        except NotSent as error:
            turn.begun = False
            turn.refused = self._too_late(str(error))
            return
        except DeviceError as error:
            turn.write_error = error
        try:
            turn.reading = await device.read(order.tag.group)
        except DeviceError as error:
            if turn.write_error and turn.write_error.cause not in _CODES:
                raise turn.write_error from error
            turn.read_error = error

    def _offer(self) -> None:
        """What was read back is a reading as any other: published, but behind the answer."""
        if self.turn.reading is not None:
            with suppress(DeviceError):  # of a frame that is too long, which every poll of the group tells
                self.actor.offer(self.order.tag.group, self.turn.reading)

    async def _make_ready(self, poller: Poller, lane: str, values: dict[str, Value]) -> None:
        """All that may still keep the write from being done. Raises Refused, DeviceError."""
        self._check_deadline()
        self.order = self.decide(self.actor.device)  # it may have waited for long: another range, or writes disabled
        if poller.lane(self.order.tag.group) != lane:
            raise DeviceError("it has become another part's while it waited", cause="config")
        here = [group for group in self._asked() if poller.lane(group) == lane]
        values.update(good_values([await poller.device.read(group) for group in here]))
        check(self.order, values)
        await self.arm(self.order)
        self._check_deadline()  # again: a slow device may have taken long to say how it is

    async def _write(self, poller: Poller) -> None:
        tag, value = self.order.tag.name, self.order.value
        if poller.queue is not None:
            await poller.queue.write_within(tag, value, seconds=self.deadline_s - self.clock.monotonic())
        else:
            await poller.device.write(tag, value)

    def _check_deadline(self) -> None:
        if self.clock.monotonic() >= self.deadline_s:
            raise self._too_late("it waited for the device")

    def _too_late(self, why: str) -> Refused:
        message = f"{self.order.tag.name} was not written: its deadline passed while {why}"
        return Refused(ErrorCode.TIMEOUT, message)

    async def _settle(self, poller: Poller) -> None:
        """Reads a slow device again until it holds the value, for the tag's `settle` or to the deadline at most."""
        tag, turn = self.order.tag, self.turn
        until = min(self.clock.monotonic() + tag.settle_s, self.deadline_s)
        while turn.write_error is None and turn.reading is not None and not self._verified(turn.reading):
            if self.clock.monotonic() >= until:
                return
            await asyncio.sleep(LOOK_S)
            try:
                (turn.reading,) = await poller.ask([tag.group])
                self.actor.offer(tag.group, turn.reading)
            except DeviceError:
                return  # what was read before stands

    def _verified(self, reading: Reading) -> bool:
        return verified(self.order, reading)

    def _judge(self) -> WriteResult:
        """Raises CommandFailed that says what was read back."""
        tag, turn = self.order.tag, self.turn
        error = turn.write_error
        if turn.reading is None:
            if error is None:
                self._fail(ErrorCode.VERIFY_FAILED, "it was written, but could not be read back", f"{turn.read_error}")
            self._fail(_CODES[error.cause], "it was refused", str(error))
        if error is not None and error.cause in _CODES:
            self._fail(_CODES[error.cause], "it was refused", str(error))
        if not self._verified(turn.reading):
            if error is not None:  # it may still arrive
                raise outcome_unknown(tag.name, f"the write was not answered: {error}", turn.reading) from error
            what = f"{wire_value(self.order.value)!r} was written"
            told = turn.reading.values.get(tag.name) is not None and not remembered(turn.reading, tag.name)
            why = "the device holds another value" if told else "the device cannot tell what it holds now"
            self._fail(ErrorCode.VERIFY_FAILED, what, why)
        return self.done(turn.reading)

    def done(self, reading: Reading) -> WriteResult:
        """The answer to a write that this reading has verified."""
        tag = self.order.tag
        found = wire_value(reading.values.get(tag.name))
        self.story.tell("write.verified", "write.done", read_back=found)
        t = reading.t + reading.dt.get(tag.name, 0)
        return WriteResult(tag=tag.name, value=wire_value(self.order.value), read_back=found, t=t)

    def _fail(self, code: ErrorCode, what: str, why: str) -> NoReturn:
        tag, turn = self.order.tag, self.turn
        detail: dict[str, Value] = {"value": wire_value(self.order.value)}
        if turn.write_error and turn.write_error.code is not None:
            detail["device_code"] = turn.write_error.code
        if turn.reading is None:
            said = "nothing"
        else:
            detail["read_back"] = wire_value(turn.reading.values.get(tag.name))
            said = repr(detail["read_back"])
        raise CommandFailed(code, f"{tag.name}: {what}, {why}; read back = {said}", detail=detail)


def outcome_unknown(name: str, why: str, found: Reading | str) -> CommandFailed:
    """The answer to a write of which nobody knows whether it was done.

    found: what the device held afterwards, or why that cannot be told.
    """
    detail: dict[str, Value] = {}
    if isinstance(found, Reading):
        detail["read_back"] = wire_value(found.values.get(name))
    said = repr(detail["read_back"]) if detail else f"nothing ({found})"
    return CommandFailed(ErrorCode.INTERNAL, f"{name}: outcome unknown, {why}; read back = {said}", detail=detail)


def good_values(readings: Iterable[Reading]) -> dict[str, Value]:
    """Values by tag, None for what is not good: an uncertain one may be the last that the device remembers."""
    return {
        tag: None if tag in reading.quality else value for reading in readings for tag, value in reading.values.items()
    }
