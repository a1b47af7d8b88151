"""Running devices moved over to another version of their driver, or all of them back."""

import asyncio
from collections.abc import Callable, Mapping

from contracts.v1.device import DeviceStatus
from plugins.api.document import DocumentError
from plugins.api.registry import Plugin
from services.gateway.actor import CRASHED
from services.gateway.catalog import DeviceFolder
from services.gateway.device_file import DeviceFile
from services.gateway.fleet import Fleet

TRIAL_S = 5.0


class SwapFailed(Exception):
    """Another version of a driver is not taken; the message says why and where."""


class Swap:
    """Of the devices of the fleet. folder: of their files, as last loaded."""

    def __init__(self, *, folder: DeviceFolder, fleet: Fleet) -> None:
        self._folder = folder
        self._fleet = fleet

    async def to(self, plugin: Plugin, adopt: Callable[[], None]) -> None:
        """Moves the devices of the driver over, those of one place together; then adopts this version of it.

        The first that was online must come online again within TRIAL_S, or all go back and nothing is adopted.
        Raises SwapFailed.
        """
        try:
            found = await asyncio.to_thread(self._folder.trial, plugin)
        except DocumentError as error:
            raise SwapFailed(f"version {plugin.manifest.version} refuses {error.faults[0]}") from error
        before = {name: device for name, device in self._fleet.running.items() if name in found}
        moved: list[str] = []
        adopted = False
        try:
            await self._move(plugin, found, self._by_place(before), moved)
            adopt()
            adopted = True
            self._folder.forget()
        finally:
            if not adopted:
                await self._fleet.restart(*(before[name] for name in moved))

    def _by_place(self, devices: Mapping[str, DeviceFile]) -> list[list[str]]:
        """The devices of each place, where the running version holds open what only it can; first those online."""
        places: dict[str, list[str]] = {}
        for name in sorted(devices, key=lambda name: not self._online(name)):
            places.setdefault(devices[name].place, []).append(name)
        return list(places.values())

    async def _move(
        self, plugin: Plugin, found: Mapping[str, DeviceFile], places: list[list[str]], moved: list[str]
    ) -> None:
        for names in places:
            tried = names[0] if not moved and self._online(names[0]) else None
            moved += names
            await self._fleet.restart(*(found[name] for name in names))
            if tried and (why := await self._trial(tried)):
                raise SwapFailed(f"version {plugin.manifest.version} does not work with {tried}: {why}")

    async def _trial(self, name: str) -> str | None:
        """What keeps a device that was online from being so again; None if it is."""
        condition = self._fleet.condition(name)
        try:
            async with asyncio.timeout(TRIAL_S):
                await condition.until(online_or=CRASHED)
        except TimeoutError:
            return condition.error or f"it was not online within {TRIAL_S:g} s"
        return None if self._online(name) else condition.error

    def _online(self, name: str) -> bool:
        return self._fleet.condition(name).status is DeviceStatus.ONLINE
