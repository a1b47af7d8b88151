"""What the compute service says of itself: presence, its functions, and its health."""

import asyncio
from contextlib import suppress

from contracts.v1.plugin import PLUGIN, PluginInfo
from contracts.v1.service import ServiceStatus
from plugins.api.clock import Clock
from services.compute.backend import Backend
from services.compute.workshop import Workshop
from services.runtime.bus.bus import Bus
from services.runtime.health import Health

PLUGIN_REFRESH_S = 300.0
"""Half of the time after which the broker forgets a plugin that nobody refreshes."""
LOOK_S = 1.0


class Herald:
    """The first part of the service to be stopped, so that its draining is told while the bus still works."""

    name = "herald"

    def __init__(
        self, *, instance: str, workshop: Workshop, backend: Backend, bus: Bus, health: Health, clock: Clock
    ) -> None:
        self._instance = instance
        self._workshop = workshop
        self._backend = backend
        self._bus = bus
        self._health = health
        self._clock = clock
        self._told: dict[str, PluginInfo] = {}
        self._stopping = asyncio.Event()
        self._news = asyncio.Event()
        for part in ("bus", "functions", "workers"):
            health.require(part)

    def tell(self) -> None:
        """There is something new about the functions."""
        self._news.set()

    async def run(self) -> None:
        """Tells that the service is online once it can compute, and refreshes what would expire, until stop()."""
        refresh_at = self._clock.monotonic() + PLUGIN_REFRESH_S
        said: tuple[bool, str | None] = (False, None)
        while not self._stopping.is_set():
            self._news.clear()
            again = self._clock.monotonic() >= refresh_at
            if again:
                refresh_at += PLUGIN_REFRESH_S
            self._tell_plugins(again=again)
            ready = self._report()
            if ready and (ready, self._workshop.problem) != said:
                said = (ready, self._workshop.problem)
                await self._bus.announce(ServiceStatus.ONLINE, problem=self._workshop.problem)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._news.wait()
        await self._bus.announce(ServiceStatus.DRAINING)

    async def stop(self) -> None:
        """Ends run()."""
        self._stopping.set()
        self._news.set()

    def _tell_plugins(self, *, again: bool) -> None:
        infos = {info.id: info for info in self._workshop.infos()}
        for plugin_id in self._told.keys() - infos.keys():
            self._bus.retain(PLUGIN, None, kind="function", id=plugin_id, instance=self._instance)
        for plugin_id, info in infos.items():
            if again or self._told.get(plugin_id) != info:
                self._bus.retain(PLUGIN, info, kind="function", id=plugin_id, instance=self._instance)
        self._told = infos

    def _report(self) -> bool:
        """Reports to health; gives whether tasks can be computed."""
        connected, loaded = self._bus.connected, self._workshop.loaded.is_set()
        self._health.report("bus", connected, "" if connected else "not connected to the broker")
        functions = f"{len(self._workshop.library.functions)} functions"
        self._health.report("functions", loaded, self._workshop.problem or functions)
        self._health.report("workers", self._backend.ready, self._backend.state)
        return loaded and self._backend.ready
