"""Nodes that ask a gateway for something: read, write, call. As commands over the bus, by the run's deadline."""

from typing import TypeVar

from pydantic import BaseModel

from contracts.codec import ContractError
from contracts.v1.command import CALL, READ, WRITE, Call, Command, ErrorCode, Failure, Read, Write
from contracts.v1.node import CallNode, ReadNode, WriteNode
from services.orchestrator.engine.executor import Work
from services.orchestrator.errors import NodeFailed
from services.orchestrator.nodes.tag import json_value
from services.orchestrator.run.plan import Values
from services.runtime.bus.bus import Bus, BusError

P = TypeVar("P", bound=BaseModel)
R = TypeVar("R", bound=BaseModel)


class DeviceNodes:
    """Sends commands. user: as whom the bus is logged in."""

    def __init__(self, *, bus: Bus, user: str) -> None:
        self._bus = bus
        self._user = user

    async def read(self, work: Work) -> Values:
        """Reads a tag of the device now. Raises NodeFailed."""
        node: ReadNode = work.node
        device, _, tag = node.tag.partition("/")
        result = await self._ask(READ, Read(), work, id=device)
        if tag not in result.values:
            raise NodeFailed(Failure(code=ErrorCode.NOT_FOUND, message=f"{device} gave no value of {tag!r}"))
        quality = result.q.get(tag) if result.q else None
        return {"value": json_value(result.values[tag]), "q": quality.q if quality else 192, "t": result.t}

    async def write(self, work: Work) -> Values:
        """Writes a tag, in the name of who saved the pipeline. Raises NodeFailed."""
        node: WriteNode = work.node
        device, _, tag = node.tag.partition("/")
        value = work.inputs.get("value")
        if not isinstance(value, bool | int | float | str):
            raise NodeFailed(Failure(code=ErrorCode.INVALID, message=f"{node.tag}: {value!r} cannot be written"))
        write = Write(value=value, expect=node.expect, on_behalf_of=self._author(work))
        result = await self._ask(WRITE, write, work, id=device, arg=tag)
        return {"value": json_value(result.value), "read_back": json_value(result.read_back)}

    async def call(self, work: Work) -> Values:
        """Runs a function of a device, in the name of who saved the pipeline. Raises NodeFailed."""
        node: CallNode = work.node
        inputs = {name: value for name, value in work.inputs.items() if value is not None}
        call = Call.model_validate(
            {"function": node.function, "inputs": inputs, "on_behalf_of": self._author(work)}, strict=False
        )
        result = await self._ask(CALL, call, work, id=node.device)
        return {name: json_value(value) for name, value in result.outputs.items()}

    def _author(self, work: Work) -> str:
        """In whose name the pipeline acts. Raises NodeFailed: his name is another's by now."""
        plan = work.plan
        if not self._bus.gate.is_same(plan.saved_by, plan.saver_since):
            message = (
                f"version {plan.version} of {plan.pipeline!r} was saved by another {plan.saved_by!r}, who was removed "
                "before that name was given anew; somebody who may must save it again"
            )
            raise NodeFailed(Failure(code=ErrorCode.FORBIDDEN, message=message))
        return plan.saved_by

    async def _ask(self, command: Command[P, R], payload: P, work: Work, **levels: str) -> R:
        """Raises NodeFailed."""
        try:
            outcome = await self._bus.request(command, payload, timeout_s=work.left_s, user=self._user, **levels)
        except (BusError, ContractError) as error:
            raise NodeFailed(Failure(code=ErrorCode.UNAVAILABLE, message=str(error))) from error
        if outcome.result is None:
            unsaid = Failure(code=ErrorCode.INTERNAL, message="the gateway gave no result")
            raise NodeFailed(outcome.error or unsaid)
        return outcome.result
