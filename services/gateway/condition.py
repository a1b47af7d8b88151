"""How a device is, as its state topic tells it: changes at once, figures at most once a second."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

from contracts.v1.device import DEVICE_STATE, Circuit, DeviceState, DeviceStatus
from plugins.api.clock import Clock
from plugins.api.driver import DeviceError
from services.runtime.bus.bus import Bus
from services.runtime.event_log import EventLog
from services.runtime.metrics import Metrics

_NUMBERS = {
    DeviceStatus.DISABLED: -1,
    DeviceStatus.OFFLINE: 0,
    DeviceStatus.STARTING: 1,
    DeviceStatus.DEGRADED: 2,
    DeviceStatus.ONLINE: 3,
}
DEVICE_AGGREGATE = "device"
HEALTH_CHECK_FAILED = "health_check_failed"
"""The event of a circuit that opens: so many failures in a row that the device is only probed from now on."""
_TOLD_SHARE = 0.05
"""A rate is told again when it has changed by more than this share of what was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """asked_hz, achieved_hz: polls per second over all polled groups. backlog: frames the broker has not taken."""

    asked_hz: float = 0.0
    achieved_hz: float = 0.0
    backlog: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Condition:
    status: DeviceStatus
    circuit: Circuit
    cause: str | None
    error: str | None


class DeviceCondition:
    """Publishes the state of one device, and tells each change of it. sid: of the gateway's present session.

    expected: groups that have begun on a connection that there was before, and have not answered yet. unheard: none of
    those has that were last expected.
    """

    def __init__(
        self, *, device: str, instance: str, sid: str, bus: Bus, events: EventLog, clock: Clock, metrics: Metrics
    ) -> None:
        self._device = device
        self._instance = instance
        self._sid = sid
        self._bus = bus
        self._events = events
        self._clock = clock
        self._metric = metrics.device_state.labels(device)
        self._now: _Condition | None = None
        self._since_ms = 0
        self._figures = Figures()
        self._fault: str | None = None
        self._blamed: str | None = None
        self.expected: frozenset[str] = frozenset()
        self.unheard = False
        self._changed = asyncio.Event()
        self._left = False

    @property
    def status(self) -> DeviceStatus | None:
        """What was last told; None before anything was."""
        return self._now.status if self._now else None

    @property
    def since_ms(self) -> int:
        """Since when the device has this status, in milliseconds since 1970 UTC."""
        return self._since_ms

    @property
    def cause(self) -> str | None:
        """Why the device is not well."""
        return self._now.cause if self._now else None

    @property
    def error(self) -> str | None:
        """What went wrong, for a person."""
        return self._now.error if self._now else None

    async def until(self, *, online_or: str | None = None) -> None:
        """Returns once the device is online and has answered for every group that is expected, or is offline for this
        cause; the caller sets the deadline."""
        while not self._as_expected and (online_or is None or self.cause != online_or):
            self._changed.clear()
            await self._changed.wait()

    @property
    def _as_expected(self) -> bool:
        return self.status is DeviceStatus.ONLINE and not self.expected

    def expect(self, groups: frozenset[str]) -> None:
        """These groups, and no others, are expected to answer."""
        self.expected = groups
        self.unheard = bool(groups)

    def heard(self, group: str) -> None:
        """The group has answered."""
        if group in self.expected:
            self.expected -= {group}
            self.unheard = False
            self._changed.set()

    def change(
        self,
        status: DeviceStatus,
        *,
        circuit: Circuit = Circuit.CLOSED,
        cause: str | None = None,
        error: str | None = None,
    ) -> None:
        """The device is in this condition from now on; publishes it if it was not before."""
        now = _Condition(status=status, circuit=circuit, cause=cause, error=error)
        if now == self._now:
            return
        if self._now is None or self._now.status != status:
            self._since_ms = self._clock.now_us() // 1000
            self._metric.set(_NUMBERS[status])
            if status in {DeviceStatus.OFFLINE, DeviceStatus.DISABLED}:
                self._figures = Figures(backlog=self._figures.backlog)
        before, self._now = self._now, now
        self._changed.set()
        self._publish()
        if not self._left:
            self._record(before, now)

    def degrade(self, group: str, error: DeviceError, *, circuit: Circuit, failing: Collection[str]) -> None:
        """The group failed while the connection stands. failing: all that do; one is told until it answers."""
        as_told = self.status is DeviceStatus.DEGRADED and self._now is not None and self._now.circuit is circuit
        if as_told and self._blamed != group and self._blamed in failing:
            return
        self._blamed = group
        self.change(DeviceStatus.DEGRADED, circuit=circuit, cause=error.cause, error=f"{group}: {error}")

    def tell(self, figures: Figures) -> None:
        """Publishes the figures if they have changed enough to be told. To be called about once a second.

        A device that is offline has none, though a connection may stand on which it is tried.
        """
        if self.status is DeviceStatus.OFFLINE:
            figures = Figures(backlog=figures.backlog)
        moved = abs(figures.achieved_hz - self._figures.achieved_hz)
        if (
            moved > _TOLD_SHARE * max(figures.asked_hz, figures.achieved_hz)
            or figures.asked_hz != self._figures.asked_hz
            or figures.backlog != self._figures.backlog
        ):
            self._figures = figures
            self._publish()

    def note_fault(self, fault: str | None) -> bool:
        """The device's file cannot be used any more, while the device goes on as the file before wanted it.

        Told as its error, with the cause `config`, unless there is something worse to tell. None: the file is right.
        Returns whether this is news.
        """
        if fault == self._fault:
            return False
        self._fault = fault
        self._publish()
        return True

    def repeat(self) -> None:
        """Publishes the state again: somebody else has written over it."""
        self._publish()

    def clear(self) -> None:
        """There is no such device any more.

        Told after all that was published of it before: another gateway may begin the device when it hears this.
        """
        self._now = None
        self._bus.disown(DEVICE_STATE, device=self._device)
        self._bus.retain(DEVICE_STATE, None, device=self._device)

    def leave(self) -> None:
        """The device's state is for another gateway to tell."""
        self._left = True
        self._bus.disown(DEVICE_STATE, device=self._device)

    def _record(self, before: _Condition | None, now: _Condition) -> None:
        """Tells the change as events: a new status, and a circuit that has opened, once until it has closed again."""
        data = {name: value for name, value in (("cause", now.cause), ("error", now.error)) if value is not None}
        if before is None or before.status is not now.status:
            self._events.tell(now.status.value, aggregate=DEVICE_AGGREGATE, id=self._device, data=data)
        if now.circuit is not Circuit.CLOSED and (before is None or before.circuit is Circuit.CLOSED):
            self._events.tell(HEALTH_CHECK_FAILED, aggregate=DEVICE_AGGREGATE, id=self._device, data=data)

    def _publish(self) -> None:
        if self._now is None or self._left:
            return
        state = DeviceState(
            state=self._now.status,
            since=self._since_ms,
            gateway=self._instance,
            sid=self._sid,
            circuit=self._now.circuit,
            error=self._now.error or self._fault,
            cause=self._now.cause or ("config" if self._fault else None),
            asked_hz=round(self._figures.asked_hz, 3),
            achieved_hz=round(self._figures.achieved_hz, 3),
            backlog=self._figures.backlog or None,
        )
        self._bus.retain(DEVICE_STATE, state, device=self._device)
