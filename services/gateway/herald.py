"""What the gateway says of itself: presence, its drivers, device files that cannot run, and its health."""

from collections.abc import Callable, Sequence

from contracts.v1.plugin import PLUGIN, PluginInfo
from contracts.v1.service import ServiceStatus
from plugins.api.clock import Clock
from services.runtime.bus.bus import Bus
from services.runtime.clock_watch import unset
from services.runtime.health import Health
from services.runtime.journal import Journal
from services.runtime.journal_watch import JournalWatch
from services.runtime.logs import Log
from services.runtime.stopping import Stopping

PLUGIN_REFRESH_S = 300.0
"""Half of the time after which the broker forgets a plugin that nobody refreshes."""
LOOK_S = 1.0


class Herald:
    """The first part of the service to be stopped, so that its draining is told while the bus still works.

    plugins: the drivers as they are loaded. devices: one line about the devices, for /health.
    """

    name = "herald"

    def __init__(
        self,
        *,
        instance: str,
        plugins: Callable[[], Sequence[PluginInfo]],
        devices: Callable[[], str],
        bus: Bus,
        journal: Journal,
        health: Health,
        clock: Clock,
        log: Log,
    ) -> None:
        self._instance = instance
        self._plugins = plugins
        self._devices = devices
        self._bus = bus
        self._health = health
        self._clock = clock
        self._watch = JournalWatch(journal=journal, health=health, clock=clock, log=log)
        self._stopping = Stopping()
        for part in ("bus", "journal", "devices"):
            health.require(part)

    async def run(self) -> None:
        """Tells that the service is online, and refreshes what would expire, until stop()."""
        await self._bus.announce(ServiceStatus.ONLINE)
        refresh_at, told = self._clock.monotonic(), tuple[PluginInfo, ...]()
        said: str | None = None
        while not self._stopping.is_set():
            plugins = tuple(self._plugins())
            if plugins != told or self._clock.monotonic() >= refresh_at:
                refresh_at = self._clock.monotonic() + PLUGIN_REFRESH_S
                self._tell_plugins(plugins)
                told = plugins
            problem = self._report()
            if problem != said:
                said = problem
                await self._bus.announce(ServiceStatus.ONLINE, problem=problem)
            await self._stopping.within(LOOK_S)
        await self._bus.announce(ServiceStatus.DRAINING)

    async def stop(self) -> None:
        """Ends run()."""
        self._stopping.set()

    def _tell_plugins(self, plugins: Sequence[PluginInfo]) -> None:
        for info in plugins:
            self._bus.retain(PLUGIN, info, kind=info.kind, id=info.id, instance=self._instance)

    def _report(self) -> str | None:
        """Reports to health; gives what is not well with the journal."""
        connected = self._bus.connected
        self._health.report("bus", connected, "" if connected else "not connected to the broker")
        self._health.report("devices", True, self._devices())
        journal = self._watch.look()  # reports to health, whatever the clock says
        return unset(self._clock.now_us()) or journal
