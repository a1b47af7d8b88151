"""`dinrail check`: whether device files and settings can be used, before anything runs."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from plugins.api.document import DocumentError, Fault
from plugins.api.registry import Registry
from services.cli.settings import read_settings
from services.cli.site import Site
from services.gateway.catalog import load_devices
from services.gateway.device_file import DeviceFile, parse_device
from services.gateway.settings import SHIPPED_DRIVERS


@dataclass(frozen=True, slots=True)
class Findings:
    """Every fault, and the devices that have none."""

    faults: tuple[Fault, ...]
    devices: tuple[DeviceFile, ...]

    @property
    def summary(self) -> str:
        """How much can run: 4 devices, 7 groups, 83 tags."""
        counts = (
            (len(self.devices), "device"),
            (sum(len(device.spec.groups) for device in self.devices), "group"),
            (sum(len(device.tags) for device in self.devices), "tag"),
        )
        return ", ".join(f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in counts)


def check(path: Path) -> Findings:
    """What is wrong with a site's folder, a folder of device files (or one with a subfolder `devices`), or one file."""
    site = Site(path)
    if path.is_file():
        return _check_file(path)
    if site.settings_file.is_file():
        return _check_site(site)
    return _check_folder(path)


def _check_site(site: Site) -> Findings:
    try:
        settings = read_settings(site)
    except DocumentError as error:
        found = _check_folder(site.devices)
        return Findings((*error.faults, *found.faults), found.devices)
    return _check_folder(settings.gateway.devices, settings.gateway.driver_folders)


def _check_folder(folder: Path, driver_folders: Iterable[Path] = (SHIPPED_DRIVERS,)) -> Findings:
    catalog = load_devices(folder, Registry(driver_folders, kind="driver"))
    return Findings(catalog.faults, tuple(catalog.devices.values()))


def _check_file(path: Path) -> Findings:
    drivers = Registry([SHIPPED_DRIVERS], kind="driver")
    try:
        device = parse_device(path.read_text(encoding="utf-8"), source=str(path), drivers=drivers)
    except DocumentError as error:
        return Findings(error.faults, ())
    except (OSError, UnicodeDecodeError) as error:
        return Findings((Fault(str(path), 1, "", f"cannot be read: {error}"),), ())
    return Findings((), (device,))


def shown(faults: Iterable[Fault]) -> Iterator[str]:
    """The faults as lines, with paths below the working folder shortened."""
    here = f"{Path.cwd()}{os.sep}"
    for fault in faults:
        yield str(fault).removeprefix(here)
