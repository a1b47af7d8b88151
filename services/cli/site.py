"""A site's folder: its settings, device files, passwords and the broker's files; made by `dinrail init`."""

import os
import pwd
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from contracts.acl import OWN_ACCOUNTS
from contracts.topic import LEVEL_PATTERN, check_level
from plugins.api.certificates import FOLDER, REJECTED, TRUSTED
from services.cli.broker_certificates import BrokerCertificates, Renewal
from services.cli.broker_config import BrokerConfig, listeners
from services.cli.credentials import has_password, keep_password, renew_passwords
from services.cli.site_users import make_users, read_users, write_access
from services.identity.broker_files import ACCESS, PASSWORDS
from services.identity.settings import USERS_FILE
from services.runtime.file_lock import held_file
from services.runtime.settings import BrokerSettings
from services.runtime.site_file import fill_folder, replace_file

SETTINGS_FILE = "dinrail.yaml"
TREE = Path(__file__).resolve().parents[2]
EXAMPLES = TREE / "examples"
EXAMPLE_HOST = "127.0.0.1"
LEVEL = re.compile(LEVEL_PATTERN)


class SiteError(Exception):
    """The site's folder cannot be made or used; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Every TCP port of a site on one machine. The defaults stay clear of the protocols' own ports."""

    broker: int = 18830
    gateway: int = 19101
    recorder: int = 19102
    modbus: int = 15020
    opcua: int = 48400
    orchestrator: int = 19103
    compute: int = 19104
    broker_tls: int = 18883
    broker_websockets: int = 18884
    identity: int = 19105

    @classmethod
    def from_base(cls, base: int) -> "Ports":
        """Ports in a row."""
        return cls(*range(base, base + len(fields(cls))))


@dataclass(frozen=True, slots=True)
class Site:
    """Where everything of a site lies."""

    folder: Path

    @property
    def settings_file(self) -> Path:
        """dinrail.yaml: the settings of all services."""
        return self.folder / SETTINGS_FILE

    @property
    def devices(self) -> Path:
        """The device files."""
        return self.folder / "devices"

    @property
    def pipelines(self) -> Path:
        """The definitions of pipelines."""
        return self.folder / "pipelines"

    @property
    def broker(self) -> Path:
        """The broker's generated files."""
        return self.folder / "broker"

    @property
    def data(self) -> Path:
        """Journals, databases and the broker's own store."""
        return self.folder / "data"

    @property
    def logs(self) -> Path:
        """What the processes of `dinrail up` print."""
        return self.folder / "logs"

    @property
    def certificates(self) -> BrokerCertificates:
        """The broker's certificate, and the authority that signs it."""
        return BrokerCertificates(
            authority=self.folder / FOLDER / "broker" / "authority.pem",
            authority_key=self.folder / "secrets" / "authority.key",
            server=self.broker / "server.pem",
        )

    def password(self, account: str) -> Path:
        """The file with an account's password. Raises TopicError on a name that no account has, such as a path."""
        return self.folder / "secrets" / f"{check_level('account', account)}.password"

    @property
    def users_file(self) -> Path:
        """Who uses this site, and what each may do."""
        return self.folder / USERS_FILE

    @property
    def container_secrets(self) -> tuple[Path, ...]:
        """The secrets of the programs of others that docker compose starts: InfluxDB, Grafana."""
        names = ("influxdb.password", "influxdb.token", "grafana.admin-password")
        return tuple(self.folder / "secrets" / name for name in names)


def make_site(
    site: Site, *, name: str, example: str | None, ports: Ports, example_host: str = EXAMPLE_HOST
) -> list[str]:
    """Makes what is missing of a site and returns a line per thing made; what is there stays as it is.

    example: name of a folder of examples/, or path of a folder like them; its pipelines are copied, and its device
    files with the simulated machines at example_host and `ports`. None for no devices.
    Raises SiteError on an unknown example, TopicError on a name that cannot stand in a topic.
    """
    check_level("site", name)
    source = None if example is None else _example_folder(example)
    made = []
    if site.folder.exists() and not site.folder.is_dir():
        raise SiteError(f"{site.folder} is no folder; name another with --dir")
    site.broker.mkdir(parents=True, exist_ok=True, mode=0o700)
    with held_file(site.broker / "init.lock"):  # two at once make one site, and users with one password each
        if not site.settings_file.exists():
            replace_file(site.settings_file, _settings_text(name, ports, demo=example is not None).encode(), mode=0o666)
            made.append(f"{site.settings_file}: settings of all services")
        if not site.devices.is_dir() or (source is not None and not any(site.devices.iterdir())):
            made.append(_make_devices(site, source, example_host, ports))
        if not site.pipelines.is_dir():
            made.append(_make_pipelines(site, source))
        for place in (TRUSTED, REJECTED):
            if not (site.folder / place).is_dir():
                (site.folder / place).mkdir(parents=True)
                made.append(f"{site.folder / place}: empty; `dinrail certs` fills it")
        for path in (*(site.password(account.name) for account in OWN_ACCOUNTS), *site.container_secrets):
            if not has_password(path):
                keep_password(path)
                made.append(f"{path}: generated secret")
        return made + make_users(site.users_file, password=site.password)


