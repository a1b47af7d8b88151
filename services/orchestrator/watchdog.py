"""What the death of a gateway means for its devices and their tags. Pure.

The broker keeps what a dead gateway retained: its devices would look well, and its tags good, until they expire. So
whoever watches marks them, once per death, and leaves them to the gateway as soon as it speaks again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from contracts.v1.device import GATEWAY_LOST, DeviceInfo, DeviceState, DeviceStatus
from contracts.v1.service import ServiceState, ServiceStatus

STOPPED = "stopped"
"""The cause of a device whose gateway has stopped in good order, and has itself told that its tags are bad."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A device whose gateway has died: it is offline, and these tags are bad.

    state: what the gateway last said of it. units: of its tags by name.
    """

    device: str
    state: DeviceState
    units: Mapping[str, str | None]


@dataclass(slots=True)
class _Gateway:
    """sid: of its last birth. starting: of who has said that it starts, perhaps somebody else who only asks whether the
    name is free (services.runtime.bus.vacancy). sids: all that have lived or died."""

    sid: str | None = None
    starting: str | None = None
    dead: bool = False
    sids: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Claim:
    """What a gateway last said of a device. retained: it stood there before we looked."""

    state: DeviceState
    retained: bool


class Watchdog:
    """What is known of gateways and their devices, and what follows from it: marks, to be published.

    A death counts if its sid is that of the gateway's last birth, so that a will which comes late, after the gateway
    has begun anew, marks nothing; or if it is what the broker retains, which is then the last word. The parameter
    `retained` says so: the message stood there before we subscribed.
    """

    def __init__(self) -> None:
        self._gateways: dict[str, _Gateway] = {}
        self._infos: dict[str, DeviceInfo] = {}
        self._claims: dict[str, _Claim] = {}
        self._marked: dict[str, tuple[str, str]] = {}

    def on_service(self, instance: str, state: ServiceState, *, retained: bool = False) -> list[Mark]:
        """A gateway's presence; gives what is to be marked for its death."""
        gateway = self._gateways.setdefault(instance, _Gateway())
        if state.state is ServiceStatus.STARTING:
            gateway.starting = state.sid
            return []
        dead = state.state is ServiceStatus.OFFLINE
        if dead and gateway.sid is not None and state.sid not in {gateway.sid, gateway.starting} and not retained:
            return []
        gateway.sid, gateway.dead = state.sid, dead
        gateway.sids.add(state.sid)
        marks = [self._mark(device) for device in sorted(self._claims)] if dead else []
        return [mark for mark in marks if mark is not None]

    def on_state(self, device: str, state: DeviceState | None, *, retained: bool = False) -> Mark | None:
        """How a device is, as its topic says; None: cleared. Our own mark comes back here too."""
        if state is None:
            self._claims.pop(device, None)
            self._marked.pop(device, None)
            return None
        if state.cause == GATEWAY_LOST and device in self._marked:
            return None
        self._claims[device] = _Claim(state, retained)
        self._marked.pop(device, None)  # its gateway has spoken, or another one
        if state.cause == GATEWAY_LOST:  # of an earlier session of ours
            self._marked[device] = (state.gateway, state.sid)
        return self._mark(device)

    def on_info(self, device: str, info: DeviceInfo | None) -> Mark | None:
        """What a device is; None: cleared."""
        if info is None:
            self._infos.pop(device, None)
            return None
        self._infos[device] = info
        return self._mark(device)

    def stands(self, mark: Mark) -> bool:
        """Whether the gateway is still dead, and the device still its: asked between publications."""
        return self._marked.get(mark.device) == (mark.state.gateway, mark.state.sid) and self._is_dead(mark.device)

    def last_said(self, device: str) -> DeviceState | None:
        """What a gateway, perhaps another one by now, last said of the device; None if it is gone."""
        claim = self._claims.get(device)
        return claim.state if claim else None

    def _is_dead(self, device: str) -> bool:
        """Whether the gateway that last spoke of the device has died since."""
        claim = self._claims[device]
        gateway = self._gateways.get(claim.state.gateway)
        return gateway is not None and gateway.dead and (claim.retained or claim.state.sid in gateway.sids)

    def _mark(self, device: str) -> Mark | None:
        info, claim = self._infos.get(device), self._claims.get(device)
        if info is None or claim is None or info.gateway != claim.state.gateway or not self._is_dead(device):
            return None
        told = claim.state.state is DeviceStatus.DISABLED or claim.state.cause == STOPPED
        death = (claim.state.gateway, claim.state.sid)
        if told or self._marked.get(device) == death:
            return None
        self._marked[device] = death
        units = {tag: about.unit for tag, about in info.tags.items()}
        return Mark(device=device, state=claim.state, units=units)
