"""Commands that change device files: put, delete, enable, disable. It is on the disk before it is answered."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from contracts.policy import missing_of_device, missing_of_file
from contracts.v1.command import (
    DELETE,
    DISABLE,
    ENABLE,
    PUT,
    Command,
    Delete,
    DeviceChange,
    Disable,
    Enable,
    ErrorCode,
    Put,
)
from contracts.v1.device import DeviceStatus
from contracts.v1.policy import Rights
from plugins.api.document import DocumentError
from services.gateway.catalog import Catalog, DeviceFolder
from services.gateway.device_file import DeviceFile
from services.gateway.difference import same_address
from services.gateway.enabled_line import with_enabled
from services.gateway.fleet import Fleet
from services.gateway.keeper import Keeper
from services.gateway.whole_file import read_text, remove, write_whole
from services.runtime.bus.bus import Bus, CommandFailed, Delivery, Denied

P = ParamSpec("P")
T = TypeVar("T")

MOST_FAULTS = 100
SENT_FILE = "file"
"""What faults call the text that a command brought: as if it were a file of this name in the folder."""


class Editor:
    """Executes the commands. instance: of this gateway. A device is changed by one command at a time."""

    def __init__(self, *, instance: str, folder: DeviceFolder, keeper: Keeper, fleet: Fleet, bus: Bus) -> None:
        self._instance = instance
        self._folder = folder
        self._keeper = keeper
        self._bus = bus
        self._fleet = fleet
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        bus.serve(PUT, self._put, id=instance)
        bus.serve(DELETE, self._delete, id=instance)
        fleet.serve_each(ENABLE, self._enable)
        fleet.serve_each(DISABLE, self._disable)

    async def _put(self, delivery: Delivery[Put]) -> DeviceChange:
        given = delivery.payload
        device = await asyncio.to_thread(self._parsed, given.file)
        self._check(missing_of_file(self._rights(PUT, delivery), device.name), delivery)
        async with self._locks[device.name]:
            catalog = await self._keeper.reconcile()
            self._check(_missing_of_address(self._rights(PUT, delivery), catalog, device), delivery)
            self._check_rev(catalog, device.name, given.expect_rev)
            path = self._path_of(catalog, device.name)
            await self._replace(path, given.file, user=delivery.levels["user"], device=device, probe_s=given.probe_s)
        return DeviceChange(device=device.name, enabled=device.enabled, rev=device.rev)

    def _rights(self, command: Command[Any, Any], delivery: Delivery[Any]) -> Rights:
        return self._bus.gate.rights(command, delivery.levels["user"])

    def _check(self, missing: str | None, delivery: Delivery[Any]) -> None:
        """Raises Denied: the user lacks this."""
        if missing is not None:
            raise Denied(f"{delivery.levels['user']} {missing}")

    async def _delete(self, delivery: Delivery[Delete]) -> DeviceChange:
        name = delivery.payload.device
        self._check(missing_of_device(self._rights(DELETE, delivery), name), delivery)
        async with self._locks[name]:
            catalog = await self._keeper.reconcile()
            path = self._known(catalog, name)
            self._check_sole(catalog, name)
            self._check_rev(catalog, name, delivery.payload.expect_rev)
            await _on_disk(remove, path)
            await self._keeper.reconcile(user=delivery.levels["user"])
        return DeviceChange(device=name, enabled=False)

    async def _enable(self, delivery: Delivery[Enable]) -> DeviceChange:
        return await self._switch(delivery.levels["id"], enabled=True, user=delivery.levels["user"])

    async def _disable(self, delivery: Delivery[Disable]) -> DeviceChange:
        return await self._switch(delivery.levels["id"], enabled=False, user=delivery.levels["user"])

    async def _switch(self, name: str, *, enabled: bool, user: str) -> DeviceChange:
        async with self._locks[name]:
            catalog = await self._keeper.reconcile()
            path = self._known(catalog, name)
            text = await _on_disk(read_text, path) or ""
            try:
                edited = with_enabled(text, source=path.name, enabled=enabled)
            except DocumentError as error:
                raise _invalid(error) from error
            if edited != text:
                await _on_disk(write_whole, path, edited)
            catalog = await self._keeper.reconcile(user=user)
            device = catalog.devices.get(name)
        return DeviceChange(device=name, enabled=enabled, rev=device.rev if device else None)

    async def _replace(self, path: Path, text: str, *, user: str, device: DeviceFile, probe_s: float | None) -> None:
        """Stores the text and runs the device by it; whatever keeps it from running brings the file before back."""
        before = await _on_disk(read_text, path)
        await _on_disk(write_whole, path, text)
        accepted = False
        try:
            await self._keeper.reconcile(user=user)
            if device.name not in self._fleet.running:
                raise CommandFailed(ErrorCode.CONFLICT, f"{device.name} is not run here{self._keeper.held}")
            if probe_s is not None and device.enabled:
                await self._probe(device.name, probe_s)
            accepted = True
        finally:
            if not accepted and await _on_disk(read_text, path) == text:  # else somebody has changed it again
                await (_on_disk(remove, path) if before is None else _on_disk(write_whole, path, before))
                await self._keeper.reconcile(user=user)

    async def _probe(self, name: str, within_s: float) -> None:
        """Returns once the device answers. Raises CommandFailed: the change shall be undone."""
        condition = self._fleet.condition(name)
        try:
            async with asyncio.timeout(within_s):
                await condition.until()
        except TimeoutError:
            if condition.status is DeviceStatus.DEGRADED and not condition.unheard:
                return  # it is there, though not every group of it
            silent = f"nothing has come of {', '.join(sorted(condition.expected))}"
            error = silent if condition.status is DeviceStatus.DEGRADED else condition.error or silent
            why = f"{name} did not answer within {within_s:g} s, so the change was undone: {error}"
            raise CommandFailed(ErrorCode.DEVICE_UNAVAILABLE, why, detail={"cause": condition.cause}) from None

    def _parsed(self, text: str) -> DeviceFile:
        try:
            device = self._folder.parse(text, name=SENT_FILE)
        except DocumentError as error:
            raise _invalid(error) from error
        if device.gateway != self._instance:
            message = f"the file gives {device.name} to the gateway {device.gateway}; send it there"
            raise CommandFailed(ErrorCode.INVALID, message, detail={"gateway": device.gateway})
        return device

    def _path_of(self, catalog: Catalog, name: str) -> Path:
        """Where the device's file is, or shall be. Raises CommandFailed."""
        path = catalog.paths.get(name, self._folder.path / f"{name}.yaml")
        other = next((device for device, taken in catalog.paths.items() if taken == path and device != name), None)
        if other is not None:
            mend = "delete it, or rename its file"
            raise CommandFailed(ErrorCode.CONFLICT, f"{path.name} holds the device {other}: {mend}")
        return path

    def _known(self, catalog: Catalog, name: str) -> Path:
        if name not in catalog.paths:
            there = ", ".join(sorted(catalog.paths)) or "none"
            raise CommandFailed(ErrorCode.NOT_FOUND, f"there is no file of a device {name!r}; there are: {there}")
        return catalog.paths[name]

    def _check_sole(self, catalog: Catalog, name: str) -> None:
        """Raises CommandFailed if the device's file is another gateway's, or not the only one."""
        gateway = catalog.gateway_of(name)
        if gateway != self._instance:
            message = f"{name} is the gateway {gateway}'s; send it there"
            raise CommandFailed(ErrorCode.CONFLICT, message, detail={"gateway": gateway})
        if name in catalog.copies:
            copy = catalog.copies[name].name
            message = f"{copy} claims {name} too, and would take its place: remove that file first"
            raise CommandFailed(ErrorCode.CONFLICT, message, detail={"file": copy})

    def _check_rev(self, catalog: Catalog, name: str, expected: str | None) -> None:
        present = catalog.devices[name].rev if name in catalog.devices else None
        if expected is not None and present != expected:
            message = f"the revision of {name} is {present}, not {expected}: somebody has changed it meanwhile"
            raise CommandFailed(ErrorCode.CONFLICT, message, detail={"rev": present})


