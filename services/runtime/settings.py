"""Settings of a service: one YAML file for the site, a section per service, overrides from the environment."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contracts.v1.message import Level
from plugins.api.document import Document, DocumentError, Fault
from plugins.api.duration import Seconds
from plugins.api.mend import near_of
from services.runtime.logs import LogFormat, LogLevel
from services.runtime.overrides import CONFIG_VARIABLE, Overrides

SHARED_SECTIONS = ("site", "broker", "logs")
SERVICE_SECTIONS = ("gateway", "orchestrator", "compute", "recorder", "identity")
TOOL_SECTIONS = ("demo",)
SECTIONS = SHARED_SECTIONS + SERVICE_SECTIONS + TOOL_SECTIONS

Port = Annotated[int, Field(ge=1, le=65535)]


class SettingsSection(BaseModel):
    """A part of the settings; a key that it does not know is refused.

    A relative path in it is relative to the folder of the settings file, wherever it was given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class TlsSettings(SettingsSection):
    """How to connect over TLS. ca_file: certificate of the authority that must have signed the broker's, as PEM."""

    ca_file: Path


class ListenSettings(SettingsSection):
    """Where the broker of `dinrail up` is reached by others, over TLS alone.

    host: address of one interface; empty means every one. tls_port, websocket_port: None: not open.
    """

    host: str = ""
    tls_port: Port | None = 18883
    websocket_port: Port | None = 18884


class BrokerSettings(SettingsSection):
    """Where the broker is. tls: None: it is spoken to without TLS.

    keepalive_s: 7, since a silent loss is to be told within 20 s and mosquitto, which looks rarely, takes 24 with 10.
    """

    host: str = "127.0.0.1"
    port: Port = 1883
    keepalive_s: Annotated[int, Field(ge=5, le=65535)] = 7
    tls: TlsSettings | None = None
    listen: ListenSettings = ListenSettings()


class LogSettings(SettingsSection):
    """What is logged, and in which form."""

    level: LogLevel = "info"
    format: LogFormat = "console"


class Rate(SettingsSection):
    """How often a user may send one verb: rate times a second in the long run, burst times at once."""

    rate: Annotated[float, Field(gt=0)]
    burst: Annotated[int, Field(ge=1)]


class Limits(SettingsSection):
    """How often users may send commands; services may as often as they need to.

    reads, acts, changes: what a viewer, an operator, an engineer may do, each verb for itself. idle_after: a client
    that has sent nothing for so long must connect anew; 0: never.
    """

    reads: Rate = Rate(rate=10_000, burst=20_000)
    acts: Rate = Rate(rate=1000, burst=2000)
    changes: Rate = Rate(rate=10, burst=100)
    idle_after: Annotated[Seconds, Field(ge=0)] = 8 * 3600.0


class ServiceSettings(SettingsSection):
    """What every service has; a service adds its own fields.

    http_port: of /health and /metrics; 0 takes any free one.
    password_file: holds the password of the service's account.
    drain_s: seconds from the signal to stop until what still runs is cut off.
    standstill_after: a process whose event loop has done nothing for so long ends itself, to be started again.
    """

    instance: Level
    http_host: str = "127.0.0.1"
    http_port: Annotated[int, Field(ge=0, le=65535)] = 0
    password_file: Path | None = None
    limits: Limits = Limits()
    drain_s: Annotated[float, Field(gt=0, le=600)] = 20.0
    standstill_after: Annotated[Seconds, Field(ge=5)] = 60.0


class JournalSettings(ServiceSettings):
    """What every service with a journal has.

    data: folder of the journal. required_recorders: it keeps a record until each of these has stored it; beyond
    journal_cap_bytes, or after journal_max_age, it lets go of it unstored.
    backfill_rate: records a second that are sent out of the journal after an outage, at most, beside the live ones; one
    longer than 4 KiB counts as several.
    """

    data: Path
    required_recorders: tuple[Level, ...] = ("recorder",)
    journal_cap_bytes: Annotated[int, Field(ge=1 << 16)] = 2 << 30
    journal_max_age: Annotated[Seconds, Field(ge=60)] = 7 * 86400.0
    backfill_rate: Annotated[float, Field(gt=0)] = 1000.0


S_co = TypeVar("S_co", bound=SettingsSection, covariant=True)
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Settings(Generic[S_co]):
    """Everything a service is told at its start. service: its own section.

    instances: the names of all services and of their instances, as far as these settings tell.
    """

    site: str
    broker: BrokerSettings
    logs: LogSettings
    service: S_co
    instances: frozenset[str] = frozenset(SERVICE_SECTIONS)


