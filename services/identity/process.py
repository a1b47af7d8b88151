"""The identity service as a process: put together from its settings."""

from services.identity.composition import compose
from services.identity.settings import SECTION, IdentitySettings
from services.runtime.journal import JournalBroken
from services.runtime.process import Means, run_process, work
from services.runtime.settings import Settings


async def serve(settings: Settings[IdentitySettings], means: Means) -> int:
    """Runs until a signal; gives the exit code. Raises JournalBroken, OSError."""
    return await work(compose(settings, means=means).parts, settings=settings, means=means)


def main() -> int:
    """Reads the settings and runs the service."""
    return run_process(SECTION, IdentitySettings, serve, refusals=(JournalBroken,))
