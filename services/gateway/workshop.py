"""Drivers that are edited while the gateway runs: the new version is tried beside the old one before it takes over."""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from contracts.v1.command import RELOAD, Reload, ReloadResult
from contracts.v1.plugin import PLUGIN, PluginInfo
from plugins.api.clock import Clock
from plugins.api.registry import MANIFEST, PluginError, Registry, plugin_folders, unload_plugin
from services.gateway.info import plugin_info
from services.gateway.keeper import Keeper
from services.gateway.swap import SwapFailed
from services.runtime.bus.bus import Bus, Delivery
from services.runtime.event_log import EventLog
from services.runtime.logs import Log
from services.runtime.reload import reload_asked
from services.runtime.watch import Mark, Watch, marks

_WATCHED = ("*.py", "*.yaml")


class Workshop:
    """Reloads drivers, by command and, with `follow`, when their folders change. Run by a Supervisor.

    look_s: how often the folders are looked at.
    """

    name = "workshop"

    def __init__(
        self,
        *,
        instance: str,
        drivers: Registry,
        keeper: Keeper,
        bus: Bus,
        events: EventLog,
        clock: Clock,
        log: Log,
        follow: bool,
        look_s: float,
    ) -> None:
        self._instance = instance
        self._drivers = drivers
        self._keeper = keeper
        self._bus = bus
        self._events = events
        self._clock = clock
        self._log = log
        self._follow = follow
        self._watch = Watch(self._look, every_s=look_s)
        self._since: dict[str, int] = {}
        self._errors: dict[str, str] = {}
        self._lock = asyncio.Lock()
        bus.serve(RELOAD, self._on_reload, id=instance)

    def infos(self) -> tuple[PluginInfo, ...]:
        """The drivers as they are loaded, each with what keeps its folder's present content from being."""
        now_ms, loaded = self._clock.now_us() // 1000, self._drivers.loaded()
        self._since = {plugin.package: self._since.get(plugin.package, now_ms) for plugin in loaded}
        return tuple(
            plugin_info(
                plugin,
                instance=self._instance,
                since_ms=self._since[plugin.package],
                error=self._errors.get(plugin.manifest.id),
            )
            for plugin in loaded
        )

    async def run(self) -> None:
        """Follows the folders, if that is wanted, until cancelled."""
        if not self._follow:
            return
        await self._watch.begin()
        while True:
            changed = await self._watch.changed()
            folders = {folder for folder in self._folders() if any(path.is_relative_to(folder) for path in changed)}
            in_use = {plugin.manifest.id: plugin.folder for plugin in self._drivers.loaded()}
            for plugin_id in [one for one, folder in in_use.items() if folder in folders]:
                try:
                    await self.reload(plugin_id, user=None)
                except PluginError:
                    continue  # it has been told
            if folders - set(in_use.values()):
                await self._keeper.read_anew()  # files may wait for a driver that could not be loaded until now

    async def reload(self, plugin_id: str, *, user: str | None) -> str:
        """Loads the driver anew and moves its devices over, one after the other; returns its version.

        Raises PluginError, which says where, if the new version cannot be loaded, does not take the device files as
        they are, or does not work: the old one then goes on.
        """
        async with self._lock:
            try:
                version = await self._swapped(plugin_id)
                self._errors.pop(plugin_id, None)
            except (PluginError, SwapFailed) as error:
                self._errors[plugin_id] = str(error)
                self._log.error("plugin_refused", plugin=plugin_id, error=str(error))
                self._tell("reload.refused", plugin_id, user, {"error": str(error)})
                raise PluginError(str(error)) from error
            self._log.info("plugin_reloaded", plugin=plugin_id, version=version)
            self._tell("reload.done", plugin_id, user, {"version": version})
            return version

    async def _swapped(self, plugin_id: str) -> str:
        plugin = await asyncio.to_thread(self._drivers.fresh, plugin_id)
        with ExitStack() as undo:
            undo.callback(unload_plugin, plugin)
            await self._keeper.swap(plugin, lambda: self._drivers.adopt(plugin))
            undo.pop_all()
        return plugin.manifest.version

    async def _on_reload(self, delivery: Delivery[Reload]) -> ReloadResult:
        in_use = [plugin.manifest.id for plugin in self._drivers.loaded()]
        reload = partial(self.reload, user=delivery.levels["user"])
        return await reload_asked(delivery.payload, kind="driver", in_use=in_use, reload=reload)

    def _tell(self, what: str, plugin_id: str, user: str | None, data: Mapping[str, str]) -> None:
        """Tells what has become of a reload, as an event and in the plugin's description."""
        self._events.tell(what, aggregate="plugin", id=plugin_id, user=user, data=dict(data))
        for info in self.infos():
            if info.id == plugin_id:
                self._bus.retain(PLUGIN, info, kind=info.kind, id=info.id, instance=self._instance)

    def _folders(self) -> list[Path]:
        return list(plugin_folders(self._drivers.roots))

    def _look(self) -> dict[Path, Mark]:
        try:
            return marks(path for folder in self._folders() for path in _sources(folder))
        except OSError:  # a folder goes while it is looked at
            return {}


def _sources(folder: Path) -> Iterable[Path]:
    """What a version of a plugin consists of."""
    yield folder / MANIFEST
    yield from (path for pattern in _WATCHED for path in folder.rglob(pattern) if path.name != MANIFEST)
