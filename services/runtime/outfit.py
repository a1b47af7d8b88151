"""What every service works with: its session at the broker, its health and, if it tells events, its journal."""

from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

from services.runtime.backfill import STALL_S, Backfill
from services.runtime.bus.bus import Bus, Presence
from services.runtime.bus.vacancy import Vacancy, defend, exchange_session
from services.runtime.clock_watch import ClockWatch
from services.runtime.event_log import SERVICE_AGGREGATE, EventLog
from services.runtime.health import Health
from services.runtime.journal import Journal
from services.runtime.mqtt.connection import SESSION_EXPIRY_S
from services.runtime.mqtt.delivery import Login
from services.runtime.process import Means
from services.runtime.refused_commands import RefusedCommands
from services.runtime.retry import Backoff
from services.runtime.settings import JournalSettings, ServiceSettings, Settings
from services.runtime.versions import Versions

VERSIONS_FILE = "versions"


class Outfit:
    """What the process gives to its service, with a bus and health. sid: this session of the service."""

    def __init__(
        self,
        settings: Settings[ServiceSettings],
        *,
        service: str,
        means: Means,
        data: Path | None,
        session_expiry_s: int = SESSION_EXPIRY_S,
    ) -> None:
        """data: the service's folder, where the session is noted; a rival of the same name is looked for.

        None: no rival is looked for. session_expiry_s: see Bus. Raises OSError if the folder cannot be made or read.
        """
        own = settings.service
        self.sid = uuid4().hex[:12]
        self.clock = means.clock
        self.metrics = means.metrics
        self.log = means.log
        self.random = means.random
        self._username = None if means.password is None else service
        self._password = means.password
        who = Presence(service=service, instance=own.instance, sid=self.sid, version=version("dinrail"))
        means.metrics.build.labels(service, who.version).set(1)
        if data is not None:
            means.metrics.watch_disk(data)
        login = self.login(f"{own.instance}-bus")
        self.bus = Bus(
            broker=settings.broker,
            site=settings.site,
            client_id=login.client_id,
            username=login.username,
            password=login.password,
            presence=who,
            admit=None if data is None else self._vacancy(settings, login, who, data).check,
            metrics=means.metrics,
            clock=means.clock,
            log=means.log,
            random=means.random,
            session_expiry_s=session_expiry_s,
            limits=own.limits,
        )
        if data is not None:
            defend(self.bus, who)
        self.health = Health(host=own.http_host, port=own.http_port, registry=means.metrics.registry, clock=means.clock)
        self.clock_watch = ClockWatch(
            clock=means.clock, health=self.health, metrics=means.metrics, log=means.log, tell=self._tell_step
        )
        self.health.look(self.clock_watch.look)
        self.health.look(means.metrics.look)

    def login(self, client_id: str) -> Login:
        """As whom a connection of the service logs in, under this client id."""
        return Login(client_id=client_id, username=self._username, password=self._password)

    def _tell_step(self, data: dict[str, Any]) -> None:
        """A service without events has its log and its metrics."""

    def _vacancy(self, settings: Settings[ServiceSettings], login: Login, who: Presence, data: Path) -> Vacancy:
        data.mkdir(parents=True, exist_ok=True)
        previous = exchange_session(data, who.sid)
        return Vacancy(
            broker=settings.broker, site=settings.site, login=login, presence=who, previous=previous, clock=self.clock
        )


class JournalOutfit(Outfit):
    """The same for a service that tells events, or publishes frames: what it sends is journalled."""

    def __init__(self, settings: Settings[JournalSettings], *, service: str, means: Means) -> None:
        """Opens the journal. Raises JournalBroken, OSError."""
        own = settings.service
        self.journal = Journal.open(  # first: of two processes with one folder, one ends here
            own.data,
            cap_bytes=own.journal_cap_bytes,
            max_age_s=own.journal_max_age,
            required_recorders=own.required_recorders,
            clock=means.clock,
            metrics=means.metrics,
        )
        super().__init__(settings, service=service, means=means, data=own.data)
        self.events = EventLog(
            site=settings.site,
            instance=own.instance,
            bus=self.bus,
            journal=self.journal,
            versions=Versions(own.data / VERSIONS_FILE),
            clock=means.clock,
            metrics=means.metrics,
            log=means.log,
            random=means.random,
        )
        self.bus.gate.refused.append(RefusedCommands(instance=own.instance, events=self.events, clock=means.clock).tell)
        self.backfill = Backfill(
            site=settings.site,
            journal=self.journal,
            bus=self.bus,
            rate=own.backfill_rate,
            backoff=Backoff(first_s=STALL_S, random=means.random),
            metrics=means.metrics,
            log=means.log,
        )
        self._instance = own.instance

    def _tell_step(self, data: dict[str, Any]) -> None:
        if not self.events.stopping:
            self.events.tell("clock.stepped", aggregate=SERVICE_AGGREGATE, id=self._instance, data=data)
