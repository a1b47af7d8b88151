"""`dinrail read`, `write`, `call`: what an operator asks of a device."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel
from rich.table import Table

from contracts.acl import OPERATOR
from contracts.codec import ContractError
from contracts.topic import TopicError
from contracts.v1.command import CALL, READ, WRITE, Call, Command, Read, Write
from contracts.v1.device import DEVICE, DeviceInfo
from contracts.v1.frame import GOOD
from contracts.v1.message import Scalar
from plugins.api.document import DocumentError
from services.cli import asking, completion
from services.cli.connection import ConnectionFailed, access_as, connected
from services.cli.options import HERE, AsJson, Folder, fail
from services.cli.picture import quality_word
from services.cli.site import Site
from services.cli.table import console, value_text
from services.cli.typed_input import Mistyped, named_values, pair_of, scalar_for
from services.runtime.bus.bus import BusError, Delivery, Outcome

FOUND_S = 2.0
"""How long a device's description may take to come; it is retained."""

P = TypeVar("P", bound=BaseModel)
R = TypeVar("R", bound=BaseModel)

Device = Annotated[str, typer.Argument(help="The device.", autocompletion=completion.devices)]
Timeout = Annotated[float, typer.Option(min=1, max=600, help="Seconds in which it is to be begun and answered.")]


def read(
    device: Device,
    group: Annotated[str | None, typer.Argument(help="One poll group; else all.")] = None,
    timeout: Timeout = 5.0,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Read a device now, not as it was last polled."""
    asked = asking.question(Read, {"group": group})
    result = _ask(folder, READ, lambda _info: asked, device=device, timeout_s=timeout)
    if as_json:
        typer.echo(result.model_dump_json())
        return
    table = Table("tag", "value", "quality", box=None)
    for tag, value in result.values.items():
        quality = (result.q or {}).get(tag)
        poor = f"{quality_word(quality.q)} ({quality.cause})" if quality else quality_word(GOOD)
        table.add_row(tag, value_text(value), poor)
    console().print(table)


def write(
    device: Device,
    tag: Annotated[
        str, typer.Argument(help="The tag; the device file must say writable: true.", autocompletion=completion.tags)
    ],
    value: Annotated[str, typer.Argument(help="The value, as the tag's type has it.")],
    expect: Annotated[
        list[str] | None, typer.Option(help="TAG=VALUE that must be so just before, else nothing is written.")
    ] = None,
    timeout: Timeout = 5.0,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Write a set-point: checked, written once, read back."""
    if value.startswith("--"):
        raise typer.BadParameter(f"there is no option {value}", param_hint="VALUE")
    make = partial(_write, tag=tag, text=value, expect=expect or [])
    result = _ask(folder, WRITE, make, device=device, timeout_s=timeout, arg=tag)
    if as_json:
        typer.echo(result.model_dump_json())
    else:
        typer.echo(f"{device}/{tag}: written {value_text(result.value)}, read back {value_text(result.read_back)}")


def call(
    device: Device,
    function: Annotated[str, typer.Argument(help="A function of the device.")],
    inputs: Annotated[list[str] | None, typer.Argument(help="Its inputs, as NAME=VALUE.")] = None,
    timeout: Timeout = 60.0,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Run a function of a device to its end."""
    make = partial(_call, function=function, inputs=inputs or [])
    result = _ask(folder, CALL, make, device=device, timeout_s=timeout)
    if as_json:
        typer.echo(result.model_dump_json())
        return
    outputs = ", ".join(f"{name} = {value_text(value)}" for name, value in result.outputs.items())
    typer.echo(f"{device}: {function} done{': ' if outputs else ''}{outputs}")


@dataclass(slots=True)
class _Found:
    """The device's description, once it has come."""

    info: DeviceInfo | None = None
    come: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, delivery: Delivery[DeviceInfo]) -> None:
        """Keeps the device's description, and says that it has come."""
        self.info = delivery.payload
        self.come.set()


def _write(info: DeviceInfo, *, tag: str, text: str, expect: list[str]) -> Write:
    """Raises Mistyped."""
    pairs = [pair_of(pair, form="TAG=VALUE, such as level=50") for pair in expect]
    wanted = {name: _typed(info, name, given) for name, given in pairs}
    return asking.question(Write, {"value": _typed(info, tag, text), "expect": wanted or None})


def _call(info: DeviceInfo, *, function: str, inputs: list[str]) -> Call:
    """Raises Mistyped."""
    known = (info.functions or {}).get(function)
    texts = [name for name, port in known.inputs.items() if port.type == "string"] if known else []
    return asking.question(Call, {"function": function, "inputs": named_values(inputs, texts=texts)})


def _typed(info: DeviceInfo, tag: str, text: str) -> Scalar:
    if tag not in info.tags:
        raise Mistyped(f"{info.device} has no tag {tag!r}; `dinrail tags '{info.device}/*'` shows them")
    return scalar_for(text, info.tags[tag].type)


def _ask(
    folder: Path,
    command: Command[P, R],
    make: Callable[[DeviceInfo], P],
    *,
    device: str,
    timeout_s: float,
    **levels: str,
) -> R:
    """Sends the command and gives its result; ends the program with its error. make: the command from the device."""
    try:
        outcome = asyncio.run(_request(folder, command, make, device=device, timeout_s=timeout_s, levels=levels))
    except (ConnectionFailed, DocumentError, BusError, ContractError, TopicError, Mistyped) as error:
        fail(str(error))
    if outcome.result is None:
        failure = outcome.error
        typer.echo(f"{failure.code}: {failure.message}" if failure else "refused", err=True)
        raise typer.Exit(1)
    return outcome.result


async def _request(
    folder: Path,
    command: Command[P, R],
    make: Callable[[DeviceInfo], P],
    *,
    device: str,
    timeout_s: float,
    levels: dict[str, Any],
) -> Outcome[R]:
    access = access_as(OPERATOR.name, Site(folder))
    found = _Found()
    async with connected(access, lambda bus: bus.subscribe(DEVICE, found.take, device=device)) as bus:
        try:
            async with asyncio.timeout(FOUND_S):
                await found.come.wait()
        except TimeoutError:
            told = f"no device {device!r} at this site that {access.account} sees; `dinrail device list` tells"
            raise Mistyped(told) from None
        assert found.info is not None
        payload = make(found.info)
        return await bus.request(command, payload, timeout_s=timeout_s, user=access.account, id=device, **levels)
