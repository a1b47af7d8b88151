"""What a service says of itself on the bus, and what the broker says when it is gone."""

from dataclasses import dataclass

from contracts.v1.service import SERVICE, ServiceState, ServiceStatus
from plugins.api.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """Who a service instance is. sid: new at every start (see contracts.v1.service.ServiceState)."""

    service: str
    instance: str
    sid: str
    version: str

    def topic(self, site: str) -> str:
        """Where the instance's state stands, retained."""
        return SERVICE.build(site=site, service=self.service, instance=self.instance)

    def state(self, status: ServiceStatus, *, since_ms: int) -> ServiceState:
        """The instance's state. since_ms: milliseconds since 1970 UTC."""
        return ServiceState(state=status, sid=self.sid, since=since_ms, version=self.version, instance=self.instance)


class Announcement:
    """The state that a service was last said to be in: `starting` until told otherwise."""

    def __init__(self, presence: Presence, *, clock: Clock) -> None:
        self.presence = presence
        self._clock = clock
        self.change(ServiceStatus.STARTING)

    def change(self, status: ServiceStatus) -> None:
        """This is the state from now on."""
        self.state = self.presence.state(status, since_ms=self._now_ms())

    def will(self) -> ServiceState:
        """What the broker shall say when the connection breaks. Its time is that of the connection's begin: nobody
        knows yet when it will end."""
        return self.presence.state(ServiceStatus.OFFLINE, since_ms=self._now_ms())

    def _now_ms(self) -> int:
        return self._clock.now_us() // 1000
