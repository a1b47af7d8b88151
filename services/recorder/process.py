"""The recorder as a process: put together from its settings."""

import sqlite3

from services.recorder.composition import open_store, recorder_parts
from services.recorder.database import FILE, Database
from services.recorder.settings import SECTION, RecorderSettings
from services.runtime.journal import JournalBroken
from services.runtime.process import Means, run_process, work
from services.runtime.settings import Settings
from services.runtime.sqlite_file import DatabaseError


async def serve(settings: Settings[RecorderSettings], means: Means) -> int:
    """Runs until a signal; gives the exit code. Raises DocumentError, DatabaseError, JournalBroken, OSError."""
    store = open_store(settings.service.store, site=settings.site)
    path = settings.service.data / FILE
    try:
        async with Database(path, log=means.log) as database:
            parts = await recorder_parts(settings, store=store, database=database, means=means)
            return await work(parts, settings=settings, means=means)
    except sqlite3.Error as error:
        raise DatabaseError(f"{path}: {error}") from None


def main() -> int:
    """Reads the settings and runs the service."""
    return run_process(SECTION, RecorderSettings, serve, refusals=(DatabaseError, JournalBroken))
