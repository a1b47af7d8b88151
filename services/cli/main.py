"""`dinrail`: the command line."""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from contracts.topic import TopicError
from plugins.api.certificates import CertificateError
from plugins.api.document import DocumentError
from services.cli.alarm import alarm_app
from services.cli.backup import backup
from services.cli.broker import BrokerMissing, Mosquitto, fetch_mosquitto, find_mosquitto
from services.cli.broker_certificates import Renewal
from services.cli.broker_config import why_unreachable
from services.cli.browse import Browsed, BrowseFailed, browse, connection_fields, write_device
from services.cli.certs import certs_app
from services.cli.check_command import check_path
from services.cli.completion import Pattern
from services.cli.connection import ConnectionFailed, viewer_access
from services.cli.contracts import contracts_app
from services.cli.credentials import PasswordUnreadable
from services.cli.device import device_app
from services.cli.doctor.command import doctor
from services.cli.event_chain import verify_events
from services.cli.event_state import replay_events
from services.cli.events import events_app
from services.cli.examples import InOrderOfUse, illustrate
from services.cli.history import history
from services.cli.modbus import modbus_app
from services.cli.offered import tree
from services.cli.operate import call, read, write
from services.cli.options import HERE, AsJson, Folder, fail
from services.cli.person import person_options
from services.cli.pipeline import pipeline_app, run
from services.cli.ports import taken_ports
from services.cli.recorder import recorder_app
from services.cli.restore import restore
from services.cli.retrospect import diff, replay
from services.cli.runs import runs
from services.cli.settings import SiteSettings, read_broker, read_settings
from services.cli.site import EXAMPLE_HOST, Ports, Site, SiteError, make_site, write_broker_files
from services.cli.site_users import lost_passwords
from services.cli.table import console
from services.cli.tags_app import tags_app
from services.cli.up import run_site
from services.cli.users import users_app
from services.cli.watch import watch as watch_site

app = typer.Typer(
    cls=InOrderOfUse,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Values of machines through MQTT into history: make a site, run it, look at it.",
)
app.add_typer(contracts_app, name="contracts")
app.add_typer(certs_app, name="certs")
app.add_typer(device_app, name="device")
app.add_typer(modbus_app, name="modbus")
app.add_typer(tags_app, name="tags")
pipeline_app.command()(diff)
pipeline_app.command()(runs)
app.add_typer(pipeline_app, name="pipeline")
app.add_typer(alarm_app, name="alarm")
app.add_typer(users_app, name="users")
events_app.command("replay")(replay_events)
events_app.command("verify")(verify_events)
app.add_typer(events_app, name="events")
app.command("check")(check_path)
app.command()(history)
app.command()(doctor)
app.command()(backup)
app.command()(restore)
app.add_typer(recorder_app, name="recorder")
app.command()(read)
app.command(context_settings={"ignore_unknown_options": True})(write)  # a negative value is none
app.command()(call)
app.command()(run)
app.command()(replay)
app.callback()(person_options)

Example = Annotated[str | None, typer.Option("--example", help="Copy the devices of an example (plant).")]
BasePort = Annotated[int | None, typer.Option(min=1024, max=65000, help="Use ports in a row from here.")]
Hosts = Annotated[
    list[str] | None,
    typer.Option("--host", help="A name or address by which other machines reach the broker; repeat it."),
]

Rotate = Annotated[
    bool, typer.Option("--rotate", help="Renew the services' passwords and the broker's certificate; they carry on.")
]
RotateAuthority = Annotated[
    bool, typer.Option("--rotate-authority", help="The authority too: every client needs its new certificate.")
]


@app.command()
def init(
    folder: Folder = HERE,
    example: Example = None,
    name: Annotated[str, typer.Option(help="The site's name, second level of its topics.")] = "plant",
    example_host: Annotated[str, typer.Option(help="Where the example's simulated machines are.")] = EXAMPLE_HOST,
    base_port: BasePort = None,
    host: Hosts = None,
    rotate: Rotate = False,
    rotate_authority: RotateAuthority = False,
) -> None:
    """Make a site: settings, device files, passwords, certificates, the broker's files. What is there already stays."""
    site = Site(folder)
    renewal = Renewal.AUTHORITY if rotate_authority else Renewal.SERVER if rotate else Renewal.DUE
    made = _init(
        site,
        name=name,
        example=example,
        example_host=example_host,
        base_port=base_port,
        hosts=host or (),
        renewal=renewal,
    )
    for line in made:
        typer.echo(line)
    typer.echo(f"{folder} is ready" if made else f"{folder} is complete; nothing changed")


@app.command()
def up(
    folder: Folder = HERE,
    example: Example = None,
    watch: Annotated[bool, typer.Option(help="Show live values.")] = True,
    duration: Annotated[float | None, typer.Option(min=0, help="Stop after so many seconds.")] = None,
    base_port: BasePort = None,
) -> None:
    """Run a whole site on this machine: broker, services and, for an example, its simulated machines."""
    site = Site(folder)
    if not site.settings_file.exists():
        _init(site, example=example, base_port=base_port)
        typer.echo(f"made a new site in {folder}")
    settings = _settings(site)
    if reason := why_unreachable(settings.broker):
        fail(f"{site.settings_file}: {reason}")
    if taken := taken_ports(settings):
        fail("\n".join([*taken, f"stop that program, or change the port in {site.settings_file}"]))
    mosquitto = _mosquitto()
    code = asyncio.run(
        run_site(site=site, settings=settings, mosquitto=mosquitto, console=console(), watch=watch, duration_s=duration)
    )
    raise typer.Exit(code)


@app.command()
def watch(
    pattern: Pattern = "*",
    folder: Folder = HERE,
    as_json: AsJson = False,
    frames: Annotated[bool, typer.Option("--frames", help="Every value as recorded, not only changes.")] = False,
) -> None:
    """Show changes as they come, until Ctrl-C."""
    try:
        access = viewer_access(Site(folder))
        asyncio.run(watch_site(access=access, pattern=pattern, frames=frames, as_json=as_json, emit=_print_now))
    except (ConnectionFailed, DocumentError) as error:
        fail(str(error))


@app.command("browse")
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


illustrate(app)


def main() -> None:
    """Entry point."""
    app()


def _init(
    site: Site,
    *,
    name: str = "plant",
    example: str | None = None,
    example_host: str = EXAMPLE_HOST,
    base_port: int | None = None,
    hosts: Sequence[str] = (),
    renewal: Renewal = Renewal.DUE,
) -> list[str]:
    ports = Ports() if base_port is None else Ports.from_base(base_port)
    try:
        made = make_site(site, name=name, example=example, example_host=example_host, ports=ports)
        site_name, broker = read_broker(site)
        made += write_broker_files(site, name=site_name, broker=broker, hosts=hosts, renewal=renewal)
        return made + lost_passwords(password=site.password)
    except (SiteError, TopicError, DocumentError, CertificateError, PasswordUnreadable, OSError) as error:
        fail(str(error))


def _settings(site: Site) -> SiteSettings:
    try:
        settings = read_settings(site)
        write_broker_files(site, name=settings.site, broker=settings.broker)
    except (DocumentError, CertificateError, PasswordUnreadable, OSError) as error:
        fail(str(error))
    return settings


def _mosquitto() -> Mosquitto:
    try:
        try:
            return find_mosquitto()
        except BrokerMissing:
            typer.echo("fetching mosquitto, the MQTT broker ...")
            return fetch_mosquitto()
    except BrokerMissing as error:
        fail(str(error))


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


def _print_now(line: str) -> None:
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains once more at its end
        raise


if __name__ == "__main__":
    main()
