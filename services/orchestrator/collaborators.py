"""What the orchestrator is built from and works with."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from plugins.api.clock import Clock
from services.orchestrator.database import Database
from services.runtime.bus import Bus
from services.runtime.delivery import Login
from services.runtime.event_log import EventLog
from services.runtime.health import Health
from services.runtime.journal import Journal
from services.runtime.logs import Log
from services.runtime.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Collaborators:
    """What the orchestrator works with. sid: this session of the service. random: of names and of waits.

    login: as whom a further connection logs in, under this client id.
    """

    sid: str
    login: Callable[[str], Login]
    bus: Bus
    journal: Journal
    events: EventLog
    database: Database
    health: Health
    clock: Clock
    metrics: Metrics
    log: Log
    random: Random
