"""The device files of a folder: what can run, and every fault, those across files among them."""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plugins.api.document import DocumentError, Fault
from plugins.api.registry import Plugin
from services.gateway.claim import Claim, claim_of
from services.gateway.device_file import DeviceFile, Drivers, parse_device

SUFFIXES = frozenset({".yaml", ".yml"})
FOLDER = "devices"
MOST_BYTES = 4 << 20
"""Of a device file: some 40,000 tags. YAML is read at about 1 MB/s, and no other file is while it lasts."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A file that cannot run although it says which device and which gateway it is meant for."""

    claim: Claim
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class Catalog:
    """What a folder holds. devices: without fault, by name. broken: by the name that the file claims. faults: all.

    refused: the faults of each file that cannot be used, by its path. paths: the file of each device that one
    claims; copies: another one that claims it too. whole: the folder could be listed; if not, nobody knows which files
    are gone.
    """

    devices: Mapping[str, DeviceFile]
    broken: Mapping[str, Broken]
    faults: tuple[Fault, ...]
    refused: Mapping[str, tuple[Fault, ...]]
    paths: Mapping[str, Path]
    copies: Mapping[str, Path]
    whole: bool = True

    def gateway_of(self, name: str) -> str:
        """The gateway to which the file of this device gives it. Raises KeyError if no file claims the device."""
        return self.devices[name].gateway if name in self.devices else self.broken[name].claim.gateway


class DeviceFolder:
    """A folder of device files that is read again and again: a file is parsed anew only if its text has changed.

    folder: the files' own, or one around it that has a subfolder `devices`.
    """

    def __init__(self, folder: Path, drivers: Drivers) -> None:
        self._folder = folder
        self._drivers = drivers
        self._has_subfolder = False
        self._read: dict[Path, _Read] = {}

    @property
    def path(self) -> Path:
        """The folder in which the files lie; a subfolder that was there once is still meant when it is away."""
        within = self._folder / FOLDER
        self._has_subfolder = self._has_subfolder or within.is_dir()
        return within if self._has_subfolder else self._folder

    def load(self, *, standing: Container[str] = ()) -> Catalog:
        """Reads every device file. Faults are collected, never raised.

        Of two files that claim one device the first by name stands, and the second is a fault; but one of the paths in
        `standing` comes before all others: a copy does not take a running device's place.
        """
        faults: list[Fault] = []
        paths, whole = _files(self.path, faults)
        self._read = {path: self._entry(path) for path in sorted(paths, key=lambda one: str(one) not in standing)}
        return _catalog(self._read, faults, whole=whole)

    def parse(self, text: str, *, name: str) -> DeviceFile:
        """A text that is no file of the folder yet, as if it were. name: its file's. Raises DocumentError."""
        return parse_device(text, source=str(self.path / name), drivers=self._drivers)

    def trial(self, plugin: Plugin) -> dict[str, DeviceFile]:
        """The devices of this driver, by name, as they would be with this version of it; of the files last loaded.

        Raises DocumentError with the faults that files then have which are right as it is.
        """
        found: dict[str, DeviceFile] = {}
        faults: list[Fault] = []
        for path, one in self._read.items():
            if one.device is None or one.device.plugin.manifest.id != plugin.manifest.id:
                continue
            try:
                device = parse_device(one.text, source=str(path), drivers=_Trial(self._drivers, plugin))
            except DocumentError as error:
                faults += error.faults
            else:
                found.setdefault(device.name, device)
        if faults:
            raise DocumentError(faults)
        return found

    def forget(self) -> None:
        """The drivers have changed: every file is parsed anew at the next load()."""
        self._read.clear()

    def _entry(self, path: Path) -> "_Read":
        try:
            text = _text(path)
        except DocumentError as error:
            return _Read("", None, None, error.faults)
        known = self._read.get(path)
        if known and known.text == text:
            return known
        try:
            device = parse_device(text, source=str(path), drivers=self._drivers)
        except DocumentError as error:
            return _Read(text, claim_of(text), None, error.faults)
        return _Read(text, Claim(device.name, device.gateway, device.line), device, ())


@dataclass(frozen=True, slots=True)
class _Trial:
    """Drivers of which one is replaced by a version that is not in use yet."""

    drivers: Drivers
    plugin: Plugin

    def available(self) -> Mapping[str, Any]:
        """The drivers there are: the tried one is one of them."""
        return self.drivers.available()

    def load(self, plugin_id: str) -> Plugin:
        """The tried one, or another as it was."""
        return self.plugin if plugin_id == self.plugin.manifest.id else self.drivers.load(plugin_id)


@dataclass(frozen=True, slots=True)
class _Read:
    """One file as it was read."""

    text: str
    claim: Claim | None
    device: DeviceFile | None
    faults: tuple[Fault, ...]


def load_devices(folder: Path, drivers: Drivers) -> Catalog:
    """Reads every device file of the folder once; see DeviceFolder."""
    return DeviceFolder(folder, drivers).load()


def check_folder(folder: Path, drivers: Drivers) -> list[Fault]:
    """Every fault in the folder's device files, by file and line; empty if all can run. See load_devices."""
    return list(load_devices(folder, drivers).faults)


def device_paths(folder: Path) -> list[Path]:
    """The device files in the folder, in order of name; hidden ones are some program's own. Raises OSError."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def _files(within: Path, faults: list[Fault]) -> tuple[list[Path], bool]:
    """The device files, and whether these are all."""
    try:
        found = device_paths(within)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        what = "there is no such folder" if missing else f"cannot be read: {error.strerror}"
        faults.append(Fault(str(within), 1, "", what, "make it, or name another"))
        return [], False
    if not found:
        faults.append(Fault(str(within), 1, "", "holds no device file", "add one, such as pump.yaml"))
    return found, True


def _text(path: Path) -> str:
    """Raises DocumentError."""
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            mend = "split it into several devices"
            raise DocumentError([Fault(str(path), 1, "", f"is too long: {size} bytes of {MOST_BYTES} at most", mend)])
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        mend = "save it as readable UTF-8 text"
        raise DocumentError([Fault(str(path), 1, "", f"cannot be read: {reason}", mend)]) from None


def _catalog(read: Mapping[Path, _Read], faults: list[Fault], *, whole: bool) -> Catalog:
    places: dict[str, str] = {}
    paths: dict[str, Path] = {}
    copies: dict[str, Path] = {}
    devices: dict[str, DeviceFile] = {}
    broken: dict[str, Broken] = {}
    refused: dict[str, tuple[Fault, ...]] = {}
    for path, one in read.items():
        claim, found = one.claim, list(one.faults)
        if claim:
            paths.setdefault(claim.device, path)
        if claim and (place := places.setdefault(claim.device, f"{path}:{claim.line}")) != f"{path}:{claim.line}":
            found.append(_taken(path, claim, place))
            copies[claim.device] = path
        elif one.device:
            devices[one.device.name] = one.device
        elif claim:
            broken[claim.device] = Broken(claim, tuple(found))
        if found:
            refused[str(path)] = tuple(sorted(found))
        faults += sorted(found)
    return Catalog(devices, broken, tuple(faults), refused, paths, copies, whole)


def _taken(path: Path, claim: Claim, place: str) -> Fault:
    mend = "give each device one file and a name of its own"
    return Fault(str(path), claim.line, "device", f"{claim.device!r} is taken by {place}", mend)
