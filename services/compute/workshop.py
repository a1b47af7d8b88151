"""Loads the functions, and loads them anew by command or when their folders change."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from contracts.v1.command import RELOAD, Reload, ReloadResult
from contracts.v1.plugin import PluginInfo
from plugins.api.clock import Clock
from plugins.api.registry import PluginError, plugin_folders
from services.compute.backend import Backend
from services.compute.library import Copies, Library, Version, found_folders, plugin_info, sources_of
from services.compute.quarantine import Quarantine
from services.runtime.bus.bus import Bus, Delivery
from services.runtime.logs import Log
from services.runtime.reload import reload_asked
from services.runtime.watch import Mark, Watch, marks


class Workshop:
    """Run by a Supervisor. library: what can be computed now.

    A new version is loaded in a process of its own first; if that fails, the old one goes on. It takes over once every
    worker that takes jobs has it; what is being computed goes on to its end with the old one.
    """

    name = "workshop"

    def __init__(
        self,
        *,
        instance: str,
        roots: Sequence[Path],
        copies: Copies,
        backend: Backend,
        quarantine: Quarantine,
        bus: Bus,
        clock: Clock,
        log: Log,
        follow: bool,
        look_s: float,
    ) -> None:
        self.library = Library()
        self.loaded = asyncio.Event()
        self._instance = instance
        self._roots = tuple(roots)
        self._copies = copies
        self._backend = backend
        self._quarantine = quarantine
        self._changed: Callable[[], None] = _ignore
        self._clock = clock
        self._log = log
        self._follow = follow
        self._watch = Watch(self._look, every_s=look_s)
        self._since: dict[str, int] = {}
        self._errors: dict[str, str] = {}
        self._left: list[Version] = []
        self._turn = asyncio.Lock()
        self._reloading: dict[str, asyncio.Task[str]] = {}  # by plugin: by command, the latest
        bus.serve(RELOAD, self._on_reload, id=instance)

    def on_change(self, hook: Callable[[], None]) -> None:
        """`hook` is called after each change of the library."""
        self._changed = hook

    def infos(self) -> tuple[PluginInfo, ...]:
        """The plugins in use, each with what keeps its folder's present content, or a function of it, from being so."""
        return tuple(
            plugin_info(
                version,
                instance=self._instance,
                since_ms=self._since[version.build],
                error=self._errors.get(plugin_id) or self._refusal(version),
            )
            for plugin_id, version in self.library.versions.items()
        )

    @property
    def problem(self) -> str | None:
        """A plugin that cannot be loaded; None if all can."""
        return next(iter(self._errors.values()), None)

    async def run(self) -> None:
        """Loads all, then follows the folders, if that is wanted, until cancelled."""
        try:
            await self._load_and_follow()
        finally:
            for task in self._reloading.values():
                task.cancel()
            await asyncio.gather(*self._reloading.values(), return_exceptions=True)

    async def _load_and_follow(self) -> None:
        if self._follow:
            await self._watch.begin()
        if not self.loaded.is_set():
            await self._load_all()
        while self._follow:
            changed = await self._watch.changed()
            await self._take_up({folder for folder in self._folders() if _concerns(folder, changed)})

    async def reload(self, plugin_id: str) -> str:
        """Loads the plugin anew; gives its version. Raises PluginError, which says where: the old one then goes on."""
        folders, _ = await asyncio.to_thread(found_folders, self._roots)
        folder = folders.get(plugin_id) or self.library.versions[plugin_id].folder
        async with self._turn:
            try:
                version = await self._probed(folder)
                await self._adopt(self.library.with_version(version))
            except (PluginError, OSError) as error:
                self._refuse(plugin_id, str(error))
                raise PluginError(str(error)) from error
            for name in (plugin_id, folder.name):
                self._errors.pop(name, None)
            self._log.info("plugin_reloaded", plugin=plugin_id, version=version.manifest.version)
            return version.manifest.version

    async def _load_all(self) -> None:
        folders, faults = await asyncio.to_thread(found_folders, self._roots)
        library = Library()
        for name, fault in faults.items():
            self._refuse(name, fault)
        for plugin_id, folder in folders.items():
            try:
                library = library.with_version(await self._probed(folder))
            except (PluginError, OSError) as error:
                self._refuse(plugin_id, str(error))
        async with self._turn:
            await self._adopt(library)
        self.loaded.set()
        self._log.info("functions_loaded", functions=sorted(self.library.functions))

    async def _take_up(self, touched: set[Path]) -> None:
        """Loads the plugins of these folders anew, and drops those that are gone."""
        folders, faults = await asyncio.to_thread(found_folders, self._roots)
        for name, fault in faults.items():
            self._refuse(name, fault)
        for plugin_id, folder in folders.items():
            if folder in touched:
                try:
                    await self.reload(plugin_id)
                except PluginError:
                    continue  # it has been told
        for plugin_id in [one for one in self.library.versions if not self.library.versions[one].folder.is_dir()]:
            async with self._turn:
                await self._adopt(self.library.without(plugin_id))
            self._log.info("plugin_dropped", plugin=plugin_id)

    async def _probed(self, folder: Path) -> Version:
        version = await asyncio.to_thread(self._copies.copied, folder)
        error = await self._backend.probe(version.source)
        if error is not None:
            self._copies.drop(version)
            raise PluginError(version.told(error))
        return version

    async def _adopt(self, library: Library) -> None:
        before = self.library
        await self._backend.renew(library.sources)
        self.library = library
        now_ms = self._clock.now_us() // 1000
        builds = {version.build for version in library.versions.values()}
        self._since = {build: self._since.get(build, now_ms) for build in builds}
        self._quarantine.keep_only(builds)
        for version in self._left:
            self._copies.drop(version)
        # Kept until the next change: a function that still runs may import from it.
        self._left = [version for version in before.versions.values() if version.build not in builds]
        self._changed()

    def _refuse(self, plugin_id: str, error: str) -> None:
        self._errors[plugin_id] = error
        self._log.error("plugin_refused", plugin=plugin_id, error=error)
        self._changed()

    def _refusal(self, version: Version) -> str | None:
        refusals = (self._quarantine.refusal(name, version.build) for name in version.manifest.functions)
        return next((refusal for refusal in refusals if refusal is not None), None)

    async def _on_reload(self, delivery: Delivery[Reload]) -> ReloadResult:
        in_use = list(self.library.versions)
        return await reload_asked(delivery.payload, kind="plugin", in_use=in_use, reload=self._reload_to_its_end)

    async def _reload_to_its_end(self, plugin_id: str) -> str:
        """As reload(), past the command's deadline too: half way, the workers have what the library has not."""
        while (before := self._reloading.get(plugin_id)) is not None and not before.done():
            await asyncio.wait([before])
        reloading = asyncio.create_task(self.reload(plugin_id), name=f"workshop.{plugin_id}")
        self._reloading[plugin_id] = reloading
        return await asyncio.shield(reloading)

    def _folders(self) -> list[Path]:
        return list(plugin_folders(self._roots))

    def _look(self) -> dict[Path, Mark]:
        try:
            return marks(path for folder in self._folders() for path in sources_of(folder))
        except OSError:  # a folder goes while it is looked at
            return {}


def _ignore() -> None:
    """Nobody wants to hear of changes yet."""


def _concerns(folder: Path, changed: set[Path]) -> bool:
    return any(path.is_relative_to(folder) for path in changed)
