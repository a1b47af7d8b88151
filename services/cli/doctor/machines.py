"""Whether the devices answer, and as often as their files ask for."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from contracts.v1.device import DEVICE_STATE, DeviceState, DeviceStatus
from services.cli.doctor.finding import Finding, State
from services.cli.doctor.sight import Sight

SHARE = 0.9
"""Of the polls that were asked for: fewer are worth a word."""
SETTLED_S = 30.0
"""The rate is told as a mean; so long after it came online a device's is one."""


@dataclass(frozen=True, slots=True)
class Devices:
    """Each device's state and rate."""

    name: ClassVar[str] = "devices"

    sight: Sight
    settled_s: float = SETTLED_S

    def findings(self) -> Iterator[Finding]:
        """Those that are not well, or one for all."""
        well = 0
        for seen, state in sorted(self.sight.of(DEVICE_STATE), key=lambda one: one[0].levels["device"]):
            found = self._of(seen.levels["device"], state, seen.us)
            if found:
                yield found
            else:
                well += 1
        if well:
            yield Finding(State.OK, f"{well} devices answer as often as they are asked")

    def _of(self, device: str, state: DeviceState, now_us: int) -> Finding | None:
        if state.state is DeviceStatus.DISABLED:
            return Finding(State.WARN, f"{device} is disabled: `dinrail device enable {device}` sets it to work")
        if state.state in (DeviceStatus.OFFLINE, DeviceStatus.DEGRADED):
            bad = State.FAIL if state.state is DeviceStatus.OFFLINE else State.WARN
            why = f"{state.error or 'no reason told'} (cause {state.cause or 'unknown'})"
            return Finding(bad, f"{device} is {state.state}: {why}; docs/devices.md tells the causes")
        settled = now_us / 1e6 - state.since / 1e3 >= self.settled_s
        if state.state is DeviceStatus.ONLINE and settled and state.achieved_hz < SHARE * state.asked_hz:
            return Finding(
                State.WARN,
                f"{device} is polled {state.achieved_hz:.3g} times a second instead of {state.asked_hz:.3g}: ask less "
                "often, for fewer or closer tags, or over a second connection; `dinrail check` computes what fits",
            )
        return None