class _Shared(SettingsSection):
    site: Level
    broker: BrokerSettings = BrokerSettings()
    logs: LogSettings = LogSettings()


def load_settings(section: str, model: type[S_co], *, path: Path | None, environ: Mapping[str, str]) -> Settings[S_co]:
    """The settings of one service from the file and the environment, which wins.

    section: the service's key in the file. path: the file; None takes the one that DINRAIL_CONFIG names.
    environ: DINRAIL_BROKER__HOST overrides broker.host, and so on; a value may be a YAML list or map in brackets; an
    empty one counts as not given.
    Raises DocumentError with every fault: file, line and field, or the variable, and what would be right.
    """
    path = path or _named_by(environ)
    document = _read(path)
    overrides = Overrides(environ)
    faults = [*_unknown_sections(document), *overrides.unknown(SECTIONS)]
    data = overrides.merged(document, faults)
    shared = _validated(_Shared, {key: data[key] for key in SHARED_SECTIONS if key in data}, (), document, faults)
    service = _validated(model, data.get(section) or {}, (section,), document, faults)
    if faults or shared is None or service is None:
        raise DocumentError(overrides.named(faults))
    folder = path.absolute().parent
    shared, service = _rooted(shared, folder), _rooted(service, folder)
    return Settings(
        site=shared.site,
        broker=shared.broker,
        logs=shared.logs,
        service=service,
        instances=frozenset({*SERVICE_SECTIONS, *_instances(data)}),
    )


def _instances(data: Mapping[str, Any]) -> Iterator[str]:
    for section in SERVICE_SECTIONS:
        own = data.get(section)
        if isinstance(own, dict) and isinstance(own.get("instance"), str):
            yield own["instance"]


def read_password(settings: Settings[ServiceSettings]) -> str | None:
    """The password of the service's account, or None if no file is named. Raises DocumentError, never showing it."""
    path = settings.service.password_file
    if path is None:
        return None
    try:
        password = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise DocumentError([_password_fault(path, f"cannot be read: {reason}")]) from None
    if not password:
        raise DocumentError([_password_fault(path, "the file is empty")])
    return password


def _password_fault(path: Path, message: str) -> Fault:
    return Fault(str(path), 0, "password_file", message, "make it with `dinrail init`, or name another file")


def _named_by(environ: Mapping[str, str]) -> Path:
    named = environ.get(CONFIG_VARIABLE)
    if not named:
        raise DocumentError(
            [Fault("settings", 0, "", "no settings file is named", f"give --config PATH or set {CONFIG_VARIABLE}")]
        )
    return Path(named)


def _read(path: Path) -> Document:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise DocumentError([Fault(str(path), 0, "", f"cannot be read: {reason}", _mend_of(error))]) from None
    document = Document.parse(text, source=str(path))
    if not isinstance(document.data, dict):
        raise DocumentError([document.fault((), "not a map of sections", f"write {', '.join(SHARED_SECTIONS)}: ...")])
    return document


def _mend_of(error: OSError | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "save it as UTF-8"
    if isinstance(error, PermissionError):
        return "run this as the user to whom the site belongs"
    return "name a site's folder (--dir FOLDER; to a service --config FILE), or make one with `dinrail init`"


def _unknown_sections(document: Document) -> Iterator[Fault]:
    for key in document.data:
        if key not in SECTIONS:
            yield document.fault((key,), "unknown key", near_of(str(key), SECTIONS))


def _validated(model: type[M], data: object, at: tuple[str, ...], document: Document, faults: list[Fault]) -> M | None:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        faults += document.faults_of(error, at=at, model=model)
        return None


def _rooted(model: M, folder: Path) -> M:
    """The model with every relative path in it set below the folder."""
    return model.model_copy(
        update={name: _rooted_value(getattr(model, name), folder) for name in type(model).model_fields}
    )


def _rooted_value(value: object, folder: Path) -> object:
    if isinstance(value, Path):
        return folder / value
    if isinstance(value, BaseModel):
        return _rooted(value, folder)
    if isinstance(value, list | tuple):
        return type(value)(_rooted_value(item, folder) for item in value)
    if isinstance(value, dict):
        return {key: _rooted_value(item, folder) for key, item in value.items()}
    return value
