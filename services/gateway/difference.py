"""What is to be done so that the devices that run are those that the device files describe. Pure."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from plugins.api.document import Fault
from services.gateway.catalog import Catalog
from services.gateway.device_file import DeviceFile

Faults = tuple[Fault, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What has changed, device by device; a device that is in none of these is left alone.

    remove: have no file any more, or have become another gateway's. start: new, or free of faults at last.
    revise: only what is told of them has changed. rework: what is asked of them has, on the same connection.
    restart: the rest. refuse: cannot run. keep: run on as they were, since their file has faults now.
    """

    remove: tuple[str, ...] = ()
    start: tuple[DeviceFile, ...] = ()
    revise: tuple[DeviceFile, ...] = ()
    rework: tuple[DeviceFile, ...] = ()
    restart: tuple[DeviceFile, ...] = ()
    refuse: Mapping[str, Faults]
    keep: Mapping[str, Faults]


def steps(running: Mapping[str, DeviceFile], refused: Collection[str], catalog: Catalog, *, instance: str) -> Steps:
    """From the devices that run, and those known that cannot, to what the catalog gives this gateway."""
    own = {name: device for name, device in catalog.devices.items() if device.gateway == instance}
    keep = dict(_kept(running, own, catalog))
    broken = {
        name: one.faults
        for name, one in catalog.broken.items()
        if one.claim.gateway == instance and name not in running
    }
    gone = {*running, *refused} - own.keys() - keep.keys() - broken.keys() if catalog.whole else set()
    changed = [device for name, device in own.items() if name in running and device != running[name]]
    others = [device for device in changed if not same_work(running[device.name], device)]
    return Steps(
        remove=tuple(sorted(gone)),
        start=tuple(device for name, device in own.items() if name not in running),
        revise=tuple(device for device in changed if same_work(running[device.name], device)),
        rework=tuple(device for device in others if same_connection(running[device.name], device)),
        restart=tuple(device for device in others if not same_connection(running[device.name], device)),
        refuse=broken,
        keep=keep,
    )


def same_work(before: DeviceFile, after: DeviceFile) -> bool:
    """Whether the driver is asked for the same."""
    return before.plugin is after.plugin and before.spec == after.spec and before.enabled == after.enabled


def same_connection(before: DeviceFile, after: DeviceFile) -> bool:
    """Whether the driver would connect in the same way, so that the device may keep the connection that it has."""
    return (
        before.plugin is after.plugin
        and before.spec.connection == after.spec.connection
        and before.spec.folder == after.spec.folder
        and before.enabled
        and after.enabled
    )


def same_address(before: DeviceFile, after: DeviceFile) -> bool:
    """Whether it is the same machine: by the driver's own fields of connection and groups (Modbus: units)."""
    groups = [group.options for group in before.spec.groups]
    return (
        before.plugin is after.plugin
        and before.spec.connection == after.spec.connection
        and before.spec.folder == after.spec.folder
        and all(group.options in groups for group in after.spec.groups)
    )


def _kept(
    running: Mapping[str, DeviceFile], own: Mapping[str, DeviceFile], catalog: Catalog
) -> Iterator[tuple[str, Faults]]:
    """A file that has become faulty may not even name its device any more: it is known by its path."""
    for name, device in running.items():
        faults = catalog.refused.get(device.source)
        if name not in own and faults:
            yield name, faults
