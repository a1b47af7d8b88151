"""What the orchestrator works with."""

from functools import partial

from contracts.codec import MAX_BYTES
from services.orchestrator.database import FILE, Database
from services.orchestrator.settings import SECTION, OrchestratorSettings
from services.runtime.commands.book import CommandBook
from services.runtime.outfit import JournalOutfit
from services.runtime.process import Means
from services.runtime.settings import Settings

BOOK_FOLDER = "commands"
BEGUN_FOLDER = "begun"
MOST_COMMANDS = 30_000
"""Commands that are known, fifty a second for ten minutes; beyond it the oldest answered ones go before their time."""
BEGUN_S = 60.0
"""How long a run of a trigger is known; how far the trigger has come is on disk long before."""


class Collaborators(JournalOutfit):
    """What every service with a journal works with, with the database, which is not open yet, and two books.

    book: of commands. begun: of runs of triggers. Neither waits for the disk: what a run does is told in the journal,
    of which a power cut takes the end as well.
    """

    def __init__(self, settings: Settings[OrchestratorSettings], *, means: Means) -> None:
        """Opens the journal. Raises JournalBroken, OSError."""
        super().__init__(settings, service=SECTION, means=means)
        data = settings.service.data
        self.database = Database(data / FILE)
        open_book = partial(CommandBook, clock=means.clock, metrics=means.metrics, log=means.log, synced=False)
        self.book = open_book(data / BOOK_FOLDER, most=MOST_COMMANDS, most_command_bytes=MAX_BYTES)
        self.begun = open_book(data / BEGUN_FOLDER, keep_s=BEGUN_S)
