"""The compute service as a process: put together from its settings."""

import os

from services.compute.composition import BackendMissing, compose
from services.compute.settings import SECTION, ComputeSettings
from services.runtime.file_lock import FileTaken, lock_file
from services.runtime.process import Means, run_process, work
from services.runtime.settings import Settings

LOCK_FILE = "lock"


async def serve(settings: Settings[ComputeSettings], means: Means) -> int:
    """Runs until a signal; gives the exit code. Raises FileTaken, BackendMissing, OSError."""
    folder = settings.service.data
    folder.mkdir(parents=True, exist_ok=True)
    lock = lock_file(folder / LOCK_FILE)  # first: a second one would throw away what the workers of the first load
    try:
        return await work(compose(settings, means=means).parts, settings=settings, means=means)
    finally:
        os.close(lock)


def main() -> int:
    """Reads the settings and runs the service."""
    return run_process(SECTION, ComputeSettings, serve, refusals=(FileTaken, BackendMissing))
