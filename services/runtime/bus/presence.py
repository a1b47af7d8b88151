"""What a service says of itself on the bus, and what the broker says when it is gone."""

from dataclasses import dataclass

from contracts.codec import encode
from contracts.v1.service import SERVICE, WILL_EXPIRY_S, ServiceState, ServiceStatus
from plugins.api.clock import Clock
from services.runtime.logs import Log
from services.runtime.mqtt.connection import Connection
from services.runtime.mqtt.delivery import PublishRefused
from services.runtime.mqtt.envelope import envelope_of
from services.runtime.mqtt.properties import Will


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """Who a service instance is. sid: new at every start (see contracts.v1.service.ServiceState)."""

    service: str
    instance: str
    sid: str
    version: str


class Announcer:
    """Says in which state the service is: `starting` until told otherwise. Without a presence it says nothing."""

    def __init__(self, presence: Presence | None, *, site: str, clock: Clock, log: Log) -> None:
        self._presence = presence
        self._topic = ""
        if presence is not None:
            self._topic = SERVICE.build(site=site, service=presence.service, instance=presence.instance)
        self._clock = clock
        self._log = log
        self.change(ServiceStatus.STARTING)

    def change(self, status: ServiceStatus, *, problem: str | None = None) -> None:
        """This is the state from now on. problem: what is not well."""
        self._payload = self._state(status, problem)

    def will(self) -> Will | None:
        """What the broker shall say when the connection breaks.

        Its time is that of the connection's begin: nobody can know yet when it will end.
        """
        payload = self._state(ServiceStatus.OFFLINE)
        return None if payload is None else Will(topic=self._topic, payload=payload, expiry_s=WILL_EXPIRY_S)

    async def publish(self, connection: Connection) -> None:
        """Says it, retained. Raises BusUnavailable."""
        if self._payload is None:
            return
        try:
            await connection.publish_one(envelope_of(SERVICE, self._topic), self._payload)
        except PublishRefused as error:
            self._log.error("presence_refused", error=str(error))

    def _state(self, status: ServiceStatus, problem: str | None = None) -> bytes | None:
        if self._presence is None:
            return None
        state = ServiceState(
            state=status,
            sid=self._presence.sid,
            since=self._clock.now_us() // 1000,
            version=self._presence.version,
            instance=self._presence.instance,
            problem=problem,
        )
        return encode(state, topic=self._topic)
