"""The last values of a site as its retained topics tell them, how far they can be trusted, and what is missing."""

from collections.abc import Iterator
from dataclasses import dataclass

from contracts.tag_pattern import matches
from contracts.v1.alarm import Alarm, AlarmStatus
from contracts.v1.device import DeviceInfo, DeviceState, DeviceStatus, tag_hash
from contracts.v1.frame import BAD, GOOD, UNCERTAIN
from contracts.v1.message import Value
from contracts.v1.pipeline import PipelineInfo
from contracts.v1.run import RunState
from contracts.v1.service import ServiceState, ServiceStatus
from contracts.v1.tag import TagValue

GATEWAY = "gateway"


@dataclass(frozen=True, slots=True)
class Row:
    """One tag as it stands now.

    q, cause: as published, but bad (gateway_lost, offline, disabled) while the gateway or the device is away.
    ts: source time in milliseconds since 1970 UTC; None for a tag that was announced but has no value yet.
    """

    device: str
    tag: str
    value: Value
    unit: str | None
    q: int
    cause: str | None
    ts: int | None


class Picture:
    """Everything retained that was received so far, by name. The caller fills it."""

    def __init__(self) -> None:
        self.devices: dict[str, DeviceInfo] = {}
        self.states: dict[str, DeviceState] = {}
        self.services: dict[tuple[str, str], ServiceState] = {}
        self.values: dict[tuple[str, str], TagValue] = {}
        self.pipelines: dict[tuple[str, str], PipelineInfo] = {}
        self.runs: dict[tuple[str, str], RunState] = {}
        """Of each pipeline the latest."""
        self.alarms: dict[tuple[str, str], Alarm] = {}

    def see_run(self, run: RunState) -> None:
        """How a run stands; names of runs begin with their time. One in the shadow is none of the pipeline's own."""
        latest = self.runs.get((run.scope, run.pipeline))
        if not run.shadow and (latest is None or run.run >= latest.run):
            self.runs[run.scope, run.pipeline] = run

    def raised(self) -> list[Alarm]:
        """The alarms that are raised or not acknowledged, the most urgent first; those on a shelf trouble nobody."""
        alarms = (one for one in self.alarms.values() if one.state is not AlarmStatus.NORMAL and not one.shelved_until)
        return sorted(alarms, key=lambda one: (one.priority, one.since))

    @property
    def size(self) -> int:
        """How many topics the picture of the machines is made of."""
        return len(self.devices) + len(self.states) + len(self.services) + len(self.values)

    def gateway_of(self, device: str) -> str | None:
        """The gateway that tells of the device."""
        state = self.states.get(device)
        return state.gateway if state else None

    def rows(self, pattern: str = "*") -> list[Row]:
        """The tags that match, in order of device and tag, announced ones without a value among them."""
        announced = {(device, tag) for device, info in self.devices.items() for tag in info.tags}
        return [self._row(*name) for name in sorted(announced | set(self.values)) if matches(pattern, *name)]

    def missing(self) -> list[str]:
        """What keeps the picture from being whole: a line for each device with something not yet seen."""
        return list(self._missing())

    def _missing(self) -> Iterator[str]:
        # Values of what has neither a state nor a description are those that pipelines derive.
        for device in sorted(self.states.keys() - self.devices.keys()):
            yield f"{device}: its description (tags, types, units)"
        for device, info in sorted(self.devices.items()):
            tags = sorted(tag for tag in info.tags if (device, tag) not in self.values)
            if len(info.tags) != info.tag_count or tag_hash(info.tags) != info.tag_hash:
                yield f"{device}: its description names {len(info.tags)} of its {info.tag_count} tags"
            if tags:
                shown = ", ".join(tags[:3]) + (", ..." if len(tags) > 3 else "")
                yield f"{device}: {len(tags)} of {info.tag_count} tags have no value ({shown})"

    def _row(self, device: str, tag: str) -> Row:
        info = self.devices.get(device)
        unit = info.tags[tag].unit if info and tag in info.tags else None
        value = self.values.get((device, tag))
        if value is None:
            return Row(device, tag, None, unit, BAD, self._away(device) or "missing", None)
        away = self._away(device)
        q, cause = (BAD, away) if away else (value.q, value.cause)
        return Row(device, tag, value.value, value.unit or unit, q, cause, value.ts)

    def _away(self, device: str) -> str | None:
        """Why no value of this device can be current, whatever its tag topic says."""
        state = self.states.get(device)
        if state is None:
            return None
        gateway = self.services.get((GATEWAY, state.gateway))
        if gateway is not None and gateway.state is ServiceStatus.OFFLINE:
            return "gateway_lost"
        return str(state.state) if state.state in (DeviceStatus.OFFLINE, DeviceStatus.DISABLED) else None


def quality_word(q: int) -> str:
    """good, uncertain or bad, as the two highest bits of the classic OPC quality say it (OPC DA 3.0, 6.8)."""
    if q >= GOOD:
        return "good"
    return "uncertain" if q >= UNCERTAIN else "bad"
