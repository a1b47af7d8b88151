"""What the broker keeps for clients that are away, without an end."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar
from uuid import uuid4

from contracts.acl import BROKER_AWAY, HEALTH
from services.cli.doctor.finding import Finding, State
from services.cli.site import Site
from services.runtime.bus.bus import BusError, Delivery
from services.runtime.mqtt.connection import Connection
from services.runtime.mqtt.delivery import Login
from services.runtime.settings import BrokerSettings

MOST_AWAY = 3
"""A recorder or two and the orchestrator may be away for a while, and mean to come back."""
ANSWER_S = 3.0


@dataclass(frozen=True, slots=True)
class Sessions:
    """Those of clients that are away, as the broker counts them every 10 s."""

    name: ClassVar[str] = "sessions"

    site: Site
    broker: BrokerSettings

    def findings(self) -> Iterator[Finding]:
        """One; none where the password is not here or the broker does not tell, which other checks name."""
        away = None
        with suppress(OSError, UnicodeDecodeError, BusError, ValueError):
            password = self.site.password(HEALTH.name).read_text(encoding="utf-8").rstrip("\r\n")
            away = asyncio.run(_away(self.broker, password))
        if away is None:
            return
        said = f"the broker keeps {away} sessions of clients that are away"
        if away <= MOST_AWAY:
            yield Finding(State.OK, said)
            return
        yield Finding(
            State.WARN,
            f"{said}, for ever, each with up to 200000 messages: they fill its memory, and it stands still while it "
            "saves them. A tool that does not ask for a clean session, under another client id each time, leaves them: "
            "set a clean session, or a fixed id, in the tool; docs/no-loss.md tells how to end them",
        )


async def _away(broker: BrokerSettings, password: str) -> int | None:
    """Raises BusError, and ValueError: it tells no number."""
    told: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def deliver(_numbers: list[int], message: Delivery[bytes]) -> None:
        """Keeps the first word."""
        if not told.done():
            told.set_result(message.payload)

    login = Login(client_id=f"doctor-{uuid4().hex[:12]}", username=HEALTH.name, password=lambda: password)
    connection = Connection(broker, login=login, will=None, deliver=deliver, now_s=time.monotonic)
    async with connection.open():
        await connection.listen(BROKER_AWAY, identifier=1, qos=0, commands=False)
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                return max(int(await told), 0)  # it takes off connections that have not logged in yet
    return None
