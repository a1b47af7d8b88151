"""The gateway as a process: put together from its settings."""

from services.gateway.collaborators import Collaborators
from services.gateway.gateway import Gateway
from services.gateway.settings import SECTION, GatewaySettings
from services.runtime.journal import JournalBroken
from services.runtime.process import Means, run_process, work
from services.runtime.settings import Settings


async def serve(settings: Settings[GatewaySettings], means: Means) -> int:
    """Runs until a signal; gives the exit code. Raises JournalBroken, OSError."""
    gateway = Gateway(settings=settings, use=Collaborators(settings, means=means))
    return await work(gateway.parts, settings=settings, means=means)


def main() -> int:
    """Reads the settings and runs the service."""
    return run_process(SECTION, GatewaySettings, serve, refusals=(JournalBroken,))
