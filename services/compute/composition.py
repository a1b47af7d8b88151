"""The compute service put together from its settings; used by the process and by tests that run it in theirs."""

from collections.abc import Sequence
from dataclasses import dataclass

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
from services.runtime.bus.bus import Bus
from services.runtime.health import Health
from services.runtime.lifecycle import Part, Supervisor
from services.runtime.outfit import Outfit
from services.runtime.process import Means
from services.runtime.settings import Settings

COPIES_FOLDER = "functions"
DRAINING = 0.7
"""The share of the time to stop that tasks have to come to their end."""


class BackendMissing(Exception):
    """What the settings want to compute with is not installed; the text says how to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """The service. parts: what run_service() runs, sources first."""

    parts: Sequence[Part]
    bus: Bus
    backend: Backend
    workshop: Workshop
    health: Health


def compose(settings: Settings[ComputeSettings], *, means: Means) -> Compute:
    """The service, about to run. Raises BackendMissing, and OSError where its data folder cannot be written."""
    own = settings.service
    # The broker keeps no task for it while it is away: another service gets them.
    use = Outfit(settings, service=SECTION, means=means, data=own.data, session_expiry_s=0)
    bus, health = use.bus, use.health
    backend = _backend(own, means)
    quarantine = Quarantine()
    workshop = Workshop(
        instance=own.instance,
        roots=own.function_folders,
        copies=Copies(own.data / COPIES_FOLDER),
        backend=backend,
        quarantine=quarantine,
        bus=bus,
        clock=means.clock,
        log=means.log,
        follow=own.reload_plugins,
        look_s=own.reload_every,
    )
    computer = Computer(
        backend=backend,
        cache=Cache(most=own.cache, most_bytes=own.cache_bytes, ttl_s=own.cache_ttl),
        quarantine=quarantine,
        timeout_s=own.timeout,
        memory_mb=own.memory_mb,
        metrics=means.metrics,
        clock=means.clock,
        log=means.log,
    )
    desk = Desk(
        instance=own.instance,
        computer=computer,
        workshop=workshop,
        bus=bus,
        drain_s=own.drain_s * DRAINING,
        metrics=means.metrics,
        clock=means.clock,
        log=means.log,
        random=means.random,
    )
    herald = Herald(
        instance=own.instance, workshop=workshop, backend=backend, bus=bus, health=health, clock=means.clock
    )
    workshop.on_change(herald.tell)
    supervisor = Supervisor(log=means.log, metrics=means.metrics)
    supervisor.keep(workshop.name, workshop.run)
    parts = (herald, desk, supervisor, bus, backend, health)
    return Compute(parts=parts, bus=bus, backend=backend, workshop=workshop, health=health)


def _backend(own: ComputeSettings, means: Means) -> Backend:
    """Raises BackendMissing."""
    if own.backend == "dask":
        return _cluster(own, means)
    return Pool(
        size=own.workers,
        queue=own.queue,
        wait_s=own.wait,
        memory_mb=own.memory_mb,
        metrics=means.metrics,
        log=means.log,
        random=means.random,
    )


def _cluster(own: ComputeSettings, means: Means) -> Backend:
    try:
        from services.compute.dask_cluster import Cluster  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        told = f"compute.backend is dask, and {error.name} is not installed: pip install 'dinrail[dask]'"
        raise BackendMissing(told) from error
    return Cluster(
        instance=own.instance,
        scheduler=own.scheduler,
        size=own.workers,
        wait_s=own.wait,
        memory_mb=own.memory_mb,
        log=means.log,
        random=means.random,
    )
