"""What an identity service is told at its start."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from contracts.v1.message import Level
from plugins.api.duration import Seconds
from services.runtime.settings import JournalSettings

SECTION = "identity"
USERS_FILE = Path("users/users.yaml")


class IdentitySettings(JournalSettings):
    """The section `identity` of the settings.

    See JournalSettings, and: users: the file of the site's users. broker: folder of the broker's passwords and access
    rules, which are made of it. look_every: how often it is looked whether somebody has changed the file of users.
    """

    instance: Level = SECTION
    data: Path = Path("data/identity")
    users: Path = USERS_FILE
    broker: Path = Path("broker")
    look_every: Annotated[Seconds, Field(ge=0.05)] = 0.5
