"""What a plugin of kind `function` gives: functions to compute with, run in a process of their own.

Its entry, `function:FUNCTIONS` by custom, is a map from the names in plugin.yaml to functions. Each takes its inputs by
keyword, with - in a port's name written as _, and returns its outputs by port name, as plain JSON values: numbers,
texts, booleans, lists, maps of these. It is synchronous and pure: no clock, no chance, no files, no network, nothing
kept from one call to the next. If it cannot be computed of its inputs, that is an InputError; anything else that it
raises is a bug.

The host checks types and ranges before and after, and limits time and memory: a function does none of this.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from plugins.api.ports import PortLike

Function = Callable[..., Mapping[str, Any]]


class Promise(Protocol):
    """What a manifest says of a function's ports."""

    @property
    def inputs(self) -> Mapping[str, PortLike]:
        """By name."""
        ...

    @property
    def outputs(self) -> Mapping[str, PortLike]:
        """By name."""
        ...


class InputError(ValueError):
    """Of these inputs the function cannot be computed; the text says which and why."""


def keywords(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs by port name as the function takes them."""
    return {name.replace("-", "_"): value for name, value in inputs.items()}


def function_complaints(entry: object, promised: Mapping[str, Promise]) -> Iterator[str]:
    """What the entry lacks to be the functions that are promised."""
    if not isinstance(entry, Mapping):
        yield "it is no map from names to functions"
        return
    for name in sorted(promised.keys() - entry.keys()):
        yield f"{name} is missing"
    for name in sorted(entry.keys() - promised.keys()):
        yield f"{name} is not in plugin.yaml"
    for name, promise in promised.items():
        if name in entry:
            yield from _complaints(name, entry[name], promise)


def _complaints(name: str, function: object, promise: Promise) -> Iterator[str]:
    if not callable(function) or inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        yield f"{name} is no plain function"
        return
    needed = {port: None for port, what in promise.inputs.items() if not what.optional}
    for given in (needed, promise.inputs):
        try:
            inspect.signature(function).bind(**keywords(given))
        except TypeError as error:
            yield f"{name}() cannot be called with its inputs: {error}"
            return
