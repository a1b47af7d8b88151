"""`dinrail check`: whether device files, pipelines and settings can be used, before anything runs."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from contracts.v1.definition import Definition
from contracts.v1.plugin import PluginInfo
from contracts.v1.task import COMPUTE_GROUP
from plugins.api.document import DocumentError, Fault
from plugins.api.manifest import Manifest
from plugins.api.registry import PluginError, Registry, plugin_folders, read_manifest
from services.cli.counted import counted
from services.cli.settings import read_settings
from services.cli.site import Site
from services.compute.settings import SHIPPED_FUNCTIONS
from services.gateway.catalog import Catalog as DeviceCatalog
from services.gateway.catalog import load_devices
from services.gateway.device_file import DeviceFile, parse_device
from services.gateway.info import device_info
from services.gateway.settings import SHIPPED_DRIVERS
from services.orchestrator.definition.catalogue import Catalogue
from services.orchestrator.definition.definition_file import is_definition, read_definition
from services.orchestrator.pipelines.folder import load_pipelines, pipeline_paths


@dataclass(frozen=True, slots=True)
class Findings:
    """Every fault, and the devices and pipelines that have none."""

    faults: tuple[Fault, ...]
    devices: tuple[DeviceFile, ...] = ()
    pipelines: tuple[Definition, ...] = ()

    @property
    def summary(self) -> str:
        """How much can run: 4 devices, 7 groups, 83 tags, 4 pipelines."""
        counts = [
            (len(self.devices), "device"),
            (sum(len(device.spec.groups) for device in self.devices), "group"),
            (sum(len(device.tags) for device in self.devices), "tag"),
        ]
        if self.pipelines or not self.devices:
            counts.append((len(self.pipelines), "pipeline"))
        return ", ".join(counted(count, noun) for count, noun in counts)


def check(path: Path) -> Findings:
    """What is wrong with a site's folder, a folder of device files (or one with subfolders `devices` and `pipelines`),
    or one file of a device or of a pipeline."""
    site = Site(path)
    if path.is_file():
        return _check_file(path)
    if site.settings_file.is_file():
        return _check_site(site)
    return _check_folder(path, site.pipelines)


def _check_site(site: Site) -> Findings:
    try:
        settings = read_settings(site)
    except DocumentError as error:
        found = _check_folder(site.devices, site.pipelines)
        return Findings((*error.faults, *found.faults), found.devices, found.pipelines)
    return _check_folder(
        settings.gateway.devices,
        settings.orchestrator.pipelines,
        settings.gateway.driver_folders,
        settings.compute.function_folders,
    )


def _check_folder(
    folder: Path,
    pipelines: Path,
    driver_folders: Iterable[Path] = (SHIPPED_DRIVERS,),
    function_folders: Iterable[Path] = (SHIPPED_FUNCTIONS,),
) -> Findings:
    devices = load_devices(folder, Registry(driver_folders, kind="driver"))
    found = load_pipelines(pipeline_paths(pipelines), _catalogue(devices, function_folders))
    return Findings(
        (*devices.faults, *found.faults), tuple(devices.devices.values()), tuple(found.definitions.values())
    )


def _check_file(path: Path) -> Findings:
    drivers = Registry([SHIPPED_DRIVERS], kind="driver")
    try:
        text = path.read_text(encoding="utf-8")
        if is_definition(text, source=str(path)):
            return _check_pipeline(path, text)
        device = parse_device(text, source=str(path), drivers=drivers)
    except DocumentError as error:
        return Findings(error.faults)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        return Findings((Fault(str(path), 1, "", f"cannot be read: {reason}", "save it as readable UTF-8 text"),))
    return Findings((), (device,))


def _check_pipeline(path: Path, text: str) -> Findings:
    """One file, seen with the devices and the other pipelines of its site."""
    site = Site(path.parent.parent)
    found = _check_site(site) if site.settings_file.is_file() else _check_folder(site.folder, path.parent)
    mine = [fault for fault in found.faults if fault.source == str(path)]
    definition = read_definition(text, source=str(path)).definition
    return Findings(tuple(mine), pipelines=() if mine or definition is None else (definition,))


def folder_catalogue(folder: Path) -> Catalogue:
    """What pipelines may name beside this folder of device files, and with the shipped functions."""
    return _catalogue(load_devices(folder, Registry([SHIPPED_DRIVERS], kind="driver")))


def _catalogue(folder: DeviceCatalog, function_folders: Iterable[Path] = (SHIPPED_FUNCTIONS,)) -> Catalogue:
    """What there is to name: as the services would say it of themselves on the bus."""
    found = Catalogue.of(
        (
            device_info(
                device,
                instance=device.gateway,
                epochs={group.name: 1 for group in device.spec.groups},
                subscribed=frozenset(),
            )
            for device in folder.devices.values()
        ),
        (_plugin_info(manifest) for manifest in _manifests(function_folders)),
        (),
    )
    return replace(found, unreadable=frozenset(folder.broken))


def _manifests(folders: Iterable[Path]) -> Iterator[Manifest]:
    """Of the functions there are; one that is broken is told by its own tests and service, and is not there."""
    for folder in plugin_folders(folders):
        with suppress(PluginError):
            manifest = read_manifest(folder)
            if not manifest.id.startswith("_"):
                yield manifest


def _plugin_info(manifest: Manifest) -> PluginInfo:
    return PluginInfo(
        id=manifest.id,
        kind=manifest.kind,
        version=manifest.version,
        title=manifest.title,
        instance=COMPUTE_GROUP,
        since=0,
        functions={name: one.info for name, one in manifest.functions.items()},
    )
