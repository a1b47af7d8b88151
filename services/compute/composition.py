"""The compute service put together from its settings; used by the process and by tests that run it in theirs."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from random import Random
from uuid import uuid4

from plugins.api.clock import Clock
from services.compute.backend import Backend
from services.compute.cache import Cache
from services.compute.computer import Computer
from services.compute.desk import Desk
from services.compute.herald import Herald
from services.compute.library import Copies
from services.compute.pool import Pool
from services.compute.quarantine import Quarantine
from services.compute.settings import SECTION, ComputeSettings
from services.compute.workshop import Workshop
from services.runtime.bus import Bus, Presence
from services.runtime.delivery import Login
from services.runtime.health import Health
from services.runtime.lifecycle import Part, Supervisor
from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.settings import Settings
from services.runtime.vacancy import Vacancy, exchange_session

COPIES_FOLDER = "functions"
DRAINING = 0.7
"""The share of the time to stop that tasks have to come to their end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a process gives to its service."""

    clock: Clock
    metrics: Metrics
    log: Log
    random: Random


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """The service. parts: what run_service() runs, sources first."""

    parts: Sequence[Part]
    bus: Bus
    backend: Backend
    workshop: Workshop
    health: Health


def compose(settings: Settings[ComputeSettings], *, password: str | None, around: Surroundings) -> Compute:
    """The service, about to run. Raises OSError where its data folder cannot be written."""
    own = settings.service
    own.data.mkdir(parents=True, exist_ok=True)
    bus = _bus(settings, password=password, around=around)
    backend = _backend(own, around)
    quarantine = Quarantine()
    workshop = Workshop(
        instance=own.instance,
        roots=own.function_folders,
        copies=Copies(own.data / COPIES_FOLDER),
        backend=backend,
        quarantine=quarantine,
        bus=bus,
        clock=around.clock,
        log=around.log,
        follow=own.reload_plugins,
        look_s=own.reload_every,
    )
    computer = Computer(
        backend=backend,
        cache=Cache(most=own.cache, most_bytes=own.cache_bytes, ttl_s=own.cache_ttl),
        quarantine=quarantine,
        timeout_s=own.timeout,
        memory_mb=own.memory_mb,
        metrics=around.metrics,
        clock=around.clock,
        log=around.log,
    )
    desk = Desk(
        instance=own.instance,
        computer=computer,
        workshop=workshop,
        bus=bus,
        drain_s=own.drain_s * DRAINING,
        metrics=around.metrics,
        clock=around.clock,
        log=around.log,
    )
    health = Health(host=own.http_host, port=own.http_port, registry=around.metrics.registry, clock=around.clock)
    herald = Herald(
        instance=own.instance, workshop=workshop, backend=backend, bus=bus, health=health, clock=around.clock
    )
    workshop.on_change(herald.tell)
    supervisor = Supervisor(log=around.log, metrics=around.metrics)
    supervisor.keep(workshop.name, workshop.run)
    parts = (herald, desk, supervisor, bus, backend, health)
    return Compute(parts=parts, bus=bus, backend=backend, workshop=workshop, health=health)


def _backend(own: ComputeSettings, around: Surroundings) -> Backend:
    return Pool(
        size=own.workers,
        queue=own.queue,
        wait_s=own.wait,
        metrics=around.metrics,
        log=around.log,
        random=around.random,
    )


def _bus(settings: Settings[ComputeSettings], *, password: str | None, around: Surroundings) -> Bus:
    """The bus of this session. The broker keeps no task for it while it is away: another service gets them."""
    own = settings.service
    who = Presence(service=SECTION, instance=own.instance, sid=uuid4().hex[:12], version=version("dinrail"))
    login = Login(client_id=f"{own.instance}-bus", username=SECTION if password else None, password=password)
    vacancy = Vacancy(
        broker=settings.broker,
        site=settings.site,
        login=login,
        presence=who,
        previous=exchange_session(own.data, who.sid),
        clock=around.clock,
    )
    return Bus(
        broker=settings.broker,
        site=settings.site,
        client_id=login.client_id,
        username=login.username,
        password=login.password,
        presence=who,
        admit=vacancy.check,
        metrics=around.metrics,
        clock=around.clock,
        log=around.log,
        random=around.random,
        session_expiry_s=0,
    )
