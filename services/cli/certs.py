"""`dinrail certs`: the certificate of this site, and those of the machines that it trusts."""

import asyncio
import socket
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer
from cryptography import x509

from plugins.api.certificates import (
    CLIENT_CERTIFICATE,
    CLIENT_KEY,
    LONGEST_NAME,
    REJECTED,
    TRUSTED,
    CertificateError,
    alternative_names,
    common_name,
    folder_certificates,
    keep_certificate,
    make_certificate,
    parse_certificates,
    read_certificates,
    thumbprint,
    write_pair,
)
from plugins.api.driver import DeviceError, ShowsCertificates
from plugins.api.registry import PluginError, Registry
from services.cli.options import HERE, Folder, fail
from services.gateway.settings import SHIPPED_DRIVERS

certs_app = typer.Typer(no_args_is_help=True, help="Certificates of OPC UA: this site's own, and whom it trusts.")

SOON_DAYS = 30
ASK_S = 10.0
DRIVER = "opcua"


@certs_app.command()
def create(
    folder: Folder = HERE,
    name: Annotated[str | None, typer.Option(help="Common name.")] = None,
    uri: Annotated[str | None, typer.Option(help="URI of this application, unique in the plant.")] = None,
    host: Annotated[list[str] | None, typer.Option(help="Names and addresses of this machine; repeat it.")] = None,
    days: Annotated[int, typer.Option(min=1, max=7300, help="How long it is valid.")] = 1825,
    force: Annotated[bool, typer.Option("--force", help="Replace the one there is.")] = False,
) -> None:
    """Make the certificate by which this site's gateway proves who it is; servers must then be told to trust it."""
    at, key_at = folder / CLIENT_CERTIFICATE, folder / CLIENT_KEY
    there = [path for path in (at, key_at) if path.exists()]
    if there and not force:
        fail(f"{there[0]} is there; servers trust it by its thumbprint: --force replaces it, and they must trust anew")
    own = socket.gethostname()
    try:
        certificate, key = make_certificate(
            uri=f"urn:{own}:dinrail:{quote(folder.absolute().name) or 'site'}" if uri is None else uri,
            name=f"dinrail@{own}"[:LONGEST_NAME] if name is None else name,
            hosts=host or [own],
            now=datetime.now(UTC),
            days=days,
        )
        write_pair(certificate, key, at=at, key_at=key_at)
    except CertificateError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or key_at}: {error.strerror}")
    typer.echo(f"{key_at}: the key, which nobody else may have")
    typer.echo(f"{at}: the certificate; let each server trust it: copy it there, or accept it after the first try")
    typer.echo(_line(certificate, datetime.now(UTC)))


@certs_app.command()
def trust(
    what: Annotated[str, typer.Argument(help="A file, the opc.tcp:// address of a server, or a refused thumbprint.")],
    folder: Folder = HERE,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask: the thumbprint has been compared.")] = False,
) -> None:
    """Trust a server, or an authority that signs servers' certificates."""
    _look_for(folder)
    try:
        certificates = _found(what, folder)
    except (CertificateError, DeviceError, PluginError) as error:
        fail(str(error))
    certificate = certificates[0]
    for line in _facts(certificate):
        typer.echo(line)
    if not yes and not typer.confirm("Trust it? Compare the thumbprint with the one that the server itself shows"):
        raise typer.Exit(1)
    try:
        path = keep_certificate(certificate, folder / TRUSTED)
        for rejected in (folder / REJECTED).glob(f"*{thumbprint(certificate)}*"):
            rejected.unlink()
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
    typer.echo(f"trusted: {path}; a gateway that waits for the server takes it up at its next try")


@certs_app.command("list")
def show(folder: Folder = HERE) -> None:
    """Show every certificate: thumbprint, until when it is valid, and whose it is."""
    _look_for(folder)
    try:
        lines = list(_listed(folder, datetime.now(UTC)))
    except CertificateError as error:
        fail(str(error))
    for line in lines:
        typer.echo(line)


def _look_for(folder: Path) -> None:
    if not folder.is_dir():
        fail(f"{folder}: there is no such folder; name the site's with --dir")


def _found(what: str, folder: Path) -> Sequence[x509.Certificate]:
    if what.startswith("opc.tcp://"):
        return _shown_by(what)
    if Path(what).is_file():
        return read_certificates(Path(what))
    wanted = what.replace(" ", "").replace(":", "").upper()
    refused = [held for _, held in folder_certificates(folder / REJECTED) if thumbprint(held) == wanted]
    if not refused:
        raise CertificateError(
            f"{what}: no such file, no address that begins with opc.tcp://, and no thumbprint in {folder / REJECTED}"
        )
    return refused


def _shown_by(url: str) -> Sequence[x509.Certificate]:
    """The certificates that the server shows. Raises DeviceError, CertificateError, PluginError."""
    driver = Registry([SHIPPED_DRIVERS], kind="driver").load(DRIVER).entry
    assert isinstance(driver, ShowsCertificates)
    try:
        return [parse_certificates(der)[0] for der in asyncio.run(driver.certificates(url, timeout_s=ASK_S))]
    except ValueError as error:
        raise CertificateError(f"{url}: {error}") from None


def _listed(folder: Path, now: datetime) -> Iterator[str]:
    own = folder / CLIENT_CERTIFICATE
    yield "own:"
    yield _line(read_certificates(own)[0], now) if own.exists() else "  none; make it with `dinrail certs create`"
    for title, place in (("trusted", TRUSTED), ("refused", REJECTED)):
        held = folder_certificates(folder / place)
        yield f"{title}:"
        yield from (_line(certificate, now) for _, certificate in held)
        if not held:
            yield "  none"


def _line(certificate: x509.Certificate, now: datetime) -> str:
    until = certificate.not_valid_after_utc
    days = (until - now).days
    told = f"until {until:%Y-%m-%d}"
    if days < 0:
        told += " EXPIRED"
    elif days < SOON_DAYS:
        told += f" ({days} days left)"
    return f"  {thumbprint(certificate)}  {told}  {common_name(certificate)}"


def _facts(certificate: x509.Certificate) -> Iterator[str]:
    uris, hosts = alternative_names(certificate)
    yield f"name:        {common_name(certificate)}"
    yield f"issued by:   {certificate.issuer.rfc4514_string()}"
    yield f"application: {', '.join(sorted(uris)) or 'not told'}"
    yield f"hosts:       {', '.join(sorted(hosts)) or 'not told'}"
    yield f"valid:       {certificate.not_valid_before_utc:%Y-%m-%d} to {certificate.not_valid_after_utc:%Y-%m-%d}"
    yield f"thumbprint:  {thumbprint(certificate)}"
