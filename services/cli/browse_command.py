"""`dinrail browse`: its options, and what becomes of what was found."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from services.cli.browse import Browsed, BrowseFailed, browse, connection_fields, write_device
from services.cli.offered import tree
from services.cli.options import HERE, Folder, fail


def browse_server(
    url: Annotated[str, typer.Argument(help="opc.tcp://HOST:PORT/PATH of an OPC UA server.")],
    *,
    node: Annotated[str | None, typer.Option(help="Begin there: nsu=URI;s=NAME, or i=NUMBER.")] = None,
    depth: Annotated[int, typer.Option(min=1, max=50, help="Levels to look down.")] = 10,
    most: Annotated[int, typer.Option(min=1, max=100_000, help="Nodes at the most.")] = 10_000,
    out: Annotated[Path | None, typer.Option(help="Write a device file, such as devices/plc.yaml.")] = None,
    device: Annotated[str | None, typer.Option(help="The device's name in that file; the file's name without.")] = None,
    interval: Annotated[str, typer.Option(help="Of publishing, in that file.")] = "1s",
    force: Annotated[bool, typer.Option("--force", help="Replace that file.")] = False,
    user: Annotated[str | None, typer.Option(help="User name at the server.")] = None,
    password_file: Annotated[Path | None, typer.Option(help="File with the password.")] = None,
    policy: Annotated[str | None, typer.Option(help="Basic256Sha256, Aes128Sha256RsaOaep, ...")] = None,
    mode: Annotated[str | None, typer.Option(help="Sign or SignAndEncrypt.")] = None,
    trust: Annotated[Path | None, typer.Option(help="The server's certificate, or a folder of such.")] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(help="Do not check dates, host or usage of its certificate; repeat it.")
    ] = None,
    user_certificate: Annotated[Path | None, typer.Option(help="The user's certificate, instead of a name.")] = None,
    user_key: Annotated[Path | None, typer.Option(help="The key of that certificate.")] = None,
    clear_password: Annotated[
        bool, typer.Option("--clear-password", help="Send the password though nothing hides it.")
    ] = False,
    folder: Folder = HERE,
) -> None:
    """Show what an OPC UA server offers, and make a device file of it."""
    connection = connection_fields(
        url=url,
        security={"policy": policy, "mode": mode, "trust": trust, "ignore": ignore},
        user=user,
        password_file=password_file,
        user_certificate=user_certificate,
        user_key=user_key,
        clear_password=clear_password,
    )
    found = _browsed(connection, folder=folder, at=node, depth=depth, most=most)
    if out is None:
        for line in tree(found.offers):
            typer.echo(line)
    else:
        _write_device(out, found, device=device, connection=connection, interval=interval, force=force)
    cut = f"; there is more than {most}: raise --most, or begin deeper with --node" if found.cut else ""
    typer.echo(f"{found.summary}{cut}", err=True)


def _browsed(connection: Mapping[str, Any], *, folder: Path, at: str | None, depth: int, most: int) -> Browsed:
    progress = Console(stderr=True)
    try:
        return asyncio.run(browse(connection, folder=folder, at=at, depth=depth, most=most, progress=progress))
    except BrowseFailed as error:
        fail(str(error))


def _write_device(
    out: Path, found: Browsed, *, device: str | None, connection: Mapping[str, Any], interval: str, force: bool
) -> None:
    try:
        typer.echo(write_device(out, found, device=device, connection=connection, interval=interval, force=force))
    except BrowseFailed as error:
        fail(str(error))
