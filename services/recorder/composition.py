"""Builds the recorder from its settings; used by the process and by tests that run it in theirs."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from random import Random
from uuid import uuid4

from contracts.v1.backfill import BACKFILL
from contracts.v1.event import EVENT
from contracts.v1.frame import FRAME
from plugins.api.clock import Clock
from plugins.api.document import DocumentError, Fault
from services.recorder.database import Database
from services.recorder.deadletters import DeadLetters
from services.recorder.embedded import EmbeddedStore
from services.recorder.gaps import Gaps
from services.recorder.herald import Herald
from services.recorder.influx import InfluxServer
from services.recorder.influx_store import InfluxStore
from services.recorder.mender import Mender
from services.recorder.recorder import Recorder
from services.recorder.report import StoredReport
from services.recorder.settings import SECTION, EmbeddedSettings, RecorderSettings, StoreSettings
from services.recorder.spool import Spool
from services.recorder.store import Store
from services.recorder.writer import Writer
from services.runtime.bus import Bus, Presence
from services.runtime.health import Health
from services.runtime.intake import Intake
from services.runtime.lifecycle import Part
from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.retry import Backoff
from services.runtime.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the recorder works with, beside its settings. random: spreads retries."""

    password: str | None
    clock: Clock
    metrics: Metrics
    log: Log
    random: Random


async def recorder_parts(
    settings: Settings[RecorderSettings], *, store: Store, database: Database, around: Surroundings
) -> Sequence[Part]:
    """What run_service() runs: sources first. database: open; its spool is read. Raises sqlite3.Error."""
    own, clock, metrics, log = settings.service, around.clock, around.metrics, around.log
    health = Health(host=own.http_host, port=own.http_port, registry=metrics.registry, clock=clock)
    spool = Spool(database=database, letters=DeadLetters(), clock=clock)
    bus, intake = _bus(settings, around), _intake(settings, around)
    gaps = Gaps()
    recorder = Recorder(
        intake=intake,
        spool=spool,
        gaps=gaps,
        site=settings.site,
        spool_bytes=own.spool_bytes,
        linger_s=own.commit_linger,
        backoff=Backoff(random=around.random),
        health=health,
        metrics=metrics,
        log=log,
    )
    writer = Writer(
        spool=spool,
        store=store,
        clock=clock,
        backoff=Backoff(random=around.random),
        health=health,
        metrics=metrics,
        log=log,
    )
    report = StoredReport(spool=spool, bus=bus, instance=own.instance, store=database.store)
    mender = Mender(spool=spool, gaps=gaps, bus=bus, user=SECTION, metrics=metrics, log=log)
    await spool.load()
    return (Herald(bus=bus, intake=intake, health=health), intake, recorder, mender, writer, report, bus, health)


def open_store(settings: StoreSettings, *, site: str) -> Store:
    """The history that the settings name. Connects to nothing yet. Raises DocumentError if the token cannot be read."""
    if isinstance(settings, EmbeddedSettings):
        return EmbeddedStore(
            batch_bytes=settings.batch_bytes, flush_s=settings.flush, chunk_values=settings.chunk_values
        )
    server = InfluxServer(
        url=str(settings.url),
        org=settings.org,
        bucket=settings.bucket,
        token=None if settings.token_file is None else _token(settings.token_file),
        timeout_s=settings.timeout,
    )
    return InfluxStore(
        server=server, site=site, lines=settings.lines, batch_bytes=settings.batch_bytes, flush_s=settings.flush
    )


def _token(path: Path) -> str:
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise DocumentError([_token_fault(path, f"cannot be read: {reason}")]) from None
    if not token.isascii() or not token.isprintable() or not token:
        raise DocumentError([_token_fault(path, "holds no token")])
    return token


def _token_fault(path: Path, message: str) -> Fault:
    return Fault(str(path), 0, "token_file", message, "put the server's API token there, or name another file")


def _bus(settings: Settings[RecorderSettings], around: Surroundings) -> Bus:
    own = settings.service
    who = Presence(service=SECTION, instance=own.instance, sid=uuid4().hex[:12], version=version("dinrail"))
    return Bus(
        broker=settings.broker,
        site=settings.site,
        client_id=f"{own.instance}-bus",
        username=SECTION if around.password else None,
        password=around.password,
        presence=who,
        metrics=around.metrics,
        clock=around.clock,
        log=around.log,
        random=around.random,
    )


def _intake(settings: Settings[RecorderSettings], around: Surroundings) -> Intake:
    return Intake(
        broker=settings.broker,
        client_id=f"{settings.service.instance}-intake",
        username=SECTION if around.password else None,
        password=around.password,
        filters=[topic.filter(site=settings.site) for topic in (FRAME, BACKFILL, EVENT)],
        metrics=around.metrics,
        log=around.log,
    )
