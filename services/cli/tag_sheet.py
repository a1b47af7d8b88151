"""The tags of devices as a table (CSV): every field of host and driver is a column, dotted where nested. Pure.

Columns: `device`, `group`, the fields of the group as `group.interval` and so on, `tag`, and the fields of the tag.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from pydantic.fields import FieldInfo

from plugins.api.document import Fault, field_name
from services.cli.tag_cell import CellError, is_text, read, written
from services.gateway.device_fields import GroupFields, TagFields

DEVICE, GROUP, TAG = "device", "group", "tag"
_OF_GROUP = f"{GROUP}."
_HINT = "sep="
"""Begins a line before the header by which a spreadsheet is told the separator."""

Content = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields that a device's groups and tags may have: the host's, then its driver's."""

    group: Mapping[str, FieldInfo]
    tag: Mapping[str, FieldInfo]

    @classmethod
    def of(cls, group: Mapping[str, FieldInfo], tag: Mapping[str, FieldInfo]) -> "Fields":
        """With these fields of the driver."""
        own = {name: one for name, one in GroupFields.model_fields.items() if name != "tags"}
        return cls({**own, **group}, {**TagFields.model_fields, **tag})

    def find(self, column: str) -> FieldInfo | None:
        """The field of a column; None for one within a nested field."""
        if column.startswith(_OF_GROUP):
            return self.group.get(column.removeprefix(_OF_GROUP))
        return self.tag.get(column)

    @property
    def columns(self) -> list[str]:
        """All columns, in order."""
        return [DEVICE, GROUP, *(f"{_OF_GROUP}{name}" for name in self.group), TAG, *self.tag]

    def knows(self, column: str) -> bool:
        """Whether there is such a column; what is below a nested field is the driver's to judge."""
        return column in self.columns or any(column.startswith(f"{known}.") for known in self.columns[2:])


@dataclass(slots=True)
class Sheet:
    """What a table says. groups: by device, as they stand in device files. cells: row and column of each field by
    device and the field's path. faults: each with its row as line and its column as field."""

    groups: dict[str, Content] = field(default_factory=dict)
    cells: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


def sheet_of(device: str, groups: Mapping[str, Any], fields: Fields) -> str:
    """The table of a device's tags, with a row per tag. groups: as in a device file without fault."""
    rows = [
        {DEVICE: device, GROUP: group, TAG: tag}
        | {f"{_OF_GROUP}{path}": value for path, value in _flat(options, leave="tags")}
        | dict(_flat(content))
        for group, options in groups.items()
        for tag, content in options["tags"].items()
    ]
    columns = list(fields.columns)
    columns += sorted({column for row in rows for column in row} - set(columns))
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(columns)
    for row in rows:
        table.writerow([written(row.get(column), text=_holds_text(fields, column)) for column in columns])
    return out.getvalue()


def read_sheet(text: str, *, source: str, fields: Mapping[str, Fields], device: str | None = None) -> Sheet:
    """What the table says, and every fault that can be seen without the rest of the device files.

    fields: of each device that there is. device: that of rows that name none. The separator may be `,`, `;` or a tab.
    """
    return _Reading(source, fields, device).sheet(text)


