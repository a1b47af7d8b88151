"""What the identity service says of itself: its presence, and its health."""

from contextlib import suppress

from contracts.v1.service import ServiceStatus
from plugins.api.clock import Clock
from services.identity.register import Register
from services.identity.roster import UserRefused
from services.runtime.bus.bus import Bus
from services.runtime.health import Health
from services.runtime.journal import Journal
from services.runtime.journal_watch import JournalWatch
from services.runtime.logs import Log
from services.runtime.stopping import Stopping

LOOK_S = 1.0


class Herald:
    """The first part to be stopped, so that the draining is told while the bus still works."""

    name = "herald"

    def __init__(
        self, *, register: Register, bus: Bus, journal: Journal, health: Health, clock: Clock, log: Log
    ) -> None:
        self._register = register
        self._bus = bus
        self._health = health
        self._watch = JournalWatch(journal=journal, health=health, clock=clock, log=log)
        self._stopping = Stopping()
        for part in ("bus", "journal", "users"):
            health.require(part)

    async def run(self) -> None:
        """Tells that the service is online, and what is not well with it, until stop()."""
        said: tuple[str | None] | None = None
        while not self._stopping.is_set():
            problem = self._report()
            if (problem,) != said:
                said = (problem,)
                await self._bus.announce(ServiceStatus.ONLINE, problem=problem)
            await self._stopping.within(LOOK_S)
        await self._bus.announce(ServiceStatus.DRAINING)

    async def stop(self) -> None:
        """Ends run()."""
        self._stopping.set()

    def _report(self) -> str | None:
        """Reports to health; gives what is not well."""
        connected = self._bus.connected
        self._health.report("bus", connected, "" if connected else "not connected to the broker")
        known, problem = 0, self._register.problem
        with suppress(UserRefused):
            known = len(self._register.users)
        self._health.report("users", problem is None and known > 0, problem or f"{known} users")
        return self._watch.look() or problem
