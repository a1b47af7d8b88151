"""What triggers work with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from plugins.api.clock import Clock
from services.orchestrator.engine.execution import Execution
from services.orchestrator.hub import Hub
from services.orchestrator.tags import Tags
from services.orchestrator.triggers.begun import BegunRuns
from services.orchestrator.triggers.progress import Progress
from services.orchestrator.triggers.sessions import Sessions
from services.orchestrator.triggers.timekeeper import Timekeeper
from services.orchestrator.use_cases import RunOrder
from services.runtime.allowance import Allowance
from services.runtime.bus.bus import Bus
from services.runtime.event_log import EventLog
from services.runtime.intake import Intake
from services.runtime.lifecycle import Supervisor
from services.runtime.logs import Log
from services.runtime.metrics import Metrics


class Starter(Protocol):
    """Starts runs; see use_cases.RunPipeline."""

    def start(self, order: RunOrder) -> Execution:
        """The run, begun or in line. Raises OrchestratorError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerOutfit:
    """What the triggers of all pipelines share. instance: of the service; user: as whom its bus is logged in.

    open_intake: an intake under this client id, of these filters. allowance: makes that of one trigger of events.
    """

    site: str
    instance: str
    user: str
    runs: Starter
    timekeeper: Timekeeper
    progress: Progress
    notes: BegunRuns
    sessions: Sessions
    open_intake: Callable[[str, Sequence[str]], Intake]
    allowance: Callable[[], Allowance]
    supervisor: Supervisor
    bus: Bus
    hub: Hub
    tags: Tags
    events: EventLog
    clock: Clock
    metrics: Metrics
    log: Log
