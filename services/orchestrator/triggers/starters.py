"""The triggers put together, with their clock and their sessions at the broker."""

from collections.abc import Sequence
from functools import partial

from services.orchestrator.collaborators import Collaborators
from services.orchestrator.hub import Hub
from services.orchestrator.pipelines.definitions import Definitions
from services.orchestrator.pipelines.repository import Repository
from services.orchestrator.settings import SECTION, OrchestratorSettings
from services.orchestrator.tags import Tags
from services.orchestrator.triggers.begun import BegunRuns
from services.orchestrator.triggers.outfit import Starter, TriggerOutfit
from services.orchestrator.triggers.progress import Progress
from services.orchestrator.triggers.session import AHEAD
from services.orchestrator.triggers.sessions import Sessions
from services.orchestrator.triggers.timekeeper import DueTimes, Timekeeper
from services.orchestrator.triggers.triggers import Triggers
from services.runtime.allowance import Allowance
from services.runtime.intake import Intake
from services.runtime.lifecycle import Supervisor
from services.runtime.settings import Settings


def new_triggers(
    *,
    settings: Settings[OrchestratorSettings],
    use: Collaborators,
    repository: Repository,
    definitions: Definitions,
    runs: Starter,
    supervisor: Supervisor,
    hub: Hub,
    tags: Tags,
) -> Triggers:
    """The triggers of all pipelines, to be kept running by the supervisor."""
    own = settings.service
    return Triggers(
        repository=repository,
        parse=definitions.of,
        use=TriggerOutfit(
            site=settings.site,
            instance=own.instance,
            user=SECTION,
            runs=runs,
            timekeeper=Timekeeper(due_times=DueTimes(database=use.database), clock=use.clock, log=use.log),
            progress=Progress(database=use.database, log=use.log),
            notes=BegunRuns(book=use.begun),
            sessions=Sessions(
                database=use.database, broker=settings.broker, login=use.login, clock=use.clock, log=use.log
            ),
            open_intake=partial(_intake, settings, use),
            allowance=partial(Allowance, rate=own.limits.acts.rate, burst=own.limits.acts.burst),
            supervisor=supervisor,
            bus=use.bus,
            hub=hub,
            tags=tags,
            events=use.events,
            clock=use.clock,
            metrics=use.metrics,
            log=use.log,
        ),
    )


def _intake(
    settings: Settings[OrchestratorSettings], use: Collaborators, client_id: str, filters: Sequence[str]
) -> Intake:
    """A session of this name, as the orchestrator's account; filters: of topics. Connects when it runs."""
    login = use.login(client_id)
    return Intake(
        broker=settings.broker,
        client_id=login.client_id,
        username=login.username,
        password=login.password,
        filters=filters,
        receive_maximum=AHEAD,
        metrics=use.metrics,
        log=use.log,
    )
