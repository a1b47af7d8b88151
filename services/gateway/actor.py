"""One device's life: connect, poll and follow, say honestly how it is, and try again for ever.

    starting --open, read--> online <--> degraded (some groups fail)
        |                      | every group fails, or the connection breaks
        +----open fails------> offline --back-off, probe--> online

A lost connection is taken up again at once, then after waits. A device that does not answer is sought every 1.5 s: it
is back within two, however long it was away. One that refuses is left alone for ever longer, since a wrong password
tried so often would lock an account. Failures in a row are counted over connections; five open the circuit, whose
probes keep to these waits. It only says how often to try: the tags are bad from the first failure on.
"""

import asyncio
import sys
from collections.abc import Callable, Collection
from functools import partial

from contracts.v1.command import ErrorCode
from contracts.v1.device import DEVICE, Circuit, DeviceStatus
from plugins.api.clock import Clock
from plugins.api.driver import DeviceError, Reading
from plugins.api.registry import place_of
from services.gateway.condition import DeviceCondition, Figures
from services.gateway.device_file import DeviceFile
from services.gateway.info import device_info
from services.gateway.lane import SILENCE
from services.gateway.outputs import OpenOutputs, Outputs
from services.gateway.poller import Poller
from services.gateway.publisher import Publisher
from services.gateway.remarks import RemarkLog
from services.gateway.schedule import Rate
from services.gateway.tally import Tally
from services.runtime.breaker import Breaker
from services.runtime.bus.bus import Bus, CommandFailed
from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.retry import Backoff

REWORK_S = 10.0
"""How long a change of the device's file may wait for what is being asked of the device, before that is cut off."""
STEADY_S = 5.0
"""A connection that worked for so long and breaks is taken up again without a wait."""
STOPPED, DISABLED, CRASHED = "stopped", "disabled", "internal"
"""Causes that stand in a device's state when it is not the device's fault."""