def write_broker_files(
    site: Site,
    *,
    name: str,
    broker: BrokerSettings,
    hosts: Sequence[str] = (),
    renewal: Renewal = Renewal.DUE,
) -> list[str]:
    """Brings broker/ up to date with the settings, the passwords, the users and the contracts; a line per change.

    hosts: names and addresses that the broker's certificate is to be for, beside this machine's own. renewal: of
    certificates and, unless it is what is due, the services' passwords. Raises CertificateError, DocumentError.
    """
    for folder in (site.broker, site.data / "broker"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with held_file(site.broker / "init.lock"):  # of two at once, one would hash passwords that the other has renewed
        return _brought_up_to_date(site, name=name, broker=broker, hosts=hosts, renewal=renewal)


def _brought_up_to_date(
    site: Site, *, name: str, broker: BrokerSettings, hosts: Sequence[str], renewal: Renewal
) -> list[str]:
    if renewal is not Renewal.DUE and site.users_file.exists():
        read_users(site.users_file)
    made = site.certificates.keep(site=name, hosts=hosts, now=datetime.now(UTC), renewal=renewal)
    if renewal is not Renewal.DUE:  # after what may fail: by now nothing has changed that the broker must be told
        made += renew_passwords(site.password(account.name) for account in OWN_ACCOUNTS)
    config = BrokerConfig(
        listeners=listeners(broker, site.certificates.server.resolve()),
        data=(site.data / "broker").resolve(),
        passwords=(site.broker / PASSWORDS).resolve(),
        access=(site.broker / ACCESS).resolve(),
        user=_own_name(),
    )
    made += make_users(site.users_file, password=site.password)  # of a site that was made before there were any
    made += write_access(site.broker, site=name, users_file=site.users_file, password=site.password)
    path = site.broker / "mosquitto.conf"
    return [*made, str(path)] if replace_file(path, config.text().encode(), mode=0o600) else made


def _own_name() -> str | None:
    """Who runs this: a broker started by root would else become a user that may not read our files."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return None


def _example_folder(example: str) -> Path:
    folder = (EXAMPLES / example if LEVEL.fullmatch(example) else Path(example)) / "devices"
    if not folder.is_dir():
        known = sorted(path.parent.name for path in EXAMPLES.glob("*/devices"))
        raise SiteError(f"no example {example!r}; there are: {', '.join(known) or 'none beside this installation'}")
    return folder


def _make_devices(site: Site, source: Path | None, host: str, ports: Ports) -> str:
    if source is None:
        site.devices.mkdir(exist_ok=True)
        return f"{site.devices}: empty; put one YAML file per device here"
    files = {path.name: _readdressed(path.read_text(encoding="utf-8"), host, ports) for path in source.glob("*.yaml")}
    fill_folder(site.devices, {name: text.encode() for name, text in files.items()})
    return f"{site.devices}: {len(files)} device files of the example {source.parent.name}"


def _make_pipelines(site: Site, source: Path | None) -> str:
    files = [] if source is None else sorted((source.parent / "pipelines").glob("*.yaml"))
    fill_folder(site.pipelines, {path.name: path.read_bytes() for path in files})
    if source is None or not files:
        return f"{site.pipelines}: empty; put one YAML file per pipeline here"
    return f"{site.pipelines}: {len(files)} pipelines of the example {source.parent.name}"


def _readdressed(text: str, host: str, ports: Ports) -> str:
    """A device file of an example, with the usual addresses of the simulated machines replaced by these."""
    usual = Ports()
    text = re.sub(rf"(\bhost: *){re.escape(EXAMPLE_HOST)}\b", rf"\g<1>{host}", text)
    text = re.sub(rf"(\bport: *){usual.modbus}\b", rf"\g<1>{ports.modbus}", text)
    return text.replace(f"opc.tcp://{EXAMPLE_HOST}:{usual.opcua}", f"opc.tcp://{host}:{ports.opcua}")


def _settings_text(name: str, ports: Ports, *, demo: bool) -> str:
    text = _SETTINGS.format(name=name, ports=ports)
    if not demo:
        return text
    here = "  devices: devices "
    return text.replace(here, f"{_RELOAD}{here}") + _DEMO.format(ports=ports)


_SETTINGS = """\
# Settings of one dinrail site. Relative paths start at this file's folder. docs/configuration.md tells every key.
# An environment variable overrides a key: DINRAIL_BROKER__PORT=1884, DINRAIL_GATEWAY__HTTP_PORT=0, ...
site: {name}                      # second level of every topic: dinrail/v1/{name}/...

broker:
  host: 127.0.0.1
  port: {ports.broker}                   # plain MQTT, on this machine only
  listen:                         # over TLS, for other machines; their side: docs/tls.md
    tls_port: {ports.broker_tls}
    websocket_port: {ports.broker_websockets}

logs:
  level: info                     # debug, info, warning, error
  format: console                 # console, json

gateway:
  instance: gateway
  devices: devices                # folder of device files; followed while the gateway runs
  data: data/gateway              # journal: what the recorder has not stored yet
  http_port: {ports.gateway}                # /health and /metrics, on this machine only
  password_file: secrets/gateway.password

recorder:
  instance: recorder
  data: data/recorder             # spool and history
  http_port: {ports.recorder}
  password_file: secrets/recorder.password

orchestrator:
  instance: orchestrator
  pipelines: pipelines            # folder of pipelines, taken in at the start
  data: data/orchestrator         # versions of pipelines, alarms, and the journal
  http_port: {ports.orchestrator}
  password_file: secrets/orchestrator.password

compute:
  instance: compute
  data: data/compute
  http_port: {ports.compute}
  password_file: secrets/compute.password

identity:
  instance: identity
  users: users/users.yaml         # who may do what; followed while the service runs
  data: data/identity             # journal of what was changed
  http_port: {ports.identity}
  password_file: secrets/identity.password
"""

_RELOAD = """\
  reload_plugins: true            # a driver that you edit is loaded anew while the gateway runs
"""

_DEMO = """
demo:                             # the simulated machines that `dinrail up` starts beside the services
  example: plant
  modbus_port: {ports.modbus}              # the files in devices/ name these two ports as well
  opcua_port: {ports.opcua}
"""
