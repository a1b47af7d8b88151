"""One cell of a table of tags: a value of a device file as a person writes it in a spreadsheet, and back. Pure."""

import json
import re
from datetime import date
from types import NoneType
from typing import Any, get_args

from pydantic.fields import FieldInfo

from plugins.api.document import plain_value

_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+([eE][-+]?\d+)?")


class CellError(ValueError):
    """A cell cannot be read. mend: what would be right."""

    def __init__(self, message: str, mend: str) -> None:
        super().__init__(message)
        self.mend = mend


def is_text(field: FieldInfo | None) -> bool:
    """Whether the field holds text and nothing else: `12` in such a cell is the text 12."""
    if field is None:
        return False
    kinds = set(get_args(field.annotation)) or {field.annotation}
    return kinds - {NoneType} == {str}


def written(value: object, *, text: bool) -> str:
    """The value as a cell; empty for None."""
    if value is None:
        return ""
    if isinstance(value, str):
        try:
            plain = value != "" and value == value.strip() and read(value, text=text) == value
        except CellError:
            plain = False
        return value if plain else json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool | list | dict):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float):
        return re.sub(r"^([-+]?\d+)e", r"\1.0e", repr(value))  # without a point YAML would take it for a word
    return value.isoformat() if isinstance(value, date) else str(value)


def read(cell: str, *, text: bool) -> Any:  # noqa: ANN401 - whatever YAML has
    """The value of a cell that is not empty. Raises CellError."""
    if cell.startswith('"') or (cell[0] in "[{" and not text):
        try:
            return json.loads(cell)
        except (ValueError, RecursionError):
            if text:
                return cell
            raise CellError(
                f"{cell[:40]!r} is not complete", "write a list as [0, 100], and a text without quotes"
            ) from None
    if text:
        return cell
    if _DECIMAL_COMMA.fullmatch(cell):
        raise CellError(f"{cell!r} has a decimal comma", f"write {cell.replace(',', '.')}")
    return plain_value(cell)
