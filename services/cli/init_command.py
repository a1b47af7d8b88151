"""`dinrail init`: makes a site."""

from collections.abc import Sequence
from typing import Annotated

import typer

from contracts.topic import TopicError
from plugins.api.certificates import CertificateError
from plugins.api.document import DocumentError
from services.cli.broker_certificates import Renewal
from services.cli.credentials import PasswordUnreadable
from services.cli.options import HERE, Folder, error_text, fail
from services.cli.settings import read_broker
from services.cli.site import EXAMPLE_HOST, Ports, Site, SiteError, make_site, write_broker_files
from services.cli.site_users import lost_passwords

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
    made = made_site(
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


def made_site(
    site: Site,
    *,
    name: str = "plant",
    example: str | None = None,
    example_host: str = EXAMPLE_HOST,
    base_port: int | None = None,
    hosts: Sequence[str] = (),
    renewal: Renewal = Renewal.DUE,
) -> list[str]:
    """Makes what a site lacks; gives what that was, in lines for people. Ends the program if it cannot."""
    ports = Ports() if base_port is None else Ports.from_base(base_port)
    try:
        made = make_site(site, name=name, example=example, example_host=example_host, ports=ports)
        site_name, broker = read_broker(site)
        made += write_broker_files(site, name=site_name, broker=broker, hosts=hosts, renewal=renewal)
        return made + lost_passwords(password=site.password)
    except (SiteError, TopicError, DocumentError, CertificateError, PasswordUnreadable, OSError) as error:
        fail(error_text(error))
