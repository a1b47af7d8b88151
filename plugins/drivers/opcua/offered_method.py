"""A method of the server as a function of a device file."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from itertools import chain, count
from typing import Literal

from asyncua import ua
from asyncua.ua.uaprotocol_auto import Argument  # as it is decoded; ua.Argument is a subclass

from contracts.v1.device import ValueType
from plugins.api.manifest import FunctionManifest, Port

from .kinds import tag_type
from .values import readable

_PortType = Literal["number", "integer", "boolean", "string", "array", "object"]
_PORTS: Mapping[ValueType, _PortType] = {
    ValueType.BOOL: "boolean",
    ValueType.STRING: "string",
    ValueType.ARRAY: "array",
    ValueType.FLOAT32: "number",
    ValueType.FLOAT64: "number",
}


async def ports_of(
    name: str, inputs: object, outputs: object, built_in: Callable[[ua.NodeId], Awaitable[ua.VariantType | None]]
) -> tuple[FunctionManifest | None, str]:
    """Inputs and outputs of the method by name, in their order; or none, and why it cannot be a function.

    inputs, outputs: values of the method's properties; anything else than a list of arguments is none.
    """
    sides: list[dict[str, Port]] = []
    for given in (inputs, outputs):
        arguments = [one for one in given if isinstance(one, Argument)] if isinstance(given, list) else []
        ports: dict[str, Port] = {}
        for argument in arguments:
            kind = await built_in(argument.DataType)
            shown = None if kind is None else tag_type(kind, array=int(argument.ValueRank) >= 0)
            if shown is None:
                return None, f"its argument {readable(str(argument.Name))} is of a type that a function cannot take"
            ports[_name(str(argument.Name), ports)] = Port(
                type=_PORTS.get(shown, "integer"), title=readable(str(argument.Name))
            )
        sides.append(ports)
    return FunctionManifest(title=name, inputs=sides[0], outputs=sides[1]), ""


def _name(given: str, taken: Iterable[str]) -> str:
    """The argument's name as a device file takes it."""
    name = re.sub(r"[^a-z0-9_]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", given).lower()).strip("_")[:55]
    names = (f"{name or 'value'}{suffix}" for suffix in chain([""], (f"_{number}" for number in count(2))))
    return next(one for one in names if one not in taken)
