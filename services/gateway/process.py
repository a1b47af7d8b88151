"""The gateway as a process: put together from its settings."""

import gc

from services.gateway.collaborators import Collaborators
from services.gateway.gateway import Gateway
from services.gateway.settings import SECTION, GatewaySettings
from services.runtime.journal import JournalBroken
from services.runtime.process import Means, run_process, work
from services.runtime.settings import Settings


async def serve(settings: Settings[GatewaySettings], means: Means) -> int:
    """Runs until a signal; gives the exit code. Raises JournalBroken, OSError."""
    # gc.freeze: drivers and devices stay, and to search them for garbage held up polls and writes (bench/RESULTS.md).
    gateway = Gateway(settings=settings, use=Collaborators(settings, means=means), loaded=gc.freeze)
    return await work(gateway.parts, settings=settings, means=means)


def main() -> int:
    """Reads the settings and runs the service."""
    return run_process(SECTION, GatewaySettings, serve, refusals=(JournalBroken,))
