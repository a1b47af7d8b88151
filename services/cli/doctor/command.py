"""`dinrail doctor`: what is wrong with a site, or with a folder that reaches one, and how to mend it."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Annotated

import typer
import yaml

from plugins.api.document import DocumentError
from services.cli.connection import Access, ConnectionFailed, viewer_access
from services.cli.doctor.broker import Login, Queue
from services.cli.doctor.certificate_checks import CertificateFiles, ShownCertificate
from services.cli.doctor.clocks import FileTimes, NetworkTime, ServiceClocks
from services.cli.doctor.completeness import Completeness
from services.cli.doctor.finding import Check, Finding, State
from services.cli.doctor.leftovers import Orphans
from services.cli.doctor.machines import Devices
from services.cli.doctor.own_files import Disk, SecretFiles, data_folders
from services.cli.doctor.presence import Presence, Versions
from services.cli.doctor.sessions import Sessions
from services.cli.doctor.sight import Sight, look
from services.cli.doctor.vitals import vitals
from services.cli.options import HERE, AsJson, Folder
from services.cli.settings import SiteSettings, read_broker, read_settings
from services.cli.site import Site
from services.runtime.settings import SERVICE_SECTIONS, BrokerSettings, TlsSettings

SETTINGS = "settings"


def checks_of_files(site: Site, settings: SiteSettings | None, now: datetime) -> list[Check]:
    """What needs no broker. settings: None if they cannot be read whole."""
    return [
        SecretFiles(site),
        FileTimes(site, now),
        NetworkTime(),
        Disk(data_folders(site, settings)),
        CertificateFiles(site.certificates, now),
    ]


def checks_of_ports(site: Site, broker: BrokerSettings, now: datetime) -> list[Check]:
    """What the broker shows on each port over TLS."""
    ports = [broker.port] if broker.tls else [broker.listen.tls_port, broker.listen.websocket_port]
    tls = broker.tls or TlsSettings(ca_file=site.certificates.authority)
    return [
        ShownCertificate(broker.model_copy(update={"port": port, "tls": tls}), site.certificates, now)
        for port in ports
        if port is not None
    ]


def checks_of_bus(site: Site, sight: Sight) -> list[Check]:
    """What is found in all that the broker holds."""
    return [
        Queue(sight, site.broker / "mosquitto.conf"),
        Presence(sight, expected_services(site)),
        Versions(sight, version("dinrail")),
        ServiceClocks(sight),
        Devices(sight),
        Orphans(sight),
        Completeness(site, sight),
    ]


def expected_services(site: Site) -> frozenset[str]:
    """The services that this folder's settings have a section for: none, in a folder that only reaches a site."""
    try:
        found = yaml.safe_load(site.settings_file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return frozenset()
    return frozenset(found).intersection(SERVICE_SECTIONS) if isinstance(found, dict) else frozenset()


def doctor(
    folder: Folder = HERE,
    as_json: AsJson = False,
    strict: Annotated[bool, typer.Option("--strict", help="A warning is a failure, too.")] = False,
) -> None:
    """Say what is wrong with a running site, and how to mend it; exits with 1 if anything fails."""
    counts: Counter[State] = Counter()
    told = []
    for check, finding in _all(Site(folder)):
        counts[finding.state] += 1
        told.append({"check": check, "state": str(finding.state), "text": finding.text})
        if not as_json:
            typer.echo(str(finding))
    failed = bool(counts[State.FAIL] or (strict and counts[State.WARN]))
    if as_json:
        summary = {str(state): counts[state] for state in State}
        typer.echo(json.dumps({"ok": not failed, "summary": summary, "findings": told}))
    else:
        failures, warnings = (
            f"{counts[state]} {name}{'' if counts[state] == 1 else 's'}"
            for state, name in ((State.FAIL, "failure"), (State.WARN, "warning"))
        )
        typer.echo(f"{folder}: {failures}, {warnings}, {counts[State.OK]} are well")
    if failed:
        raise typer.Exit(1)


def _all(site: Site) -> Iterator[tuple[str, Finding]]:
    """Each finding, as soon as it is found, with the name of its check."""
    now = datetime.now(UTC)
    try:
        _, broker = read_broker(site)
    except DocumentError as error:
        yield SETTINGS, Finding(State.FAIL, str(error))
        return
    settings = None
    try:
        settings = read_settings(site)
    except DocumentError as error:
        if expected_services(site):
            yield SETTINGS, Finding(State.FAIL, str(error))
    yield from _found(checks_of_files(site, settings, now))
    login, sight = _look(site)
    yield from _found([login, *checks_of_ports(site, broker, now)])
    if sight is not None:
        yield from _found([*checks_of_bus(site, sight), Sessions(site, broker)])
    if settings is not None and expected_services(site):
        yield from _found(list(vitals(settings)))


def _found(checks: list[Check]) -> Iterator[tuple[str, Finding]]:
    for check in checks:
        for finding in check.findings():
            yield check.name, finding


def _look(site: Site) -> tuple[Login, Sight | None]:
    """Logs in, and takes a look."""
    access: Access | None = None
    try:
        access = viewer_access(site)
        return Login(access), asyncio.run(look(access))
    except (ConnectionFailed, DocumentError) as error:
        return Login(access, str(error)), None
