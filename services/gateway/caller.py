"""Functions of one device: inputs checked, run once, told in the ledger. They run beside the polls and each other."""

import asyncio
from collections.abc import Callable, Mapping

from contracts.v1.command import Call, CallResult, ErrorCode
from plugins.api.clock import Clock
from plugins.api.driver import Calls, DeviceError, Value
from plugins.api.manifest import FunctionManifest
from services.gateway.actor import Actor
from services.gateway.attempt import good_values
from services.gateway.behalf import asker
from services.gateway.call_rules import TIMEOUT_S, checked_inputs, find_function, unkept_promise
from services.gateway.info import wire_value
from services.gateway.story import Story
from services.gateway.write_rules import Refused, check_remote
from services.runtime.bus.bus import CommandFailed, Delivery
from services.runtime.event_log import EventLog

_CODES = {
    "range": ErrorCode.OUT_OF_RANGE,
    "config": ErrorCode.INVALID,
    "device": ErrorCode.INVALID,
    "busy": ErrorCode.DEVICE_UNAVAILABLE,
}
"""What a device's refusal means, by its cause."""


class Caller:
    """Calls functions of the device that `actor` gives: the one that runs now."""

    def __init__(self, *, device: str, actor: Callable[[], Actor], events: EventLog, clock: Clock) -> None:
        self._device = device
        self._actor = actor
        self._events = events
        self._clock = clock

    async def call(self, command: Delivery[Call]) -> CallResult:
        """Runs the function to its end. Raises CommandFailed."""
        call = command.payload
        story = self._story(command)
        try:
            actor = self._actor()
            try:
                function = find_function(actor.device, call)
                inputs = checked_inputs(call, function)
                story.tell("call.accepted")
                await self._check_remote(actor)
                self._check_deadline(command)
            except Refused as error:
                raise CommandFailed(error.code, str(error), detail=error.detail) from None
            except DeviceError as error:
                raise actor.unavailable(f"{call.function} was not called: {error}") from error
            outputs = await self._run(actor, call.function, function, inputs, story)
        except CommandFailed as error:
            story.tell("call.failed", code=error.failure.code, message=error.failure.message)
            raise
        story.tell("call.done", outputs=dict(outputs))
        return CallResult(function=call.function, outputs=dict(outputs))

    async def account(self, command: Delivery[Call]) -> CommandFailed:
        """The answer to a call that an earlier session of the gateway had begun."""
        message = f"{command.payload.function}: outcome unknown, the gateway was stopped before it was answered"
        self._story(command).tell("call.failed", code=ErrorCode.INTERNAL, message=message)
        return CommandFailed(ErrorCode.INTERNAL, message)

    async def _check_remote(self, actor: Actor) -> None:
        """Raises Refused, DeviceError, CommandFailed."""
        remote = actor.device.remote
        if remote is not None:
            (reading,) = await actor.poller.ask([actor.device.tags[remote.tag].group])
            check_remote(actor.device, good_values([reading]))

    def _check_deadline(self, command: Delivery[Call]) -> None:
        if self._clock.monotonic() >= command.deadline_s:
            message = f"{command.payload.function} was not called: its deadline passed before it could begin"
            raise Refused(ErrorCode.TIMEOUT, message)

    async def _run(
        self, actor: Actor, name: str, function: FunctionManifest, inputs: Mapping[str, Value], story: Story
    ) -> Mapping[str, Value]:
        device = actor.poller.device
        if not isinstance(device, Calls):
            raise CommandFailed(ErrorCode.NOT_FOUND, f"the driver of {self._device} cannot call functions")
        story.tell("call.executing")
        timeout_s = function.timeout_s or TIMEOUT_S
        try:
            async with asyncio.timeout(timeout_s):
                outputs = await device.call(name, inputs)
        except TimeoutError:
            message = f"{name} did not end within {timeout_s:g} s; what it does now is unknown"
            raise CommandFailed(ErrorCode.TIMEOUT, message) from None
        except DeviceError as error:
            code = _CODES.get(error.cause)
            message = f"{name}: {error}" if code else f"{name}: outcome unknown, {error}"
            raise CommandFailed(code or ErrorCode.INTERNAL, message) from error
        broken = unkept_promise(outputs, function)
        if broken:
            raise CommandFailed(ErrorCode.INTERNAL, f"{name} was done, but the driver broke its promise: {broken}")
        return {output: wire_value(value) for output, value in outputs.items()}

    def _story(self, command: Delivery[Call]) -> Story:
        call = command.payload
        who = asker(command.levels["user"], call)
        note = {"function": call.function, "inputs": dict(call.inputs), **who.note}
        return Story(self._events, self._clock, self._device, who.user, note)
