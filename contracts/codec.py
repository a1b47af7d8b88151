"""Bytes to message and back: UTF-8 JSON, with a bound on size and on nesting."""

import re
from itertools import accumulate
from typing import TypeVar

from pydantic import BaseModel, ValidationError

P = TypeVar("P", bound=BaseModel)

MAX_BYTES = 1 << 20
DEEPEST = 100
"""Lists and objects of a message that stand inside one another: less than any JSON parser of ours takes."""
_MOST_FAULTS = 10
_LONGEST_FAULT = 200
# A text that does not end counts to the end: to look for its end again from each quote would take the square of time.
_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_BRACKETS = b"[]{}"
_ALL_ELSE = bytes(set(range(256)) - set(_BRACKETS))
_STEPS = bytes.maketrans(_BRACKETS, b"\x01\xff\x01\xff")
"""An opening bracket as +1, a closing one as -1, each in a signed byte."""


class ContractError(ValueError):
    """A payload does not keep its contract; the message names the topic and the place inside the JSON."""


def encode(payload: BaseModel, *, topic: str, max_bytes: int = MAX_BYTES) -> bytes:
    """The payload as UTF-8 JSON.

    Raises ContractError beyond max_bytes, where the broker would drop it in silence, and beyond DEEPEST.
    """
    data = payload.model_dump_json().encode()
    check_size(data, topic=topic, max_bytes=max_bytes)
    check_nesting(data, topic=topic)
    return data


def decode(model: type[P], data: bytes, *, topic: str, max_bytes: int = MAX_BYTES) -> P:
    """The message in `data`. Raises ContractError naming the topic and the JSON paths of the first faults."""
    check_size(data, topic=topic, max_bytes=max_bytes)
    check_nesting(data, topic=topic)
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        raise ContractError(f"{topic}: {_told(error)}") from None


def _told(error: ValidationError) -> str:
    """The faults in a length that fits into a log line and a reply, whatever the message held."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    told = [f"{json_path(fault['loc'])}: {fault['msg']}" for fault in faults[:_MOST_FAULTS]]
    more = [f"and {len(faults) - _MOST_FAULTS} more"] if len(faults) > _MOST_FAULTS else []
    return "; ".join([_shown(text) for text in told] + more)


def _shown(text: str) -> str:
    """Its beginning; the sender's line ends and marks of direction stand as escapes: a fault is one line of a log."""
    short = text if len(text) <= _LONGEST_FAULT else f"{text[:_LONGEST_FAULT]}..."
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in short)


def check_size(data: bytes, *, topic: str, max_bytes: int = MAX_BYTES) -> None:
    """Raises ContractError if the payload is longer than the bound."""
    if len(data) > max_bytes:
        raise ContractError(f"{topic}: {len(data)} bytes, over the bound of {max_bytes}")


def check_nesting(data: bytes, *, topic: str) -> None:
    """Raises ContractError if more than DEEPEST lists and objects stand inside one another in the JSON.

    What one parser reads another may refuse (they stop at 200 levels, or at a thousand): so all take and send the same.
    """
    if data.count(b"[") + data.count(b"{") <= DEEPEST:
        return
    steps = _TEXT.sub(b"", data).translate(_STEPS, _ALL_ELSE)
    if max(accumulate(memoryview(steps).cast("b")), default=0) > DEEPEST:
        raise ContractError(f"{topic}: more than {DEEPEST} lists and objects stand inside one another")


def json_path(location: tuple[int | str, ...]) -> str:
    """A pydantic location as a JSON path: ("samples", 0, "t") is $.samples[0].t."""
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
