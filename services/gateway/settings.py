"""What a gateway is told at its start."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

import plugins
from contracts.v1.message import Level
from plugins.api.duration import Seconds
from services.gateway.device_fields import DEFAULT_GATEWAY
from services.runtime.settings import JournalSettings

SECTION = "gateway"
SHIPPED_DRIVERS = Path(plugins.__file__).parent / "drivers"


class GatewaySettings(JournalSettings):
    """The section `gateway` of the settings.

    See JournalSettings, and: devices: folder of the device files. plugins: folders of drivers beside the shipped.
    tag_topics: whether each tag has its own topic; without them only frames are published.
    reload_every: how often the folder of the device files is looked at for changes, and those of the drivers.
    reload_plugins: whether a driver whose folder changes is loaded anew by itself, not only by command.
    retry_first: the wait before a device that is away is tried again; it doubles from one attempt to the next, up to
    retry_silent if it does not answer, and up to retry_longest if it refuses (login, certificate, what the file asks
    for). Each wait is up to a fifth shorter, by chance.
    """

    instance: Level = DEFAULT_GATEWAY
    devices: Path = Path("devices")
    data: Path = Path("data/gateway")
    plugins: tuple[Path, ...] = ()
    tag_topics: bool = True
    reload_plugins: bool = False
    reload_every: Annotated[Seconds, Field(ge=0.01)] = 0.5
    retry_first: Annotated[Seconds, Field(gt=0)] = 1.0
    retry_silent: Annotated[Seconds, Field(gt=0)] = 1.5
    retry_longest: Annotated[Seconds, Field(gt=0)] = 60.0

    @property
    def driver_folders(self) -> tuple[Path, ...]:
        """Where drivers are looked for: the shipped ones, then the site's own."""
        return (SHIPPED_DRIVERS, *self.plugins)
