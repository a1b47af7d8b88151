"""Whether the name of a service instance is free, asked before its first connection.

Two connections under one client id throw each other out (MQTT 5.0, 3.1.4-3), and processes that are restarted when they
fail would do so for ever. So a newcomer asks first, under a client id of its own: it writes its presence over the
one that stands there, and who lives under that name says so again (defend()).
"""

import asyncio
from contextlib import suppress
from pathlib import Path

from contracts.codec import ContractError, decode, encode
from contracts.v1.service import SERVICE, ServiceState, ServiceStatus
from plugins.api.clock import Clock
from services.runtime.bus.bus import Bus
from services.runtime.bus.presence import Presence
from services.runtime.mqtt.connection import Connection
from services.runtime.mqtt.delivery import BusUnavailable, Delivery, InstanceTaken, Login
from services.runtime.mqtt.envelope import envelope_of
from services.runtime.settings import BrokerSettings

ANSWER_S = 2.0
"""How long who lives has to say so again."""
ECHO_S = 5.0
MOST_HEARD = 100
"""Words about one name that may wait to be looked at: more are dropped. If our own is among them, the start fails and
is tried again."""
SESSION_FILE = "session"


class Vacancy:
    """Asks for one instance. previous: the session before of the same data folder, which has ended."""

    def __init__(
        self, *, broker: BrokerSettings, site: str, login: Login, presence: Presence, previous: str | None, clock: Clock
    ) -> None:
        self._broker = broker
        self._login = Login(client_id=f"{presence.sid}-look", username=login.username, password=login.password)
        self._presence = presence
        self._previous = previous
        self._clock = clock
        self._topic = SERVICE.build(site=site, service=presence.service, instance=presence.instance)
        self._heard: asyncio.Queue[ServiceState] = asyncio.Queue(MOST_HEARD)

    async def check(self) -> None:
        """Returns if the name is free. Raises InstanceTaken, BusUnavailable."""
        connection = Connection(
            self._broker, login=self._login, will=None, deliver=self._deliver, now_s=self._clock.monotonic
        )
        async with connection.open():
            await connection.listen(self._topic, identifier=1, qos=SERVICE.qos, commands=False)
            await connection.publish_one(envelope_of(SERVICE, self._topic), encode(self._own(), topic=self._topic))
            other = await self._before_own()
            if other is not None and await self._lives(other):
                raise InstanceTaken(self._presence.service, self._presence.instance, other.sid)

    async def _before_own(self) -> ServiceState | None:
        """Who was said to be there, when that is neither gone nor the end of our own last session."""
        other: ServiceState | None = None
        try:
            async with asyncio.timeout(ECHO_S):
                while (state := await self._heard.get()).sid != self._presence.sid:
                    other = state
        except TimeoutError:
            raise BusUnavailable("the broker does not give our own presence back") from None
        if other is None or other.state is ServiceStatus.OFFLINE or other.sid == self._previous:
            return None
        return other

    async def _lives(self, other: ServiceState) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                while (state := await self._heard.get()).sid != other.sid:
                    continue
                return state.state is not ServiceStatus.OFFLINE
        return False

    def _own(self) -> ServiceState:
        return ServiceState(
            state=ServiceStatus.STARTING,
            sid=self._presence.sid,
            since=self._clock.now_us() // 1000,
            version=self._presence.version,
            instance=self._presence.instance,
        )

    def _deliver(self, _: list[int], message: Delivery[bytes]) -> None:
        with suppress(ContractError, asyncio.QueueFull):  # nothing that can be read: nobody who lives
            self._heard.put_nowait(decode(ServiceState, message.payload, topic=message.topic))


def defend(bus: Bus, presence: Presence) -> None:
    """Whoever asks whether this name is free hears that it is not: what is written over our presence, we say again."""

    async def on_presence(delivery: Delivery[ServiceState]) -> None:
        """What was said before we came (retained) asks nothing."""
        if delivery.payload.sid != presence.sid and not delivery.retained:
            await bus.announce_again()

    bus.subscribe(SERVICE, on_presence, service=presence.service, instance=presence.instance)


def exchange_session(folder: Path, sid: str) -> str | None:
    """Notes in the data folder that this session has begun, and gives the one before. Raises OSError if unreadable.

    A full disk does not take the note: the next start may then wait ANSWER_S longer.
    """
    path = folder / SESSION_FILE
    previous = path.read_text(encoding="utf-8").strip() if path.exists() else None
    with suppress(OSError):
        path.write_text(sid, encoding="utf-8")
    return previous