class _Reading:
    def __init__(self, source: str, fields: Mapping[str, Fields], device: str | None) -> None:
        self._source = source
        self._fields = fields
        self._device = device
        self._sheet = Sheet()
        self._tags: dict[tuple[str, str], tuple[int, str]] = {}

    def sheet(self, text: str) -> Sheet:
        """The table, as far as it could be read; its faults are noted with their places."""
        try:
            rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text), delimiter=_separator(text))]
        except csv.Error as error:
            self._fault(1, "", f"is no table: {error}", "look for a quote that is not closed")
            return self._sheet
        filled = [(number, row) for number, row in enumerate(rows, start=1) if any(row)]
        if filled and filled[0][1][0].startswith(_HINT):
            del filled[0]
        if len(filled) < 2:
            self._fault(1, "", "holds no tags", f"write a header with {GROUP}, {TAG}, type, ... and a row per tag")
            return self._sheet
        header = _trimmed(filled[0][1])
        if self._check_header(filled[0][0], header):
            for number, row in filled[1:]:
                self._row(number, header, row)
        return self._sheet

    def _check_header(self, number: int, header: Sequence[str]) -> bool:
        needed = (GROUP, TAG) if self._device else (DEVICE, GROUP, TAG)
        for column in needed:
            if column not in header:
                mend = f"name the columns {', '.join(needed)}, type, ...; there are: {', '.join(filter(None, header))}"
                self._fault(number, column, "there is no such column", mend)
        for index, column in enumerate(header, start=1):
            if not column:
                self._fault(number, "", f"column {index} has no name", "name it, or remove it")
            elif header.count(column) > 1 and header.index(column) + 1 == index:
                self._fault(number, column, "stands twice in the header", "remove one")
        return not self._sheet.faults

    def _row(self, number: int, header: Sequence[str], row: Sequence[str]) -> None:
        if any(row[len(header) :]):
            mend = "put quotes around a cell with a comma in it, and write numbers with a point"
            self._fault(number, "", f"has {len(_trimmed(row))} cells, the header {len(header)}", mend)
            return
        cells = {column: cell for column, cell in zip(header, row, strict=False) if cell}
        device = cells.pop(DEVICE, self._device)
        group, tag = cells.pop(GROUP, None), cells.pop(TAG, None)
        for column, given in ((GROUP, group), (TAG, tag), (DEVICE, device)):
            if not given:
                self._fault(number, column, "is empty", f"name the {column}")
        if not (device and group and tag):
            return
        if device not in self._fields:
            there = ", ".join(sorted(self._fields)) or "none"
            self._fault(number, DEVICE, f"there is no device file of {device!r}", f"make one first; there are: {there}")
            return
        self._take(number, device, group, tag, cells)

    def _take(self, number: int, device: str, group: str, tag: str, cells: Mapping[str, str]) -> None:
        options = self._sheet.groups.setdefault(device, {}).setdefault(group, {"tags": {}})
        path = ("groups", group, "tags", tag)
        first, around = self._tags.setdefault((device, tag), (number, group))
        if first != number:
            mend = "remove one, or rename it: a tag's name is unique in its device, over all groups"
            self._fault(number, TAG, f"{tag} of the group {around} is on row {first} already", mend)
            return
        self._sheet.cells.setdefault((device, field_name(("groups", group))), (number, GROUP))
        self._sheet.cells[device, field_name(path)] = (number, TAG)
        content: Content = {}
        options["tags"][tag] = content
        for column, value in self._values(number, device, cells):
            if column.startswith(_OF_GROUP):
                self._take_option(number, (device, group), column, value)
            else:
                self._place(number, device, column, path, content, column, value)

    def _take_option(self, number: int, place: tuple[str, str], column: str, value: object) -> None:
        """A field of the group: every row of it that has one says the same."""
        device, group = place
        options, name = self._sheet.groups[device][group], column.removeprefix(_OF_GROUP)
        first = self._sheet.cells.get((device, f"groups.{group}.{name}"))
        if first is None:
            self._place(number, device, column, ("groups", group), options, name, value)
        elif _at(options, name) != value:
            mend = f"write the same in every row of the group, or leave it empty but in row {first[0]}"
            self._fault(number, column, f"differs from row {first[0]} of the group {group}", mend)

    def _place(
        self, number: int, device: str, column: str, path: tuple[str, ...], into: Content, name: str, value: object
    ) -> None:
        *around, last = name.split(".")
        for part in around:
            inner = into.setdefault(part, {})
            if not isinstance(inner, dict):
                self._fault(number, column, f"{part} has a column of its own already", "fill one of the two")
                return
            into = inner
        into[last] = value
        self._sheet.cells[device, field_name((*path, *name.split(".")))] = (number, column)

    def _values(self, number: int, device: str, cells: Mapping[str, str]) -> Iterator[tuple[str, object]]:
        fields = self._fields[device]
        for column, cell in cells.items():
            if not fields.knows(column):
                near = get_close_matches(column, fields.columns, n=1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                self._fault(number, column, "unknown column", f"{hint}there are: {', '.join(fields.columns)}")
                continue
            try:
                yield column, read(cell, text=_holds_text(fields, column))
            except CellError as error:
                self._fault(number, column, str(error), error.mend)

    def _fault(self, number: int, column: str, message: str, mend: str) -> None:
        self._sheet.faults.append(Fault(self._source, number, column, message, mend))


def in_sheet(fault: Fault, device: str, sheet: Sheet, *, source: str) -> Fault:
    """The fault of a device file made from the sheet, with the row and column that it comes from."""
    parts = fault.field.split(".")
    for end in range(len(parts), 1, -1):
        found = sheet.cells.get((device, ".".join(parts[:end])))
        if found is not None:
            row, column = found
            inner = ".".join(parts[end:])
            return Fault(source, row, inner if inner and column in {TAG, GROUP} else column, fault.message, fault.mend)
    return fault


def _holds_text(fields: Fields, column: str) -> bool:
    return column in {DEVICE, GROUP, TAG} or is_text(fields.find(column))


def _separator(text: str) -> str:
    header = next((line for line in text.splitlines() if line.strip()), "")
    return max(",;\t", key=header.count)


def _trimmed(row: Sequence[str]) -> list[str]:
    """Without the empty cells at its end, which spreadsheets leave behind."""
    length = max((index for index, cell in enumerate(row, start=1) if cell), default=0)
    return list(row[:length])


def _flat(content: Mapping[str, Any], *, leave: str = "", around: str = "") -> Iterator[tuple[str, object]]:
    for key, value in content.items():
        if key == leave:
            continue
        if isinstance(value, dict) and value:
            yield from _flat(value, around=f"{around}{key}.")
        else:
            yield f"{around}{key}", value


def _at(content: Content, name: str) -> object:
    found: Any = content
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found
