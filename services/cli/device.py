"""`dinrail device`: devices added, changed and removed by command, while the gateway runs."""

import asyncio
import re
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel
from rich.table import Table

from contracts.acl import ENGINEER
from contracts.topic import TopicError, check_level
from contracts.v1.command import (
    DELETE,
    DISABLE,
    ENABLE,
    PUT,
    RELOAD,
    Command,
    Delete,
    Disable,
    Enable,
    ErrorCode,
    Put,
    Reload,
)
from plugins.api.document import DocumentError
from plugins.api.duration import parse_duration
from services.cli import asking, completion
from services.cli.connection import ConnectionFailed, access_as, connected, viewer_access
from services.cli.options import CANNOT, HERE, Folder, fail
from services.cli.picture import Picture
from services.cli.site import Site
from services.cli.table import print_table
from services.cli.tags import settle
from services.cli.viewer import Viewer
from services.gateway.claim import claim_of
from services.gateway.device_fields import DEFAULT_GATEWAY
from services.gateway.editor import SENT_FILE
from services.runtime.bus.bus import BusError, Outcome

ANSWER_S = 5.0
RELOAD_S = 60.0
LONGEST_PROBE_S = 60.0

R = TypeVar("R", bound=BaseModel)

device_app = typer.Typer(no_args_is_help=True, help="Add, change and remove devices while the gateway runs.")


def _level(text: str | None) -> str | None:
    """What may stand in a topic. Raises typer.BadParameter."""
    try:
        return None if text is None else check_level("a name", text)
    except TopicError as error:
        raise typer.BadParameter(str(error)) from error


Name = Annotated[str, typer.Argument(callback=_level, help="The device.", autocompletion=completion.devices)]
Gateway = Annotated[
    str | None, typer.Option(callback=_level, help="Its gateway; else the one that tells of the device.")
]
ExpectRev = Annotated[str | None, typer.Option("--expect-rev", help="Only if this is its revision now.")]


@device_app.command()
def put(
    file: Annotated[Path, typer.Argument(help="A device file.")],
    probe: Annotated[str | None, typer.Option(help="Undo it if the device does not answer within, such as 5s.")] = None,
    expect_rev: ExpectRev = None,
    folder: Folder = HERE,
) -> None:
    """Add a device, or change it: the gateway checks the file, stores it and runs it."""
    try:
        text = file.read_text(encoding="utf-8")
        probe_s = None if probe is None else parse_duration(probe)
    except OSError as error:
        fail(f"{file}: {error.strerror}")
    except UnicodeDecodeError:
        fail(f"{file}: not UTF-8; save it as text")
    except ValueError as error:
        fail(f"--probe: {error}")
    if probe_s is not None and not 0 < probe_s <= LONGEST_PROBE_S:
        fail(f"--probe: {probe} is not within {LONGEST_PROBE_S:g} s")
    claim = claim_of(text)
    gateway = claim.gateway if claim else DEFAULT_GATEWAY
    payload = asking.question(Put, {"file": text, "expect_rev": expect_rev, "probe_s": probe_s})
    change = _ask(folder, PUT, payload, target=gateway, timeout_s=ANSWER_S + (probe_s or 0), file=file)
    typer.echo(f"{change.device}: stored as revision {change.rev}")


@device_app.command()
def delete(name: Name, gateway: Gateway = None, expect_rev: ExpectRev = None, folder: Folder = HERE) -> None:
    """Remove a device with its file; what was recorded of it stays."""
    target = gateway or asyncio.run(_look(folder)).gateway_of(name) or DEFAULT_GATEWAY
    change = _ask(folder, DELETE, Delete(device=name, expect_rev=expect_rev), target=target)
    typer.echo(f"{change.device}: removed")


@device_app.command()
def enable(name: Name, folder: Folder = HERE) -> None:
    """Let a device run; stored in its file."""
    change = _ask(folder, ENABLE, Enable(), target=name)
    typer.echo(f"{change.device}: enabled")


@device_app.command()
def disable(name: Name, folder: Folder = HERE) -> None:
    """Let a device rest; stored in its file."""
    change = _ask(folder, DISABLE, Disable(), target=name)
    typer.echo(f"{change.device}: disabled")


@device_app.command("reload-driver")
def reload_driver(
    driver: Annotated[
        str | None, typer.Argument(callback=_level, help="The driver's id; without it all that are in use.")
    ] = None,
    gateway: Annotated[str, typer.Option(callback=_level, help="The gateway that runs it.")] = DEFAULT_GATEWAY,
    folder: Folder = HERE,
) -> None:
    """Load a driver anew from its folder; its devices are moved over if the new version works."""
    result = _ask(folder, RELOAD, Reload(plugin=driver), target=gateway, timeout_s=RELOAD_S)
    for plugin, version in result.plugins.items():
        typer.echo(f"{plugin}: version {version} loaded")


@device_app.command("list")
def list_devices(folder: Folder = HERE) -> None:
    """Show every device: its state, driver, gateway, tags and revision."""
    picture = asyncio.run(_look(folder))
    table = Table("device", "state", "driver", "gateway", "tags", "revision", "error", box=None)
    for name in sorted({*picture.devices, *picture.states}):
        info, state = picture.devices.get(name), picture.states.get(name)
        known = (info.driver, info.gateway, str(info.tag_count), info.rev) if info else ("", "", "", "")
        table.add_row(name, str(state.state) if state else "", *known, (state.error if state else None) or "")
    print_table(table, nothing="no devices")


def _ask(
    folder: Path,
    command: Command[Any, R],
    payload: BaseModel,
    *,
    target: str,
    timeout_s: float = ANSWER_S,
    file: Path | None = None,
) -> R:
    """Sends the command and gives its result; ends the program with its error. file: of which faults are told."""
    try:
        outcome = asyncio.run(_request(folder, command, payload, target=target, timeout_s=timeout_s))
    except (ConnectionFailed, DocumentError, BusError) as error:
        fail(str(error))
    if outcome.result is None:
        failure = outcome.error
        message = failure.message if failure else ""
        if file is not None:
            message = re.sub(rf"(?m)^{SENT_FILE}:", lambda _: f"{file}:", message)
        typer.echo(f"{failure.code}: {message}" if failure else "refused", err=True)
        if failure and failure.code is ErrorCode.TIMEOUT:
            typer.echo(f"`dinrail device list` shows whether there is {target}, and which gateway runs what", err=True)
        raise typer.Exit(1 if outcome.answered else CANNOT)
    return outcome.result


async def _request(
    folder: Path, command: Command[Any, R], payload: BaseModel, *, target: str, timeout_s: float
) -> Outcome[R]:
    access = access_as(ENGINEER.name, Site(folder))
    async with connected(access) as bus:
        return await bus.request(command, payload, timeout_s=timeout_s, user=access.account, id=target)


async def _look(folder: Path) -> Picture:
    """What the broker holds of the devices."""
    picture = Picture()
    try:
        async with connected(viewer_access(Site(folder)), lambda bus: Viewer(bus=bus, picture=picture)):
            await settle(picture)
    except (ConnectionFailed, DocumentError) as error:
        fail(str(error))
    return picture