class Actor:
    """Runs one device; run() is kept by a Supervisor and may be called again after a crash.

    open_outputs: see Outputs. backoff: makes the waits between attempts.
    """

    def __init__(
        self,
        *,
        device: DeviceFile,
        instance: str,
        condition: DeviceCondition,
        open_outputs: OpenOutputs,
        publisher: Publisher,
        bus: Bus,
        clock: Clock,
        metrics: Metrics,
        log: Log,
        backoff: Callable[[], Backoff],
    ) -> None:
        self.name = f"device.{device.name}"
        self.device = device
        self._instance = instance
        self._condition = condition
        self._outputs = Outputs(open_outputs=open_outputs, clock=clock, tick=self._tell_figures)
        self._publisher = publisher
        self._bus = bus
        self._clock = clock
        self._tally = Tally(device.name, metrics)
        self._log = log.bind(device=device.name)
        self._remarks = RemarkLog(self._log)
        self._new_backoff = backoff
        self._backoff = backoff()
        self._breaker = Breaker(backoff=self._backoff)
        self._rate = Rate(start=clock.monotonic())
        self._poller: Poller | None = None
        self._steady_at = float("inf")

    async def run(self) -> None:
        """Runs the device until it is cancelled, its clean end. Any other exception is a bug, mostly of the driver."""
        cause = CRASHED
        try:
            if not self._outputs.epochs:
                self._begin()
            if not self.device.enabled:
                cause = DISABLED
                return
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._outputs.keep(), name=f"{self.name}.house")
                await self._live()
        except asyncio.CancelledError:
            cause = STOPPED
            raise
        finally:
            self._poller = None
            self._end(cause, sys.exception())

    def revise(self, device: DeviceFile) -> None:
        """The device is told of in this way from now on; it goes on working."""
        self.device = device
        self._outputs.revise(device)
        if self._outputs.epochs:
            self._describe()

    async def rework(self, device: DeviceFile, *, gone: Callable[[Collection[str]], None]) -> bool:
        """The device does what this file asks for, on the connection that it has: groups that stay the same go on.

        gone: is told the tags that it has no more. Whether it does so; if not, it must begin anew.
        """
        poller = self._poller
        if poller is None:
            return False
        try:
            async with asyncio.timeout(REWORK_S):
                await poller.revise(device.spec, partial(self._renew, poller, device, gone))
        except (DeviceError, TimeoutError) as error:
            self._log.warning("connection_not_kept", error=str(error) or f"not done within {REWORK_S:g} s")
            return False
        return True

    def leave(self) -> None:
        """The device is another gateway's: its topics are no longer ours to write, not even at the end."""
        self._outputs.leave()
        self._condition.leave()
        self._bus.disown(DEVICE, device=self.device.name)

    @property
    def poller(self) -> Poller:
        """What works on the device now. Raises CommandFailed: device_unavailable."""
        if self._poller is None:
            raise self.unavailable(f"{self.device.name} is {self._condition.status or DeviceStatus.STARTING}")
        return self._poller

    @property
    def answering(self) -> bool:
        """Whether there is a connection to ask the device on."""
        return self._poller is not None

    def unavailable(self, message: str) -> CommandFailed:
        """The answer to who wants something of the device while it is away."""
        detail = {"since": self._condition.since_ms, "cause": self._condition.cause}
        return CommandFailed(ErrorCode.DEVICE_UNAVAILABLE, message, detail=detail)

    def offer(self, group: str, reading: Reading) -> None:
        """The group was read beside its polls: what came is published like a poll. A subscribed group tells by itself.

        Raises DeviceError on what cannot be sent.
        """
        if group not in self._outputs.subscribed:
            self.on_reading(group, reading)

    def on_reading(self, group: str, reading: Reading) -> None:
        """See poller.Listener."""
        returned = self._outputs.take(group, reading)
        self._breaker.on_success()
        self._condition.heard(group)
        if returned or self._condition.status is not DeviceStatus.ONLINE:
            self._answered()

    def on_failure(self, group: str, error: DeviceError) -> None:
        """See poller.Listener."""
        self._count(error)
        self._outputs.fail(error.cause, code=error.code, group=group)
        circuit = self._poller.circuit if self._poller else self._breaker.state
        self._condition.degrade(group, error, circuit=circuit, failing=self._outputs.failing)

    def on_poll(self, reading: Reading | None, *, seconds: float, overruns: int) -> None:
        """See poller.Listener."""
        self._rate.count += 1
        self._tally.polled(reading, seconds=seconds, overruns=overruns)

    def _begin(self) -> None:
        self._condition.change(DeviceStatus.STARTING)
        self._condition.expect(frozenset())
        self._outputs.open(self.device)
        self._describe()
        self._outputs.begin(self._outputs.epochs)

    def _renew(self, poller: Poller, device: DeviceFile, gone: Callable[[Collection[str]], None]) -> None:
        """The groups that have changed end here and begin anew; see Poller.revise."""
        new = self._outputs.renew(self.device, device)
        gone(self.device.tags.keys() - device.tags.keys())
        self._outputs.subscribed = poller.subscribed
        self._condition.expect((self._condition.expected | new) & self._outputs.epochs.keys())
        self.revise(device)
        self._outputs.begin(new)

    def _describe(self) -> None:
        outputs = self._outputs
        info = device_info(self.device, instance=self._instance, epochs=outputs.epochs, subscribed=outputs.subscribed)
        self._bus.retain(DEVICE, info, device=self.device.name)

    async def _live(self) -> None:
        while True:
            lost = await self._connection()
            self._poller = None
            if lost is not None:
                await self._lost(lost)

    async def _connection(self) -> DeviceError | None:
        """Works on one connection; returns why it was lost."""
        lost: BaseException | None = None
        try:
            await self._connect()
        except* DeviceError as errors:
            lost = _first(errors)
        return lost if isinstance(lost, DeviceError) else None

    async def _connect(self) -> None:
        async with self.device.plugin.entry.open(self.device.spec, clock=self._clock) as device:
            poller = Poller(
                device=device,
                spec=self.device.spec,
                listener=self,
                room=self._publisher.room,
                quiet=self._bus.quiet,
                clock=self._clock,
                backoff=self._new_backoff,
            )
            if poller.subscribed != self._outputs.subscribed:
                self._outputs.subscribed = poller.subscribed
                self._describe()
            self._poller = poller
            self._remarks.follow(device)
            self._steady_at = self._clock.monotonic() + STEADY_S
            await poller.run()

    async def _lost(self, error: DeviceError) -> None:
        """The device is away; returns when it is to be tried again."""
        before = self._condition.status
        answered = before in {DeviceStatus.ONLINE, DeviceStatus.DEGRADED}
        steady = answered and self._clock.monotonic() >= self._steady_at
        self._count(error)
        self._outputs.fail(error.cause, code=error.code)
        self._away(error)
        if before is not DeviceStatus.OFFLINE:
            self._log.warning("device_lost" if answered else "device_not_reached", cause=error.cause, error=str(error))
        if self._breaker.state is not Circuit.CLOSED:
            await asyncio.sleep(max(0.0, self._breaker.retry_at - self._clock.monotonic()))
            self._breaker.may_try(max(self._clock.monotonic(), self._breaker.retry_at))
            if error.cause != SILENCE:  # so many probes of a silent one are no news
                self._away(error)
        elif not steady:
            await asyncio.sleep(self._backoff.next(silent=error.cause == SILENCE))

    def _away(self, error: DeviceError) -> None:
        self._condition.change(DeviceStatus.OFFLINE, circuit=self._breaker.state, cause=error.cause, error=str(error))

    def _answered(self) -> None:
        """A reading came while the device was not known to be online."""
        failing = self._outputs.failing
        if not failing:
            self._condition.change(DeviceStatus.ONLINE)
            self._log.info("device_online")
        elif self._condition.status is not DeviceStatus.DEGRADED:
            self._condition.change(DeviceStatus.DEGRADED, cause="comm", error=f"no values yet of {', '.join(failing)}")

    def _count(self, error: DeviceError) -> None:
        self._breaker.on_failure(self._clock.monotonic(), silent=error.cause == SILENCE)
        self._tally.failed(error.cause)

    def _tell_figures(self, now: float) -> None:
        self._remarks.tell()
        asked_hz = self._poller.asked_hz if self._poller else 0.0
        achieved_hz = self._rate.per_second(now)
        self._condition.tell(Figures(asked_hz=asked_hz, achieved_hz=achieved_hz, backlog=self._outputs.backlog))

    def _end(self, cause: str, error: BaseException | None) -> None:
        """Nobody may read a value as good from now on."""
        if cause == CRASHED:
            self._outputs.fail("comm")
        else:
            self._outputs.close("comm" if cause == STOPPED else cause)
        if cause == DISABLED:
            self._condition.change(DeviceStatus.DISABLED, cause=cause)
        else:
            text = self._bug(_first(error)) if cause == CRASHED and error else None
            self._condition.change(DeviceStatus.OFFLINE, cause=cause, error=text)

    def _bug(self, error: BaseException) -> str:
        """What happened, and where in the driver's code."""
        return f"{place_of(error, self.device.plugin.folder)}: {type(error).__name__}: {error}"


def _first(error: BaseException) -> BaseException:
    """What was raised, without the groups around it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
