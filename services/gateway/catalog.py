"""The device files of a folder: what can run, and every fault, those across files among them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from plugins.api.document import DocumentError, Fault
from services.gateway.claim import Claim, claim_of
from services.gateway.device_file import DeviceFile, Drivers, parse_device

SUFFIXES = frozenset({".yaml", ".yml"})
FOLDER = "devices"


@dataclass(frozen=True, slots=True)
class Broken:
    """A file that cannot run although it says which device and which gateway it is meant for."""

    claim: Claim
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class Catalog:
    """What a folder holds. devices: without fault, by name. broken: by the name that the file claims. faults: all."""

    devices: Mapping[str, DeviceFile]
    broken: Mapping[str, Broken]
    faults: tuple[Fault, ...]


def load_devices(folder: Path, drivers: Drivers) -> Catalog:
    """Reads every device file of the folder, in order of file name. Faults are collected, never raised.

    folder: the files' own, or one around it that has a subfolder `devices`. Of two files that claim one device the
    first by name stands, and the second is a fault.
    """
    places: dict[str, str] = {}
    devices: dict[str, DeviceFile] = {}
    broken: dict[str, Broken] = {}
    faults: list[Fault] = []
    for path in _files(folder, faults):
        claim, device, found = _read(path, drivers)
        if claim and (place := places.setdefault(claim.device, f"{path}:{claim.line}")) != f"{path}:{claim.line}":
            found.append(_taken(path, claim, place))
        elif device:
            devices[device.name] = device
        elif claim:
            broken[claim.device] = Broken(claim, tuple(found))
        faults += sorted(found)
    return Catalog(devices, broken, tuple(faults))


def check_folder(folder: Path, drivers: Drivers) -> list[Fault]:
    """Every fault in the folder's device files, by file and line; empty if all can run. See load_devices."""
    return list(load_devices(folder, drivers).faults)


def _files(folder: Path, faults: list[Fault]) -> Iterator[Path]:
    within = folder / FOLDER if (folder / FOLDER).is_dir() else folder
    if not within.is_dir():
        faults.append(Fault(str(within), 1, "", "there is no such folder", "make it, or name another"))
        return
    found = [path for path in sorted(within.iterdir()) if path.suffix in SUFFIXES and path.is_file()]
    if not found:
        faults.append(Fault(str(within), 1, "", "holds no device file", "add one, such as pump.yaml"))
    yield from found


def _read(path: Path, drivers: Drivers) -> tuple[Claim | None, DeviceFile | None, list[Fault]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        return None, None, [Fault(str(path), 1, "", f"cannot be read: {reason}", "save it as readable UTF-8 text")]
    try:
        device = parse_device(text, source=str(path), drivers=drivers)
    except DocumentError as error:
        return claim_of(text), None, list(error.faults)
    return Claim(device.name, device.gateway, device.line), device, []


def _taken(path: Path, claim: Claim, place: str) -> Fault:
    mend = "give each device one file and a name of its own"
    return Fault(str(path), claim.line, "device", f"{claim.device!r} is taken by {place}", mend)
