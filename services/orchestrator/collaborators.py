"""What the orchestrator works with."""

from services.orchestrator.database import FILE, Database
from services.orchestrator.settings import SECTION, OrchestratorSettings
from services.runtime.outfit import JournalOutfit
from services.runtime.process import Means
from services.runtime.settings import Settings


class Collaborators(JournalOutfit):
    """What every service with a journal works with, with the database, which is not open yet."""

    def __init__(self, settings: Settings[OrchestratorSettings], *, means: Means) -> None:
        """Opens the journal. Raises JournalBroken, OSError."""
        super().__init__(settings, service=SECTION, means=means)
        self.database = Database(settings.service.data / FILE)
