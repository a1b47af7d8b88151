"""What the gateway works with."""

from plugins.api.registry import Registry
from services.gateway.settings import SECTION, GatewaySettings
from services.runtime.commands.book import CommandBook
from services.runtime.outfit import JournalOutfit
from services.runtime.process import Means
from services.runtime.settings import Settings

BOOK_FOLDER = "commands"


class Collaborators(JournalOutfit):
    """What every service with a journal works with, with the drivers and the book of commands."""

    def __init__(self, settings: Settings[GatewaySettings], *, means: Means) -> None:
        """Opens the journal. Raises JournalBroken, OSError."""
        super().__init__(settings, service=SECTION, means=means)
        self.drivers = Registry(settings.service.driver_folders, kind="driver")
        self.book = CommandBook(
            settings.service.data / BOOK_FOLDER, clock=means.clock, metrics=means.metrics, log=means.log
        )
