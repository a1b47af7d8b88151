"""Builds the recorder from its settings; used by the process and by tests that run it in theirs."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from contracts.v1.backfill import BACKFILL
from contracts.v1.event import EVENT
from contracts.v1.frame import FRAME
from plugins.api.document import DocumentError, Fault
from services.recorder.completeness.audit import Audit
from services.recorder.completeness.audit_desk import AuditDesk
from services.recorder.completeness.incidents import Incidents
from services.recorder.completeness.mender import Mender
from services.recorder.completeness.report import StoredReport
from services.recorder.completeness.teller import Teller
from services.recorder.database import Database
from services.recorder.embedded.archive import EmbeddedArchive
from services.recorder.embedded.retention import HistoryRetention
from services.recorder.embedded.store import EmbeddedStore
from services.recorder.events.anchor_file import AnchorFile
from services.recorder.events.archive import EventArchive
from services.recorder.events.desk import EventDesk
from services.recorder.events.replay import EventReplay
from services.recorder.events.retention import EventRetention
from services.recorder.events.verification import EventVerifier
from services.recorder.herald import Herald
from services.recorder.influxdb.archive import InfluxArchive
from services.recorder.influxdb.server import InfluxServer
from services.recorder.influxdb.store import InfluxStore
from services.recorder.lived_time import LivedTime
from services.recorder.queries.archive import Archive
from services.recorder.queries.desk import HistoryDesk
from services.recorder.queries.queries import HistoryQueries
from services.recorder.settings import SECTION, EmbeddedSettings, RecorderSettings, StoreSettings
from services.recorder.spool.deadletters import DeadLetters
from services.recorder.spool.letter_desk import LetterDesk
from services.recorder.spool.recorder import Recorder
from services.recorder.spool.spool import Spool
from services.recorder.spool.store import Store
from services.recorder.spool.writer import Writer
from services.runtime.bus.bus import Bus, BusUnavailable
from services.runtime.gaps import Gaps
from services.runtime.intake import Intake
from services.runtime.journal_desk import JournalDesk
from services.runtime.lifecycle import Part
from services.runtime.outfit import JournalOutfit
from services.runtime.process import Means
from services.runtime.resend import ResendDesk
from services.runtime.retry import Backoff
from services.runtime.settings import Settings

LONGEST_WAIT_S = 10.0
"""A store that is away is asked so often, unless it says when: it may be back, and new values wait for it."""
ADMITTED_S = 1.0


async def recorder_parts(
    settings: Settings[RecorderSettings], *, store: Store, database: Database, means: Means
) -> Sequence[Part]:
    """What run_service() runs: sources first. database: open; its spool is read.

    Raises sqlite3.Error, JournalBroken, OSError.
    """
    own, clock, metrics, log = settings.service, means.clock, means.metrics, means.log
    use = JournalOutfit(settings, service=SECTION, means=means)
    bus, health = use.bus, use.health
    letters = DeadLetters()
    spool = Spool(database=database, letters=letters, clock=clock)
    intake = _intake(settings, use)
    gaps, incidents = Gaps(), Incidents(own=own.instance)
    recorder = Recorder(
        intake=intake,
        spool=spool,
        gaps=gaps,
        incidents=incidents,
        site=settings.site,
        spool_bytes=own.spool_bytes,
        linger_s=own.commit_linger,
        backoff=Backoff(random=means.random),
        health=health,
        metrics=metrics,
        log=log,
    )
    health.look(recorder.look)
    writer = Writer(
        spool=spool,
        store=store,
        clock=clock,
        backoff=Backoff(most_s=LONGEST_WAIT_S, random=means.random),
        health=health,
        metrics=metrics,
        log=log,
    )
    herald = Herald(bus=bus, intake=intake, health=health)
    desks = _desks(settings, use=use, spool=spool, letters=letters, gaps=gaps, database=database)
    retentions = _retentions(own, spool=spool, database=database, means=means)
    mender = Mender(spool=spool, gaps=gaps, incidents=incidents, bus=bus, user=SECTION, metrics=metrics, log=log)
    report = StoredReport(spool=spool, gaps=gaps, bus=bus, instance=own.instance, store=database.store, log=log)
    teller = Teller(incidents=incidents, spool=spool, gaps=gaps, events=use.events, instance=own.instance)
    await spool.load()
    taking = (herald, *desks, *retentions, intake, recorder, mender, writer, report)
    return (*taking, teller, use.events, use.backfill, bus, use.journal, health)


def _retentions(own: RecorderSettings, *, spool: Spool, database: Database, means: Means) -> Sequence[Part]:
    """Of events, and of values where they are kept here: a server has a retention of its own."""
    lived = LivedTime(database=database, clock=means.clock, log=means.log)
    events = EventRetention(
        database=database,
        lived=lived,
        spool=spool,
        keep_s=own.events_keep,
        most_bytes=own.events_max_bytes,
        anchors=None if own.anchors is None else AnchorFile(own.anchors),
        recorder=own.instance,
        clock=means.clock,
        random=means.random,
        metrics=means.metrics,
        log=means.log,
    )
    if not isinstance(own.store, EmbeddedSettings):
        return (events,)
    history = HistoryRetention(
        database=database,
        clock=means.clock,
        lived=lived,
        keep_s=own.store.keep,
        keep_minutes_s=own.store.keep_minutes,
        metrics=means.metrics,
        log=means.log,
    )
    return (history, events)


def _desks(
    settings: Settings[RecorderSettings],
    *,
    use: JournalOutfit,
    spool: Spool,
    letters: DeadLetters,
    gaps: Gaps,
    database: Database,
) -> Sequence[Part]:
    """Where questions are answered: of completeness and dead letters by every recorder, all others by one of a site."""
    own, path, bus = settings.service, database.path, use.bus
    ResendDesk(instance=own.instance, bus=bus, journal=use.journal, backfill=use.backfill)
    JournalDesk(instance=own.instance, bus=bus, journal=use.journal)
    audit = AuditDesk(bus=bus, audit=Audit(path, site=settings.site, store=database.store), instance=own.instance)
    aside = LetterDesk(
        bus=bus,
        database=database,
        letters=letters,
        spool=spool,
        gaps=gaps,
        site=settings.site,
        instance=own.instance,
        spool_bytes=own.spool_bytes,
        log=use.log,
    )
    if not own.answers_queries:
        return (audit, aside)
    events = EventDesk(
        bus=bus,
        archive=EventArchive(path),
        replay=EventReplay(path),
        verifier=EventVerifier(path),
        database=database,
        instance=own.instance,
        log=use.log,
    )
    archive = archive_opener(own.store, path=path, site=settings.site)
    queries = HistoryQueries(archive=archive, now_s=use.clock.monotonic, now_us=use.clock.now_us)
    return (audit, aside, events, HistoryDesk(bus=bus, queries=queries, instance=own.instance))


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
        compress=settings.compress,
        new_token=None if settings.token_file is None else partial(_token, settings.token_file),
    )
    return InfluxStore(
        server=server,
        site=site,
        lines=settings.lines,
        batch_bytes=settings.batch_bytes,
        flush_s=settings.flush,
        every_quality=settings.quality == "every",
    )


def archive_opener(settings: StoreSettings, *, path: Path, site: str) -> Callable[[], Archive]:
    """Gives what a question about values is looked up in; path: of the recorder's database. Connects to nothing yet.

    Raises DocumentError if the token cannot be read.
    """
    if isinstance(settings, EmbeddedSettings):
        return partial(EmbeddedArchive, path)
    token = None if settings.token_file is None else _token(settings.token_file)
    influx = InfluxArchive(
        url=str(settings.url),
        bucket=settings.bucket,
        token=token,
        site=site,
        new_token=None if settings.token_file is None else partial(_token, settings.token_file),
        every_quality=settings.quality == "every",
    )
    return lambda: influx


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


async def _admitted(bus: Bus) -> None:
    """The bus has found that no other recorder has our name: a second one would throw the first out of its session.

    Raises BusUnavailable while that is not known.
    """
    try:
        await bus.wait_connected(ADMITTED_S)
    except TimeoutError:
        raise BusUnavailable("the recorder's bus is not connected yet") from None


def _intake(settings: Settings[RecorderSettings], use: JournalOutfit) -> Intake:
    login = use.login(f"{settings.service.instance}-intake")
    return Intake(
        broker=settings.broker,
        client_id=login.client_id,
        username=login.username,
        password=login.password,
        filters=[topic.filter(site=settings.site) for topic in (FRAME, BACKFILL, EVENT)],
        admit=partial(_admitted, use.bus),
        metrics=use.metrics,
        log=use.log,
    )
