"""`dinrail tags export` and `dinrail tags import`: the tags in a site's device files, as a table and back."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from plugins.api.document import Document, DocumentError, Fault
from plugins.api.registry import PluginError, Registry
from services.cli.counted import counted
from services.cli.settings import read_settings
from services.cli.site import Site
from services.cli.tag_sheet import Fields, in_sheet, read_sheet, sheet_of
from services.gateway.catalog import DeviceFolder
from services.gateway.device_file import parse_device
from services.gateway.groups_block import GROUPS, with_groups
from services.gateway.whole_file import write_whole


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    text: str
    groups: Mapping[str, Any]
    fields: Fields


@dataclass(frozen=True, slots=True)
class Import:
    """What a table would change. summary: a line per device. files: the new text of each file that changes."""

    summary: tuple[str, ...]
    files: Mapping[Path, str]

    def store(self) -> None:
        """Writes the files; a gateway that runs takes them up by itself. Raises OSError."""
        for path, text in self.files.items():
            write_whole(path, text)


def export_tags(site: Site, device: str) -> str:
    """The table of a device's tags. Raises DocumentError."""
    files = _files(site)[0]
    if device not in files:
        there = ", ".join(sorted(files)) or "none"
        raise DocumentError([Fault(str(site.devices), 0, device, "there is no such device", f"there are: {there}")])
    return sheet_of(device, files[device].groups, files[device].fields)


def import_tags(site: Site, table: Path, *, device: str | None) -> Import:
    """What the table changes: a device that stands in it has afterwards the tags of the table and no others.

    device: that of rows without a device. Raises DocumentError with every fault, by row and column.
    """
    files, drivers = _files(site)
    source = table.name
    if device is not None and device not in files:
        there = ", ".join(sorted(files)) or "none"
        raise DocumentError(
            [Fault(source, 0, "device", f"there is no device file of {device!r}", f"there are: {there}")]
        )
    sheet = read_sheet(
        _text_of(table), source=source, fields={name: one.fields for name, one in files.items()}, device=device
    )
    faults, changed, summary = list(sheet.faults), dict[Path, str](), list[str]()
    for name, groups in sheet.groups.items() if not faults else ():
        file = files[name]
        text, comments = with_groups(file.text, groups, source=str(file.path))
        try:
            parse_device(text, source=str(file.path), drivers=drivers)
        except DocumentError as error:
            faults += [in_sheet(fault, name, sheet, source=source) for fault in error.faults]
        if text != file.text:
            changed[file.path] = text
        summary.append(_summary(name, file.groups, groups, comments))
    if faults:
        raise DocumentError(faults)
    return Import(tuple(summary), changed)


def _files(site: Site) -> tuple[dict[str, _File], Registry]:
    settings = read_settings(site).gateway
    drivers = Registry(settings.driver_folders, kind="driver")
    files: dict[str, _File] = {}
    for name, path in DeviceFolder(settings.devices, drivers).load().paths.items():
        text = path.read_text(encoding="utf-8")
        try:
            data = Document.parse(text, source=str(path)).data
        except DocumentError:
            continue  # `dinrail check` says what is wrong with it
        groups = data.get(GROUPS) if isinstance(data, dict) else None
        if isinstance(data, dict):
            files[name] = _File(path, text, groups if _whole(groups) else {}, _fields(drivers, str(data.get("driver"))))
    return files, drivers


def _whole(groups: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether a table can show these groups."""
    return isinstance(groups, dict) and all(
        isinstance(one, dict)
        and isinstance(one.get("tags"), dict)
        and all(isinstance(t, dict) for t in one["tags"].values())
        for one in groups.values()
    )


def _fields(drivers: Registry, driver: str) -> Fields:
    try:
        entry = drivers.load(driver).entry
    except PluginError:
        return Fields.of({}, {})
    return Fields.of(entry.group.model_fields, entry.tag.model_fields)


def _text_of(table: Path) -> str:
    try:
        return table.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DocumentError([Fault(table.name, 0, "", "is not UTF-8", "save it as `CSV UTF-8`")]) from None
    except OSError as error:
        raise DocumentError([Fault(table.name, 0, "", f"cannot be read: {error.strerror}")]) from None


def _summary(device: str, before: Mapping[str, Any], after: Mapping[str, Any], comments: int) -> str:
    old, new = _tags(before), _tags(after)
    counts = (
        (len(new.keys() - old.keys()), "added"),
        (sum(old[tag] != new[tag] for tag in old.keys() & new.keys()), "changed"),
        (len(old.keys() - new.keys()), "removed"),
    )
    told = ", ".join(f"{count} {what}" for count, what in counts if count)
    lost = f"; lost: {counted(comments, 'line')} with comments in its groups" if comments else ""
    if not told:
        told = "its groups changed" if before != after else "nothing changed"
    return f"{device}: {told}, {counted(len(new), 'tag')}{lost}"


def _tags(groups: Mapping[str, Any]) -> dict[str, Any]:
    return {tag: (group, fields) for group, one in groups.items() for tag, fields in one["tags"].items()}
