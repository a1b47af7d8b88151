"""Variables of the environment that override fields of the settings file: DINRAIL_BROKER__HOST that of broker.host."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import yaml

from plugins.api.document import Document, Fault
from plugins.api.mend import near_of

PREFIX = "DINRAIL_"
CONFIG_VARIABLE = "DINRAIL_CONFIG"
"""Names the settings file, and overrides nothing."""


class Overrides:
    """Those of one environment; an empty variable counts as not given."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._variables = {
            tuple(variable.removeprefix(PREFIX).lower().split("__")): variable
            for variable in sorted(environ)
            if variable.startswith(PREFIX) and variable != CONFIG_VARIABLE and environ[variable]
        }

    def unknown(self, sections: Sequence[str]) -> Iterator[Fault]:
        """A fault for each that is for none of these sections."""
        for path, variable in self._variables.items():
            if path[0] not in sections:
                yield Fault(variable, 0, "", "unknown variable", near_of(path[0], sections, form=_variables_of))

    def merged(self, document: Document, faults: list[Fault]) -> dict[str, Any]:
        """The file's content with them put in. A field that cannot have the named one below it is added to the faults.

        A value may be a YAML list or map in brackets.
        """
        merged: dict[str, Any] = deepcopy(document.data)
        for path, variable in self._variables.items():
            part: Any = merged
            for depth, key in enumerate(path[:-1], start=1):
                if part.get(key) is None:
                    part[key] = {}
                part = part[key]
                if not isinstance(part, dict):
                    place = ".".join(path[:depth])
                    faults.append(Fault(variable, 0, "", f"{place} has no fields", "remove the variable"))
                    break
            else:
                part[path[-1]] = _value(self._environ[variable])
        return merged

    def named(self, faults: Iterable[Fault]) -> Iterator[Fault]:
        """The faults; one in a value that a variable gave names the variable instead of the file."""
        for fault in faults:
            parts = tuple(re.split(r"[.\[]", fault.field))
            found = [variable for path, variable in self._variables.items() if path == parts[: len(path)]]
            yield replace(fault, source=max(found, key=len), line=0) if found and fault.line else fault


def _variables_of(section: str) -> str:
    return PREFIX + section.upper() + ("" if section == "site" else "__...")


def _value(text: str) -> object:
    """The variable's text; a list or a map in brackets is read as YAML, a number by the field's own model."""
    if not text.startswith(("[", "{")):
        return text
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return text
