"""A service as a process: reads its settings, is put together, works until a signal."""

import argparse
import gc
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random, SystemRandom
from typing import TypeVar

import uvloop
from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics

from plugins.api.clock import Clock
from plugins.api.document import DocumentError
from services.runtime.clock import SystemClock
from services.runtime.lifecycle import Part, run_service
from services.runtime.logs import Log, configure_logs
from services.runtime.metrics import Metrics
from services.runtime.mqtt.delivery import BusUnavailable, Password
from services.runtime.settings import ServiceSettings, Settings, load_settings, read_password
from services.runtime.standstill import Standstill

S = TypeVar("S", bound=ServiceSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What a process gives to its service. password: of the service's account; None: the broker asks for none.

    random: of names and of waits.
    """

    password: Password | None
    clock: Clock
    metrics: Metrics
    log: Log
    random: Random


def run_process(
    section: str,
    model: type[S],
    serve: Callable[[Settings[S], Means], Awaitable[int]],
    *,
    refusals: tuple[type[Exception], ...] = (),
) -> int:
    """Runs the service with the settings that the command line or DINRAIL_CONFIG names; gives its exit code.

    section: of the settings, and the service's name. serve: the service, until its end; gives the exit code.
    What the settings ask for and cannot be had (refusals, DocumentError, OSError) is told on stderr, with exit code 1.
    """
    told: tuple[type[Exception], ...] = (DocumentError, OSError, *refusals)
    parser = argparse.ArgumentParser(prog=f"python -m services.{section}")
    parser.add_argument("--config", type=Path, help="settings file; else DINRAIL_CONFIG names it")
    try:
        settings = load_settings(section, model, path=parser.parse_args().config, environ=os.environ)
        return uvloop.run(_served(serve, settings, section))
    except told as error:
        sys.stderr.write(f"{error}\n")
        return 1


async def _served(serve: Callable[[Settings[S], Means], Awaitable[int]], settings: Settings[S], section: str) -> int:
    logs, instance, registry = settings.logs, settings.service.instance, CollectorRegistry()
    disable_created_metrics()  # type: ignore[no-untyped-call] # a second series for each counter; nobody asks for it
    ProcessCollector(registry=registry)  # memory, processor time, begin
    means = Means(
        password=password_of(settings),
        clock=SystemClock(),
        metrics=Metrics(registry),
        log=configure_logs(level=logs.level, form=logs.format, service=section, instance=instance),
        random=SystemRandom(),
    )
    return await serve(settings, means)


def password_of(settings: Settings[ServiceSettings]) -> Password | None:
    """Reads the file now, lest a service without it begins, and again whenever it is asked. Raises DocumentError."""
    if read_password(settings) is None:
        return None

    def again() -> str:
        """Of the file as it is now."""
        try:
            return read_password(settings) or ""
        except DocumentError as error:
            raise BusUnavailable(str(error)) from None

    return again


async def work(parts: Sequence[Part], *, settings: Settings[ServiceSettings], means: Means) -> int:
    """Runs the parts of a service, which is put together, until a signal; gives the exit code. See run_service().

    A loop that stands still ends the process at once, with standstill.EXIT_CODE: who started it starts it again.
    """
    gc.freeze()  # what is here stays: no collection looks at it again
    gc.enable()
    own = settings.service
    with Standstill(limit_s=own.standstill_after):
        return await run_service(parts=parts, drain_s=own.drain_s, log=means.log)
