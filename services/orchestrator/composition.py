"""Builds the orchestrator's collaborators from its settings; used by the process and by tests that run it in theirs."""

from importlib.metadata import version
from random import Random
from uuid import uuid4

from plugins.api.clock import Clock
from services.orchestrator.collaborators import Collaborators
from services.orchestrator.database import FILE, Database
from services.orchestrator.settings import SECTION, OrchestratorSettings
from services.runtime.bus import Bus, Presence
from services.runtime.delivery import Login
from services.runtime.event_log import EventLog
from services.runtime.health import Health
from services.runtime.journal import Journal
from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.settings import Settings
from services.runtime.vacancy import Vacancy, exchange_session
from services.runtime.versions import Versions

VERSIONS_FILE = "versions"


def collaborators(
    settings: Settings[OrchestratorSettings],
    *,
    password: str | None,
    clock: Clock,
    metrics: Metrics,
    log: Log,
    random: Random,
) -> Collaborators:
    """What the orchestrator works with; the journal is open, the database is not yet. Raises JournalBroken, OSError."""
    own = settings.service
    who = Presence(service=SECTION, instance=own.instance, sid=uuid4().hex[:12], version=version("dinrail"))

    def login(client_id: str) -> Login:
        return Login(client_id=client_id, username=SECTION if password else None, password=password)

    journal = Journal.open(
        own.data,
        cap_bytes=own.journal_cap_bytes,
        max_age_s=own.journal_max_age,
        required_recorders=own.required_recorders,
        clock=clock,
        metrics=metrics,
    )
    bus = _bus(
        settings, who=who, login=login(f"{own.instance}-bus"), clock=clock, metrics=metrics, log=log, random=random
    )
    events = EventLog(
        site=settings.site,
        instance=own.instance,
        bus=bus,
        journal=journal,
        versions=Versions(own.data / VERSIONS_FILE),
        clock=clock,
        metrics=metrics,
        log=log,
        random=random,
    )
    return Collaborators(
        sid=who.sid,
        login=login,
        bus=bus,
        journal=journal,
        events=events,
        database=Database(own.data / FILE),
        health=Health(host=own.http_host, port=own.http_port, registry=metrics.registry, clock=clock),
        clock=clock,
        metrics=metrics,
        log=log,
        random=random,
    )


def _bus(
    settings: Settings[OrchestratorSettings],
    *,
    who: Presence,
    login: Login,
    clock: Clock,
    metrics: Metrics,
    log: Log,
    random: Random,
) -> Bus:
    """The bus of this session, which looks for a rival of the same name before it connects."""
    own = settings.service
    vacancy = Vacancy(
        broker=settings.broker,
        site=settings.site,
        login=login,
        presence=who,
        previous=exchange_session(own.data, who.sid),
        clock=clock,
    )
    return Bus(
        broker=settings.broker,
        site=settings.site,
        client_id=login.client_id,
        username=login.username,
        password=login.password,
        presence=who,
        admit=vacancy.check,
        metrics=metrics,
        clock=clock,
        log=log,
        random=random,
    )
