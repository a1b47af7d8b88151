"""The driver of the simulated servo axis: it needs no connection, so `open` always succeeds."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from pydantic import BaseModel

from contracts.v1.device import ValueType
from plugins.api.clock import Clock
from plugins.api.driver import Complaint, Device, DeviceError, DeviceSpec, Reading, TagSpec, Value

from .axis import Axis
from .config import Connection, Group, Signal, Tag

_HOME = 0.0


class MockServo:
    """An open axis. See plugins.api.driver.Device, Calls and Revises; functions are those of plugin.yaml."""

    def __init__(self, *, spec: DeviceSpec, clock: Clock) -> None:
        limits = spec.connection
        assert isinstance(limits, Connection)
        self._inertia = limits.inertia
        self._axis = Axis(
            lowest=limits.lowest, highest=limits.highest, velocity=limits.velocity, acceleration=limits.acceleration
        )
        self._clock = clock
        self._show(spec)

    async def revise(self, device: DeviceSpec) -> None:
        """Shows the signals of this spec from now on; the axis moves on."""
        self._show(device)

    def _show(self, spec: DeviceSpec) -> None:
        self._tags: Mapping[str, Sequence[TagSpec]] = {group.name: group.tags for group in spec.groups}
        self._signals: Mapping[str, Signal] = {
            tag.name: tag.source.signal for group in spec.groups for tag in group.tags
        }

    async def read(self, group: str) -> Reading:
        """Every signal of the group at one moment."""
        signals = self._now()
        return Reading(self._clock.now_us(), {tag.name: signals[tag.source.signal] for tag in self._tags[group]})

    async def write(self, tag: str, value: Value) -> None:
        """Writes the target: the axis sets out for it. Raises DeviceError outside the range, and for other signals."""
        if self._signals[tag] is not Signal.TARGET or isinstance(value, bool) or not isinstance(value, int | float):
            raise DeviceError(f"{tag}: only a number to the target can be written", cause="config")
        self._move(float(value))

    async def call(self, function: str, inputs: Mapping[str, Value]) -> Mapping[str, Value]:
        """Runs a function of plugin.yaml to its end and returns its outputs. Raises DeviceError."""
        if function == "move_to":
            velocity = inputs.get("velocity")
            self._move(_number(inputs, "position"), velocity if isinstance(velocity, int | float) else None)
        elif function == "home":
            self._move(_HOME)
        elif function == "stop":
            self._axis.stop(self._clock.monotonic())
        elif function != "read_position":
            raise DeviceError(f"a servo axis has no function {function!r}", cause="config")
        if function == "read_position":
            return {"position": self._axis.motion(self._clock.monotonic()).position}
        await asyncio.sleep(self._axis.remaining_s(self._clock.monotonic()))
        self._axis.homed = self._axis.homed or function == "home"
        return {"position": self._axis.target}

    def _move(self, target: float, velocity: float | None = None) -> None:
        try:
            self._axis.move_to(target, self._clock.monotonic(), velocity=velocity)
        except ValueError as error:
            raise DeviceError(str(error), cause="range") from error

    def _now(self) -> Mapping[Signal, Value]:
        now = self._clock.monotonic()
        motion = self._axis.motion(now)
        return {
            Signal.POSITION: motion.position,
            Signal.VELOCITY: motion.velocity,
            Signal.TORQUE: motion.acceleration * self._inertia,
            Signal.TARGET: self._axis.target,
            Signal.MOVING: self._axis.remaining_s(now) > 0,
            Signal.HOMED: self._axis.homed,
        }


def _number(inputs: Mapping[str, Value], name: str) -> float:
    value = inputs.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DeviceError(f"input {name!r} must be a number", cause="config")
    return float(value)


class MockServoDriver:
    """The plugin's entry. See plugins.api.driver.Driver."""

    connection: type[BaseModel] = Connection
    group: type[BaseModel] = Group
    tag: type[BaseModel] = Tag

    def value_type(self, tag: BaseModel) -> ValueType | None:
        """The signal's type."""
        assert isinstance(tag, Tag)
        return tag.signal.type

    def check(self, device: DeviceSpec) -> Sequence[Complaint]:
        """Tags that are writable but show a signal that is not."""
        return [
            Complaint(
                ("groups", group.name, "tags", tag.name, "writable"),
                f"{tag.source.signal} cannot be written",
                "remove writable, or show the signal target",
            )
            for group in device.groups
            for tag in group.tags
            if tag.writable and tag.source.signal is not Signal.TARGET
        ]

    def open(self, device: DeviceSpec, *, clock: Clock) -> AbstractAsyncContextManager[Device]:
        """An axis that stands at 0."""
        return self._open(device, clock)

    @asynccontextmanager
    async def _open(self, device: DeviceSpec, clock: Clock) -> AsyncIterator[Device]:
        yield MockServo(spec=device, clock=clock)


DRIVER = MockServoDriver()
