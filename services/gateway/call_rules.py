"""Whether a function may be called with these inputs, and whether it gave what its manifest promises. Pure."""

from collections.abc import Mapping
from difflib import get_close_matches

from contracts.v1.command import Call, ErrorCode
from plugins.api.driver import Value
from plugins.api.manifest import FunctionManifest, Port
from services.gateway.device_file import DeviceFile
from services.gateway.write_rules import Refused

TIMEOUT_S = 10.0
"""Of a function whose manifest names none."""


def find_function(device: DeviceFile, call: Call) -> FunctionManifest:
    """What is called. Raises Refused: not_found, not_writable."""
    known = device.functions
    function = known.get(call.function)
    if function is None:
        near = get_close_matches(call.function, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known) or 'none'}"
        raise Refused(ErrorCode.NOT_FOUND, f"{device.name} has no function {call.function!r}; {hint}")
    if not device.writes:
        raise Refused(
            ErrorCode.NOT_WRITABLE, f"{device.name}: calls are off; its device file does not say writes: enabled"
        )
    return function


def checked_inputs(call: Call, function: FunctionManifest) -> Mapping[str, Value]:
    """The inputs as the function takes them: a number is a float. Raises Refused: invalid, out_of_range."""
    unknown = sorted(call.inputs.keys() - function.inputs.keys())
    if unknown:
        known = ", ".join(function.inputs) or "none"
        raise Refused(ErrorCode.INVALID, f"{call.function} has no input {unknown[0]!r}; it has: {known}")
    inputs: dict[str, Value] = {}
    for name, port in function.inputs.items():
        if call.inputs.get(name) is None:
            if not port.optional:
                raise Refused(ErrorCode.INVALID, f"{call.function}: the input {name!r} is missing")
            continue
        inputs[name] = _checked(name, call.inputs[name], port)
    return inputs


def unkept_promise(outputs: Mapping[str, Value], function: FunctionManifest) -> str | None:
    """What is wrong with the outputs; None if they are as the manifest says."""
    for name, port in function.outputs.items():
        if outputs.get(name) is None:
            if not port.optional:
                return f"the output {name!r} is missing"
        elif not _fits(outputs[name], port):
            return f"the output {name!r} is {outputs[name]!r}, not of type {port.type}"
    return None


def _checked(name: str, value: Value, port: Port) -> Value:
    if not _fits(value, port):
        raise Refused(ErrorCode.INVALID, f"input {name}: {value!r} is not of type {port.type}")
    if port.range and isinstance(value, int | float) and not port.range[0] <= value <= port.range[1]:
        low, high = port.range
        message = f"input {name}: {value!r} is outside its range: {low!r} to {high!r} {port.unit or ''}"
        raise Refused(ErrorCode.OUT_OF_RANGE, message.rstrip(), low=low, high=high)
    return float(value) if port.type == "number" and isinstance(value, int) else value


def _fits(value: Value, port: Port) -> bool:
    if isinstance(value, bool):
        return port.type == "boolean"
    kinds = {"number": int | float, "integer": int, "string": str, "array": list}
    kind = kinds.get(port.type)
    return kind is not None and isinstance(value, kind)
