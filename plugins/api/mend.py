"""What would be right where a value is wrong: by pydantic's kind of error, in the words of who writes YAML."""

import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from contracts.duration import duration_text, parse_duration
from contracts.topic import LEVEL_PATTERN

_WHOLE = "write a whole number"
_NUMBER = "write a number"
_TRUTH = "write true or false"
_FIELDS = "write its fields below it, each on a line of its own as `name: value`"
_MENDS = {
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": _NUMBER,
    "bool_type": _TRUTH,
    "bool_parsing": _TRUTH,
    "string_type": "write a word, or put quotes around it",
    "path_type": "write a path",
    "model_type": _FIELDS,
    "model_attributes_type": _FIELDS,
    "dict_type": _FIELDS,
    "list_type": "write a list, such as [a, b]",
    "tuple_type": "write a list, such as [a, b]",
    "greater_than": "write more than {gt}",
    "greater_than_equal": "write {ge} or more",
    "less_than": "write less than {lt}",
    "less_than_equal": "write {le} or less",
    "string_too_short": "write at least {min_length} characters",
    "string_too_long": "write at most {max_length} characters",
}
"""What would be right, by pydantic's kind of error."""


def near_of(given: str, known: Sequence[str], form: Callable[[str], str] = str) -> str:
    """The known name that is most like the given one, if any is, and all of them. form: how one is written."""
    near = get_close_matches(given, known, n=1)
    hint = f"did you mean {form(near[0])}? " if near else ""
    return f"{hint}known: {', '.join(map(form, known))}"


def mend_of(kind: str, context: Mapping[str, Any], given: object) -> str:
    """The mend, empty if there is none to tell. kind, context: `type`, `ctx` of pydantic's error. given: the value."""
    if kind in {"literal_error", "enum"}:
        expected = str(context["expected"])
        near = get_close_matches(str(given), re.findall(r"'([^']*)'", expected), n=1)
        return f"did you mean {near[0]!r}?" if near else f"write {expected}"
    if kind == "string_pattern_mismatch" and context["pattern"] == f"^{LEVEL_PATTERN}$":
        return "use 1 to 63 of a-z 0-9 _ - and begin with a letter or digit"
    return _MENDS.get(kind, "").format_map(_durations(context) if _is_duration(given) else context)


def _is_duration(given: object) -> bool:
    try:
        parse_duration(given)
    except ValueError:
        return False
    return True


def _durations(bounds: Mapping[str, Any]) -> dict[str, Any]:
    """Bounds in seconds as people write them: the field that they are of takes no bare number."""
    return {name: duration_text(bound) if isinstance(bound, int | float) else bound for name, bound in bounds.items()}
