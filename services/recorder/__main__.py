"""The recorder as a process: `python -m services.recorder --config dinrail.yaml`."""

import argparse
import os
import sqlite3
import sys
from pathlib import Path
from random import SystemRandom

import uvloop
from prometheus_client import CollectorRegistry

from plugins.api.document import DocumentError
from services.recorder.composition import Surroundings, open_store, recorder_parts
from services.recorder.database import FILE, Database
from services.recorder.settings import SECTION, RecorderSettings
from services.recorder.store import Store
from services.runtime.clock import SystemClock
from services.runtime.lifecycle import run_service
from services.runtime.logs import configure_logs
from services.runtime.metrics import Metrics
from services.runtime.settings import Settings, load_settings, read_password
from services.runtime.sqlite_file import DatabaseError


async def serve(settings: Settings[RecorderSettings], store: Store, password: str | None) -> int:
    """Runs until a signal; gives the exit code."""
    own = settings.service
    log = configure_logs(level=settings.logs.level, form=settings.logs.format, service=SECTION, instance=own.instance)
    around = Surroundings(
        password=password,
        clock=SystemClock(),
        metrics=Metrics(CollectorRegistry()),
        log=log,
        random=SystemRandom(),
    )
    async with Database(own.data / FILE) as database:
        parts = await recorder_parts(settings, store=store, database=database, around=around)
        return await run_service(parts=parts, drain_s=own.drain_s, log=log)


def main() -> int:
    """Reads the settings and runs the service."""
    parser = argparse.ArgumentParser(prog="python -m services.recorder")
    parser.add_argument("--config", type=Path, help="settings file; else DINRAIL_CONFIG names it")
    try:
        settings = load_settings(SECTION, RecorderSettings, path=parser.parse_args().config, environ=os.environ)
        store = open_store(settings.service.store, site=settings.site)
        return uvloop.run(serve(settings, store, read_password(settings)))
    except sqlite3.Error as error:
        sys.stderr.write(f"{settings.service.data / FILE}: {error}\n")
        return 1
    except (DocumentError, DatabaseError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
