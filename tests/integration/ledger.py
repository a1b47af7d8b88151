"""Commands to devices as a test sends them, and what the ledger says of them."""

from typing import Any

from contracts.v1.command import CALL, WRITE, Call, CallResult, Write, WriteResult
from services.runtime.bus.bus import Outcome
from tests.integration.gateway_site import Listener


async def write(
    listener: Listener,
    tag: str,
    value: Any,
    *,
    device: str = "pump",
    user: str = "anna",
    timeout_s: float = 20.0,
    **more: Any,
) -> Outcome[WriteResult]:
    """Writes, and gives the answer. more: fields of Write."""
    command = Write(value=value, **more)
    return await listener.bus.request(WRITE, command, user=user, timeout_s=timeout_s, id=device, arg=tag)


async def call(
    listener: Listener, function: str, *, device: str, user: str = "anna", timeout_s: float = 20.0, **inputs: Any
) -> Outcome[CallResult]:
    """Calls a function, and gives the answer."""
    command = Call(function=function, inputs=inputs)
    return await listener.bus.request(CALL, command, user=user, timeout_s=timeout_s, id=device)


def told(listener: Listener, device: str = "pump") -> list[str]:
    """The types of the device's events that concern commands."""
    return [event["type"] for event in events(listener, device)]


def events(listener: Listener, device: str = "pump") -> list[dict[str, Any]]:
    """The device's events that concern commands."""
    heard = [event for message in listener.heard[f"event/plant/device/{device}"] for event in message["events"]]
    return [event for event in heard if event["type"].split(".")[0] in {"write", "call", "command"}]


async def online(listener: Listener, device: str = "pump") -> None:
    """Returns once the device is online."""
    await listener.until(lambda: listener.last(f"device/{device}/state").get("state") == "online")
