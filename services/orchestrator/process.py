"""The orchestrator as a process: put together from its settings."""

from services.orchestrator.collaborators import Collaborators
from services.orchestrator.orchestrator import Orchestrator
from services.orchestrator.settings import SECTION, OrchestratorSettings
from services.runtime.journal import JournalBroken
from services.runtime.process import Means, run_process, work
from services.runtime.settings import Settings
from services.runtime.sqlite_file import DatabaseError


async def serve(settings: Settings[OrchestratorSettings], means: Means) -> int:
    """Runs until a signal; gives the exit code. Raises JournalBroken, DatabaseError, sqlite3.Error, OSError."""
    use = Collaborators(settings, means=means)
    async with use.database:
        orchestrator = Orchestrator(settings=settings, use=use)
        await orchestrator.open()
        return await work(orchestrator.parts, settings=settings, means=means)


def main() -> int:
    """Reads the settings and runs the service."""
    return run_process(SECTION, OrchestratorSettings, serve, refusals=(JournalBroken, DatabaseError))
