"""Methods of objects: called with the arguments' own data types (OPC 10000-4, 5.11.2)."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from asyncua import ua
from asyncua.ua.uaerrors import BadNodeIdInvalid, BadNodeIdUnknown, BadNoMatch
from asyncua.ua.uaprotocol_auto import Argument  # as it is decoded; ua.Argument is a subclass

from plugins.api.driver import DeviceError, FunctionSpec, Value

from .answers import ask, decoded, device_errors, effect_cause, effect_errors, within
from .config import NodeAddress
from .nodes import node_id
from .session import Session
from .values import argument_value, readable, variant

_TIMEOUT_S = 10.0
"""Of a method whose file names none."""
_ANY = ua.VariantType.Variant
_NO_SUCH = frozenset(
    {ua.StatusCodes.BadMethodInvalid, ua.StatusCodes.BadNodeIdUnknown, ua.StatusCodes.BadNodeIdInvalid}
)
"""How a server says that the object has no such method (OPC 10000-4, 5.11.2.4)."""


class Methods:
    """The functions of one device, which are methods of the server. What arguments they take is asked for once."""

    def __init__(self, session: Session, functions: Sequence[FunctionSpec]) -> None:
        self._session = session
        self._functions = {one.name: one for one in functions}
        self._kinds: dict[str, Sequence[ua.VariantType]] = {}

    async def call(self, name: str, inputs: Mapping[str, Value]) -> Mapping[str, Value]:
        """Runs the method once and returns its outputs by the names that the file gives them, in order.

        Raises DeviceError: cause config if there is no such method or it takes other arguments, range if an argument's
        type cannot hold the value (nothing is sent then), device with the status code if the server refuses, busy if it
        does so for now, comm if it does not answer, or in a way that leaves open whether it was done.
        """
        function = self._functions[name]
        kinds = await self._kinds_of(function)
        arguments = [
            self._argument(name, port, inputs, kind) for port, kind in zip(function.ports.inputs, kinds, strict=True)
        ]
        call: Any = ua.CallMethodRequest
        request = ua.CallRequest()
        request.Parameters.MethodsToCall = [
            call(
                ObjectId=self._node(name, function.source.object),
                MethodId=self._node(name, function.source.method),
                InputArguments=arguments,
            )
        ]
        timeout_s = function.ports.timeout_s or _TIMEOUT_S
        with effect_errors(f"{self._session.url}: call {name}"):
            async with within(timeout_s):
                answer = await ask(self._session.client, request, timeout_s=timeout_s)
            (result,) = decoded(ua.CallResponse, answer).Results
        self._check(function, result)
        return self._outputs(function, result.OutputArguments or [])

    async def _kinds_of(self, function: FunctionSpec) -> Sequence[ua.VariantType]:
        """The built-in type of each argument. Raises DeviceError if the file names more or fewer, or more outputs."""
        if function.name not in self._kinds:
            method, ports = self._node(function.name, function.source.method), function.ports
            arguments = await input_arguments(self._session, method)
            if len(arguments) != len(ports.inputs):
                raise _misfit(function.name, "takes", arguments, "inputs", ports.inputs)
            given = await output_arguments(self._session, method)
            if given and len(given) < len(ports.outputs):  # when they have not come, it has been done already
                raise _misfit(function.name, "gives", given, "outputs", ports.outputs)
            kinds = [await self._session.built_in(one.DataType) for one in arguments]
            self._kinds[function.name] = [kind or _ANY for kind in kinds]
        return self._kinds[function.name]

    def _argument(self, name: str, port: str, inputs: Mapping[str, Value], kind: ua.VariantType) -> ua.Variant:
        if inputs.get(port) is None:
            return ua.Variant()
        try:
            return variant(inputs[port], kind)
        except TypeError as error:
            raise DeviceError(f"{name}: {port}: {error}", cause="config") from error
        except ValueError as error:
            raise DeviceError(f"{name}: {port}: {error}", cause="range") from error

    def _node(self, name: str, address: NodeAddress) -> ua.NodeId:
        try:
            return node_id(address, self._session.namespaces)
        except (LookupError, ValueError) as error:
            raise DeviceError(f"{name}: {self._session.url} has {error.args[0]}", cause="config") from None

    def _check(self, function: FunctionSpec, result: ua.CallMethodResult) -> None:
        code = int(result.StatusCode.value)
        if not code >> 31:
            return
        bad = [
            f"{port}: {ua.StatusCode(status.value).name}"
            for port, status in zip(function.ports.inputs, result.InputArgumentResults or [], strict=False)
            if status.value >> 31
        ]
        told = f" ({', '.join(bad)})" if bad else ""
        cause = "config" if code in _NO_SUCH else effect_cause(code)
        raise DeviceError(f"{function.name}: {result.StatusCode.name}{told}", cause=cause, code=code)

    def _outputs(self, function: FunctionSpec, given: Sequence[ua.Variant]) -> Mapping[str, Value]:
        """Those that came: of one that did not, who asked is told that it was done all the same."""
        return {name: argument_value(one) for name, one in zip(function.ports.outputs, given, strict=False)}


def _misfit(name: str, does: str, arguments: Sequence[Argument], which: str, named: Collection[str]) -> DeviceError:
    told = ", ".join(readable(str(one.Name)) for one in arguments) or "none"
    message = f"{name}: the method {does} {len(arguments)} {which} ({told}), the file names {len(named)}"
    return DeviceError(message, cause="config")


async def input_arguments(session: Session, method: ua.NodeId) -> Sequence[Argument]:
    """What the method takes; nothing if it has no such property. Raises DeviceError, cause config: no such method."""
    return await _arguments(session, method, "0:InputArguments")


async def output_arguments(session: Session, method: ua.NodeId) -> Sequence[Argument]:
    """What the method gives. As input_arguments."""
    return await _arguments(session, method, "0:OutputArguments")


async def _arguments(session: Session, method: ua.NodeId, which: str) -> Sequence[Argument]:
    node = session.client.get_node(method)
    with device_errors(f"{session.url}: arguments of {method.to_string()}"):
        async with within(2 * session.timeout_s):
            try:
                found = await (await node.get_child(which)).read_value()
            except BadNoMatch:
                return ()
            except (BadNodeIdUnknown, BadNodeIdInvalid) as error:
                raise DeviceError(f"{session.url} has no method {method.to_string()}", cause="config") from error
    return [one for one in found or () if isinstance(one, Argument)]
