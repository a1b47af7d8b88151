"""`dinrail doctor`: what is wrong with a site, or with a folder that reaches one, and how to mend it."""

import asyncio
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import typer

from plugins.api.document import DocumentError
from services.cli.certificate_checks import CertificateFiles, ShownCertificate
from services.cli.connection import Access, ConnectionFailed, connected, viewer_access
from services.cli.finding import Check, Finding, State
from services.cli.options import HERE, Folder
from services.cli.settings import read_broker
from services.cli.site import Site
from services.runtime.settings import BrokerSettings, TlsSettings

AHEAD_S = 60.0
"""By so much a file may be newer than now: clocks of file servers."""


@dataclass(frozen=True, slots=True)
class SecretFiles:
    """Whether others than their owner can get at the site's secrets."""

    site: Site

    def findings(self) -> Iterator[Finding]:
        """Each file and folder that is open to others."""
        folders = _readable(self.site.folder / "secrets", self.site.broker, self.site.users_file.parent)
        paths = [path for folder in folders for path in (folder, *sorted(folder.iterdir()))]
        open_ones = [path for path in paths if stat.S_IMODE(path.stat().st_mode) & 0o077]
        for path in open_ones:
            mode = "u=rwx" if path.is_dir() else "u=rw"
            yield Finding(State.FAIL, f"{path}: others than its owner can get at it: chmod {mode},go= {path}")
        if not paths:
            yield Finding(State.WARN, f"{self.site.folder / 'secrets'}: no secrets here; `dinrail init` makes a site's")
        elif not open_ones:
            yield Finding(State.OK, f"{len(paths)} secret files and their folders are open to their owner only")


@dataclass(frozen=True, slots=True)
class Clock:
    """Whether the clock can be right: it was not earlier when the site's files were written."""

    site: Site
    now: datetime

    def findings(self) -> Iterator[Finding]:
        """One."""
        folders = _readable(self.site.folder, self.site.folder / "secrets", self.site.broker, self.site.devices)
        files = [path for folder in folders for path in folder.iterdir() if path.is_file()]
        newest = max(files, key=lambda path: path.stat().st_mtime, default=self.site.settings_file)
        ahead_s = newest.stat().st_mtime - self.now.timestamp()
        if ahead_s > AHEAD_S:
            yield Finding(
                State.FAIL,
                f"the clock says {self.now:%Y-%m-%d %H:%M} UTC, but {newest} is {ahead_s / 3600:.1f} h newer: set "
                "the clock, and keep it right by NTP; times of values and dates of certificates depend on it",
            )
        else:
            yield Finding(State.OK, f"the clock says {self.now:%Y-%m-%d %H:%M} UTC, later than all files of the site")


@dataclass(frozen=True, slots=True)
class Login:
    """Whether the viewer gets in where the settings say."""

    site: Site

    def findings(self) -> Iterator[Finding]:
        """One."""
        try:
            access = viewer_access(self.site)
            asyncio.run(_log_in(access))
        except (ConnectionFailed, DocumentError) as error:
            yield Finding(State.FAIL, str(error))
            return
        how = "without TLS" if access.broker.tls is None else "over TLS"
        yield Finding(State.OK, f"{access.account} logs in at {access.broker.host}:{access.broker.port} {how}")


def _readable(*folders: Path) -> list[Path]:
    """Those that are here and for us to read: in containers the broker's is its own."""
    return [folder for folder in folders if os.access(folder, os.R_OK | os.X_OK)]


async def _log_in(access: Access) -> None:
    async with connected(access):
        return


def checks(site: Site, broker: BrokerSettings, now: datetime) -> list[Check]:
    """All there are for this folder."""
    found: list[Check] = [SecretFiles(site), Clock(site, now), CertificateFiles(site.certificates, now), Login(site)]
    ports = [broker.port] if broker.tls else [broker.listen.tls_port, broker.listen.websocket_port]
    tls = broker.tls or TlsSettings(ca_file=site.certificates.authority)
    for port in ports:
        if port is not None:
            at = broker.model_copy(update={"port": port, "tls": tls})
            found.append(ShownCertificate(at, site.certificates, now))
    return found


def doctor(folder: Folder = HERE) -> None:
    """Say what is wrong with a running site, and how to mend it; exits with 1 if anything fails."""
    site = Site(folder)
    try:
        _, broker = read_broker(site)
    except DocumentError as error:
        typer.echo(Finding(State.FAIL, str(error)))
        raise typer.Exit(1) from None
    failed = False
    for check in checks(site, broker, datetime.now(UTC)):
        for finding in check.findings():
            typer.echo(str(finding))
            failed = failed or finding.state is State.FAIL
    if failed:
        raise typer.Exit(1)
