"""`groups:` in the text of a device file, written anew while everything around it stays as it is. Pure."""

from collections.abc import Mapping
from typing import Any

import yaml

from plugins.api.document import Document, DocumentError

GROUPS = "groups"


def with_groups(text: str, groups: Mapping[str, Any], *, source: str) -> tuple[str, int]:
    """The text of a device file with these groups, and how many lines with comments that costs.

    Comments in the block of the groups are lost, all others stay; a file that is laid out in another way than as
    `key: value` lines is written anew as a whole. source: its name in errors. Raises DocumentError.
    """
    before = Document.parse(text, source=source)
    if not isinstance(before.data, dict):
        raise DocumentError([before.fault((), "not a device", "write device, driver, connection and groups")])
    if before.data.get(GROUPS) == groups:
        return text, 0
    wanted = {**before.data, GROUPS: groups}
    lines = text.splitlines(keepends=True)
    first, last = _block(before, lines)
    edited = "".join([*lines[:first], *_newline_after(lines[:first]), _dumped({GROUPS: groups}), *lines[last:]])
    if _means(edited, wanted):
        return edited, sum("#" in line for line in lines[first:last])
    return _dumped(wanted), sum("#" in line for line in lines)


def _block(document: Document, lines: list[str]) -> tuple[int, int]:
    """The lines of the groups, without the comments that stand before the next key: they belong to it."""
    starts = sorted(document.line((key,)) - 1 for key in document.data)
    if GROUPS not in document.data:
        return len(lines), len(lines)
    first = document.line((GROUPS,)) - 1
    last = next((start for start in starts if start > first), len(lines))
    while last > first + 1 and (not lines[last - 1].strip() or lines[last - 1].startswith("#")):
        last -= 1
    return first, last


def _newline_after(lines: list[str]) -> list[str]:
    return ["\n"] if lines and not lines[-1].endswith("\n") else []


def _dumped(data: Mapping[str, Any]) -> str:
    text: str = yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)
    return text


def _means(text: str, wanted: Mapping[str, Any]) -> bool:
    try:
        return bool(Document.parse(text, source="").data == wanted)
    except DocumentError:
        return False
