"""What other gateways say of themselves: which devices they hold, and whether they live. Pure."""

from dataclasses import dataclass

from contracts.v1.device import DeviceState
from contracts.v1.service import ServiceState, ServiceStatus


@dataclass(frozen=True, slots=True)
class Holder:
    """A living gateway that says that it runs a device. first: it has been there for longer than we have."""

    gateway: str
    sid: str
    first: bool


class Neighbours:
    """The claims on devices as the bus has told them. instance, sid: our own."""

    def __init__(self, *, instance: str, sid: str) -> None:
        self._instance = instance
        self._sid = sid
        self._claims: dict[str, tuple[str, str]] = {}
        self._services: dict[str, ServiceState] = {}

    @property
    def met(self) -> bool:
        """Our own presence has come back to us: what the broker held before has come too."""
        own = self._services.get(self._instance)
        return own is not None and own.sid == self._sid

    def on_state(self, device: str, state: DeviceState | None) -> None:
        """A device's state; None: it was cleared."""
        if state is None:
            self._claims.pop(device, None)
        else:
            self._claims[device] = (state.gateway, state.sid)

    def on_service(self, instance: str, state: ServiceState) -> None:
        """A gateway's presence, our own too.

        Who only starts may be somebody else who asks whether the name is free: what was known of the name still holds.
        """
        if state.state is not ServiceStatus.STARTING or instance == self._instance:
            self._services[instance] = state

    def holder(self, device: str) -> Holder | None:
        """Another gateway that runs the device. One that has died, or begun anew since, holds nothing."""
        gateway, sid = self._claims.get(device, (self._instance, ""))
        service = self._services.get(gateway)
        if gateway == self._instance or service is None:
            return None
        if service.state is ServiceStatus.OFFLINE or service.sid != sid:
            return None
        own = self._services.get(self._instance)
        first = own is None or (service.since, gateway) < (own.since, self._instance)
        return Holder(gateway, sid, first)
