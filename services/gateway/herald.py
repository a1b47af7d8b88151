"""What the gateway says of itself: presence, its drivers, device files that cannot run, and its health."""

import asyncio
from collections.abc import Callable, Iterable

from contracts.v1.plugin import PLUGIN
from contracts.v1.service import ServiceStatus
from plugins.api.clock import Clock
from plugins.api.registry import Plugin
from services.gateway.info import plugin_info
from services.gateway.journal_watch import JournalWatch
from services.runtime.bus import Bus
from services.runtime.health import Health
from services.runtime.journal import Journal
from services.runtime.logs import Log

PLUGIN_REFRESH_S = 300.0
"""Half of the time after which the broker forgets a plugin that nobody refreshes."""
LOOK_S = 1.0


class Herald:
    """The first part of the service to be stopped, so that its draining is told while the bus still works.

    plugins: the loaded drivers. devices: one line about the devices, for /health.
    """

    name = "herald"

    def __init__(
        self,
        *,
        instance: str,
        plugins: Callable[[], Iterable[Plugin]],
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
        self._stopping = asyncio.Event()
        for part in ("bus", "journal", "devices"):
            health.require(part)

    async def run(self) -> None:
        """Tells that the service is online, and refreshes what would expire, until stop()."""
        await self._bus.announce(ServiceStatus.ONLINE)
        since_ms = self._clock.now_us() // 1000
        refresh_at, told = self._clock.monotonic(), tuple[Plugin, ...]()
        while not self._stopping.is_set():
            plugins = tuple(self._plugins())
            if plugins != told or self._clock.monotonic() >= refresh_at:
                refresh_at = self._clock.monotonic() + PLUGIN_REFRESH_S
                self._tell_plugins(plugins, since_ms)
                told = plugins
            self._report()
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._stopping.wait()
            except TimeoutError:
                continue
        await self._bus.announce(ServiceStatus.DRAINING)

    async def stop(self) -> None:
        """Ends run()."""
        self._stopping.set()

    def _tell_plugins(self, plugins: Iterable[Plugin], since_ms: int) -> None:
        for plugin in plugins:
            info = plugin_info(plugin, instance=self._instance, since_ms=since_ms)
            self._bus.retain(PLUGIN, info, kind=info.kind, id=info.id, instance=self._instance)

    def _report(self) -> None:
        connected = self._bus.connected
        self._health.report("bus", connected, "" if connected else "not connected to the broker")
        self._watch.look()
        self._health.report("devices", True, self._devices())
