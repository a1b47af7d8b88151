"""What the orchestrator says of itself: its presence, and its health."""

from collections.abc import Callable

from contracts.v1.service import ServiceStatus
from plugins.api.clock import Clock
from services.runtime.bus.bus import Bus
from services.runtime.health import Health
from services.runtime.journal import Journal
from services.runtime.journal_watch import JournalWatch
from services.runtime.logs import Log
from services.runtime.stopping import Stopping

LOOK_S = 1.0


class Herald:
    """The first part to be stopped, so that the draining is told while the bus still works.

    runs: one line about the runs, for /health.
    """

    name = "herald"

    def __init__(
        self, *, runs: Callable[[], str], bus: Bus, journal: Journal, health: Health, clock: Clock, log: Log
    ) -> None:
        self._runs = runs
        self._bus = bus
        self._health = health
        self._watch = JournalWatch(journal=journal, health=health, clock=clock, log=log)
        self._stopping = Stopping()
        for part in ("bus", "journal", "runs"):
            health.require(part)

    async def run(self) -> None:
        """Tells that the service is online, and what is not well with it, until stop()."""
        await self._bus.announce(ServiceStatus.ONLINE)
        said: str | None = None
        while not self._stopping.is_set():
            problem = self._report()
            if problem != said:
                said = problem
                await self._bus.announce(ServiceStatus.ONLINE, problem=problem)
            await self._stopping.within(LOOK_S)
        await self._bus.announce(ServiceStatus.DRAINING)

    async def stop(self) -> None:
        """Ends run()."""
        self._stopping.set()

    def _report(self) -> str | None:
        """Reports to health; gives what is not well with the journal."""
        connected = self._bus.connected
        self._health.report("bus", connected, "" if connected else "not connected to the broker")
        self._health.report("runs", True, self._runs())
        return self._watch.look()
