"""One write, from its turn at the device to its answer: conditions, the write, what was read back, and the judgement.

accepted -> executing -> verified -> done | failed, each an event of the device with the user.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import NoReturn

from contracts.v1.command import ErrorCode, WriteResult
from plugins.api.clock import Clock
from plugins.api.driver import DeviceError, Reading, Value
from services.gateway.actor import Actor
from services.gateway.condition import DEVICE_AGGREGATE
from services.gateway.info import wire_value
from services.gateway.write_rules import Order, Refused, check, verified
from services.runtime.bus import CommandFailed
from services.runtime.event_log import EventLog

_CODES = {"range": ErrorCode.OUT_OF_RANGE, "device": ErrorCode.NOT_WRITABLE, "config": ErrorCode.NOT_WRITABLE}
"""What a device's refusal means, by its cause: the value did not get there. Any other cause leaves that open."""


@dataclass(slots=True)
class Story:
    """The events of one write. note: stands in the data of each."""

    events: EventLog
    device: str
    user: str
    note: Mapping[str, object]
    cause: str | None = None

    def tell(self, state: str, **data: object) -> None:
        """It is now in this state; the event names the one before as its cause."""
        self.cause = self.events.tell(
            state,
            aggregate=DEVICE_AGGREGATE,
            id=self.device,
            user=self.user,
            cause=self.cause,
            data={**self.note, **data},
        )


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
    """Does one order, once. deadline_s: by the clock's monotonic(), until when it may be begun."""

    order: Order
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
        groups = dict.fromkeys(demand.tag.group for demand in self.order.demands)
        # What another lane answers for is read in its own turn, a moment before.
        values = _values(await poller.ask([group for group in groups if poller.lane(group) != lane]))
        here = [group for group in groups if poller.lane(group) == lane]
        await poller.between(tag.group, partial(self._take_turn, values, here))
        if self.turn.refused is not None:
            raise CommandFailed(self.turn.refused.code, str(self.turn.refused), detail=self.turn.refused.detail)
        return self._judge()

    async def _take_turn(self, values: dict[str, Value], here: list[str]) -> None:
        """Raises DeviceError if nothing was written, and if neither the write nor what was read back was answered."""
        order, device, turn = self.order, self.actor.poller.device, self.turn
        if self.clock.monotonic() >= self.deadline_s:
            message = f"{order.tag.name} was not written: its deadline passed while it waited for the device"
            turn.refused = Refused(ErrorCode.TIMEOUT, message)
            return
        try:
            values.update(_values([await device.read(group) for group in here]))
            check(order, values)
        except Refused as refused:
            turn.refused = refused
            return
        turn.begun = True
        self.story.tell("write.executing")
        try:
            await device.write(order.tag.name, order.value)
        except DeviceError as error:
            turn.write_error = error
        try:
            turn.reading = await device.read(order.tag.group)
            self.actor.offer(order.tag.group, turn.reading)
        except DeviceError as error:
            if turn.write_error and turn.write_error.cause not in _CODES:
                raise turn.write_error from error
            turn.read_error = error

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
        if not verified(self.order, turn.reading.values.get(tag.name)):
            why = f"the write was not answered: {error}" if error else "the device holds another value"
            self._fail(ErrorCode.VERIFY_FAILED, f"{wire_value(self.order.value)!r} was written", why)
        return self.done(turn.reading)

    def done(self, reading: Reading) -> WriteResult:
        """The answer to a write that this reading has verified."""
        tag = self.order.tag
        found = wire_value(reading.values.get(tag.name))
        self.story.tell("write.verified", read_back=found)
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


def _values(readings: list[Reading]) -> dict[str, Value]:
    return {tag: value for reading in readings for tag, value in reading.values.items()}
