"""The orchestrator as a process: reads its settings, puts it together, runs it until a signal."""

import argparse
import gc
import os
import sys
from pathlib import Path
from random import SystemRandom

import uvloop
from prometheus_client import CollectorRegistry

from plugins.api.document import DocumentError
from services.orchestrator.composition import collaborators
from services.orchestrator.orchestrator import Orchestrator
from services.orchestrator.settings import SECTION, OrchestratorSettings
from services.runtime.clock import SystemClock
from services.runtime.journal import JournalBroken
from services.runtime.lifecycle import run_service
from services.runtime.logs import configure_logs
from services.runtime.metrics import Metrics
from services.runtime.settings import Settings, load_settings, read_password
from services.runtime.sqlite_file import DatabaseError


async def serve(settings: Settings[OrchestratorSettings], password: str | None) -> int:
    """Runs until a signal; gives the exit code."""
    own = settings.service
    log = configure_logs(level=settings.logs.level, form=settings.logs.format, service=SECTION, instance=own.instance)
    use = collaborators(
        settings,
        password=password,
        clock=SystemClock(),
        metrics=Metrics(CollectorRegistry()),
        log=log,
        random=SystemRandom(),
    )
    async with use.database:
        orchestrator = Orchestrator(settings=settings, use=use)
        await orchestrator.open()
        gc.freeze()  # what is here stays: no collection looks at it again
        gc.enable()
        return await run_service(parts=orchestrator.parts, drain_s=own.drain_s, log=log)


def main() -> int:
    """Reads the settings and runs the service."""
    parser = argparse.ArgumentParser(prog="python -m services.orchestrator")
    parser.add_argument("--config", type=Path, help="settings file; else DINRAIL_CONFIG names it")
    try:
        settings = load_settings(SECTION, OrchestratorSettings, path=parser.parse_args().config, environ=os.environ)
        return uvloop.run(serve(settings, read_password(settings)))
    except (DocumentError, JournalBroken, DatabaseError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
