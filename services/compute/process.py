"""The compute service as a process: put together from its settings."""

from services.compute.composition import BackendMissing, compose
from services.compute.settings import SECTION, ComputeSettings
from services.runtime.process import Means, run_process, work
from services.runtime.settings import Settings


async def serve(settings: Settings[ComputeSettings], means: Means) -> int:
    """Runs until a signal; gives the exit code. Raises BackendMissing, OSError."""
    return await work(compose(settings, means=means).parts, settings=settings, means=means)


def main() -> int:
    """Reads the settings and runs the service."""
    return run_process(SECTION, ComputeSettings, serve, refusals=(BackendMissing,))
