"""The compute service as a process: `python -m services.compute --config dinrail.yaml`."""

import argparse
import gc
import os
import sys
from pathlib import Path
from random import SystemRandom

import uvloop
from prometheus_client import CollectorRegistry

from plugins.api.document import DocumentError
from services.compute.composition import Surroundings, compose
from services.compute.settings import SECTION, ComputeSettings
from services.runtime.clock import SystemClock
from services.runtime.lifecycle import run_service
from services.runtime.logs import configure_logs
from services.runtime.metrics import Metrics
from services.runtime.settings import Settings, load_settings, read_password


async def serve(settings: Settings[ComputeSettings], password: str | None) -> int:
    """Runs until a signal; gives the exit code."""
    own = settings.service
    log = configure_logs(level=settings.logs.level, form=settings.logs.format, service=SECTION, instance=own.instance)
    around = Surroundings(clock=SystemClock(), metrics=Metrics(CollectorRegistry()), log=log, random=SystemRandom())
    service = compose(settings, password=password, around=around)
    gc.freeze()  # what is here stays: no collection looks at it again
    return await run_service(parts=service.parts, drain_s=own.drain_s, log=log)


def main() -> int:
    """Reads the settings and runs the service."""
    parser = argparse.ArgumentParser(prog="python -m services.compute")
    parser.add_argument("--config", type=Path, help="settings file; else DINRAIL_CONFIG names it")
    try:
        settings = load_settings(SECTION, ComputeSettings, path=parser.parse_args().config, environ=os.environ)
        return uvloop.run(serve(settings, read_password(settings)))
    except (DocumentError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
