"""What the gateway is built from and works with."""

from dataclasses import dataclass
from random import Random

from plugins.api.clock import Clock
from plugins.api.registry import Registry
from services.runtime.bus import Bus
from services.runtime.command_book import CommandBook
from services.runtime.event_log import EventLog
from services.runtime.health import Health
from services.runtime.journal import Journal
from services.runtime.logs import Log
from services.runtime.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Collaborators:
    """What the gateway works with. sid: this session of the service. random: spreads retries."""

    sid: str
    drivers: Registry
    bus: Bus
    journal: Journal
    events: EventLog
    book: CommandBook
    health: Health
    clock: Clock
    metrics: Metrics
    log: Log
    random: Random
