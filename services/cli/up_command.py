"""`dinrail up`: runs a site on this machine."""

import asyncio
from typing import Annotated

import typer

from plugins.api.certificates import CertificateError
from plugins.api.document import DocumentError
from services.cli.broker import BrokerMissing, Mosquitto, fetch_mosquitto, find_mosquitto
from services.cli.broker_config import why_unreachable
from services.cli.credentials import PasswordUnreadable
from services.cli.init_command import BasePort, Example, made_site
from services.cli.options import HERE, Folder, error_text, fail
from services.cli.ports import taken_ports
from services.cli.settings import SiteSettings, read_settings
from services.cli.site import Site, write_broker_files
from services.cli.table import console
from services.cli.up import run_site


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
        made_site(site, example=example, base_port=base_port)
        typer.echo(f"made a new site in {folder}")
    settings = _settings(site)
    if reason := why_unreachable(settings.broker):
        fail(f"{site.settings_file}: {reason}")
    if taken := taken_ports(settings):
        mend = f"stop that program (this site itself, if it runs already), or change the port in {site.settings_file}"
        fail("\n".join([*taken, mend]))
    mosquitto = _mosquitto()
    code = asyncio.run(
        run_site(site=site, settings=settings, mosquitto=mosquitto, console=console(), watch=watch, duration_s=duration)
    )
    raise typer.Exit(code)


def _settings(site: Site) -> SiteSettings:
    try:
        settings = read_settings(site)
        write_broker_files(site, name=settings.site, broker=settings.broker)
    except (DocumentError, CertificateError, PasswordUnreadable, OSError) as error:
        fail(error_text(error))
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