def _missing_of_address(rights: Rights, catalog: Catalog, device: DeviceFile) -> str | None:
    """As contracts.policy.missing(). Who has some devices could reach for another's machine by an address."""
    before = catalog.devices.get(device.name)
    if rights.devices is None or (before is not None and same_address(before, device)):
        return None
    what = f"add {device.name!r}" if before is None else f"change the driver, connection or unit of {device.name!r}"
    return f"has no right to {what}: where a device is says an engineer whom no `devices` narrow"


def _invalid(error: DocumentError) -> CommandFailed:
    """Every fault by its place; the message holds them all as a person reads them."""
    places = [f"{fault.line}:{fault.field}" for fault in error.faults[:MOST_FAULTS]]
    told = [f"{fault.message}; {fault.mend}".removesuffix("; ") for fault in error.faults[:MOST_FAULTS]]
    message = "\n".join(str(replace(fault, source=Path(fault.source).name)) for fault in error.faults)
    return CommandFailed(ErrorCode.INVALID, message, detail=dict(zip(places, told, strict=True)))


async def _on_disk(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Does the work in a thread. Raises CommandFailed when the disk refuses."""
    try:
        return await asyncio.to_thread(work, *args, **kwargs)
    except OSError as error:
        message = f"{error.filename}: {error.strerror}; the gateway must be able to write its devices folder"
        raise CommandFailed(ErrorCode.UNAVAILABLE, message) from error
