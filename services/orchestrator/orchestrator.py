"""The orchestrator put together: pipelines, what starts their runs, and the engine that runs them."""

from collections.abc import Sequence

from contracts.v1.definition import Definition
from contracts.v1.node import AlarmNode, ReadNode
from services.orchestrator.alarms.alarms import Alarms
from services.orchestrator.alarms.store import AlarmStore
from services.orchestrator.collaborators import Collaborators
from services.orchestrator.definition.reach import all_nodes
from services.orchestrator.desks.alarms import AlarmDesk
from services.orchestrator.desks.functions import FunctionDesk
from services.orchestrator.desks.left_over import LeftOverCommands
from services.orchestrator.desks.pipelines import PipelineCases, PipelineDesk
from services.orchestrator.desks.runs import RunDesk
from services.orchestrator.engine.board import Board
from services.orchestrator.engine.chronicle import Chronicle
from services.orchestrator.engine.crew import Crew
from services.orchestrator.engine.engine import Engine
from services.orchestrator.engine.execution import Execution
from services.orchestrator.engine.left_over import LeftOverRuns
from services.orchestrator.engine.tapes import Tapes
from services.orchestrator.engine.workplace import Workplace
from services.orchestrator.functions.dispatch import Dispatcher
from services.orchestrator.functions.functions import Functions
from services.orchestrator.herald import Herald
from services.orchestrator.hub import Hub
from services.orchestrator.lookout import Lookout
from services.orchestrator.nodes.workshop import Tools, executors, shadow_executors
from services.orchestrator.past.recorded import RecordedRuns
from services.orchestrator.past.retrospect import CompareShadow, ReplayRun
from services.orchestrator.pipelines.cases import (
    DeletePipeline,
    RollbackPipeline,
    SavePipeline,
    ShowPipelines,
    ValidatePipeline,
)
from services.orchestrator.pipelines.definitions import Definitions
from services.orchestrator.pipelines.derived_tags import DerivedTags
from services.orchestrator.pipelines.plans import Plans
from services.orchestrator.pipelines.repository import Repository
from services.orchestrator.pipelines.showcase import Showcase
from services.orchestrator.pipelines.surroundings import Surroundings
from services.orchestrator.pipelines.taking_in import TakingIn
from services.orchestrator.pipelines.version import Version
from services.orchestrator.run.node_cache import NodeCache
from services.orchestrator.run.queue import RunQueue
from services.orchestrator.run.request import RunRequest
from services.orchestrator.settings import SECTION, OrchestratorSettings
from services.orchestrator.tags import Tags
from services.orchestrator.triggers.starters import new_triggers
from services.orchestrator.use_cases import CancelRun, GetRun, RunPipeline
from services.runtime.journal_desk import JournalDesk
from services.runtime.lifecycle import Part, Supervisor
from services.runtime.resend import ResendDesk
from services.runtime.settings import Limits, Settings


class Orchestrator:
    """open() before its parts run. repository: its pipelines; run_pipeline: what starts their runs."""

    def __init__(self, *, settings: Settings[OrchestratorSettings], use: Collaborators) -> None:
        self._settings = settings
        self._use = use
        own = settings.service
        self.tags = Tags(bus=use.bus, clock=use.clock)
        hub = Hub(bus=use.bus)
        self.repository = Repository(database=use.database)
        self._definitions = Definitions()
        self.plans = Plans(repository=self.repository, definitions=self._definitions, made=self._prepare)
        self.board = Board(site=settings.site, bus=use.bus, clock=use.clock, most=own.shown_runs)
        self._functions = Functions(bus=use.bus, clock=use.clock)
        self._tapes = Tapes()
        self._chronicle = Chronicle(events=use.events, tapes=self._tapes)
        self.alarms = Alarms(
            bus=use.bus, events=use.events, store=AlarmStore(database=use.database), clock=use.clock, log=use.log
        )
        self._alarm_desk = AlarmDesk(alarms=self.alarms, bus=use.bus, book=use.book, clock=use.clock)
        self._lookout = Lookout(bus=use.bus, hub=hub, events=use.events, clock=use.clock, log=use.log)
        surroundings = Surroundings(
            hub=hub,
            repository=self.repository,
            definitions=self._definitions,
            derived=DerivedTags(repository=self.repository, definitions=self._definitions),
            functions=self._functions,
            log=use.log,
        )
        self.engine = self._new_engine(own, surroundings)
        self.run_pipeline, self._desk = self._new_run_desk(own.limits)
        FunctionDesk(bus=use.bus, dispatcher=self._dispatcher, rate=own.limits.acts, clock=use.clock)
        self._showcase = Showcase(
            bus=use.bus, repository=self.repository, definitions=self._definitions, events=use.events, log=use.log
        )
        self._pipeline_desk = self._new_pipeline_desk(own.limits, surroundings)
        ResendDesk(instance=own.instance, bus=use.bus, journal=use.journal, backfill=use.backfill)
        JournalDesk(instance=own.instance, bus=use.bus, journal=use.journal)
        self._supervisor = Supervisor(log=use.log, metrics=use.metrics)
        self.triggers = new_triggers(
            settings=settings,
            use=use,
            repository=self.repository,
            definitions=self._definitions,
            runs=self.run_pipeline,
            supervisor=self._supervisor,
            hub=hub,
            tags=self.tags,
        )
        self._keep_up(surroundings)
        self._herald = self._new_herald()

    async def open(self) -> None:
        """Reads what is kept. Raises sqlite3.Error, DatabaseError."""
        await self.repository.open()
        self._showcase.open()
        await self.alarms.open()
        live = {version.name: version for version in self.repository.all()}
        for scope, source in live.keys() | {(alarm.scope, alarm.source) for alarm in self.alarms.all()}:
            self._follow_alarms(scope, source, live.get((scope, source)))
        self.repository.on_change(lambda version: self._follow_alarms(*version.name, version))
        for version in live.values():
            self._count_runs_of(version)
        self.repository.on_change(self._count_runs_of)
        self._chronicle.close_left_over()

    @property
    def parts(self) -> Sequence[Part]:
        """What run_service() runs: sources first, but who asks is answered until the last run is over."""
        use = self._use
        return (
            self._herald,
            self.engine,
            self._desk,
            self._pipeline_desk,
            self._supervisor,
            self._lookout,
            self.alarms,
            use.events,
            use.backfill,
            use.bus,
            use.book,
            use.begun,
            use.journal,
            use.health,
        )

    def _new_run_desk(self, limits: Limits) -> tuple[RunPipeline, RunDesk]:
        """What starts runs, and where commands that concern them are answered."""
        use = self._use
        compare_shadow = CompareShadow(tapes=self._tapes, plans=self.plans)
        run_pipeline = RunPipeline(plans=self.plans, engine=self.engine, compare=compare_shadow)
        recorded = RecordedRuns(bus=use.bus, user=SECTION, recorder=self._settings.service.recorder)
        desk = RunDesk(
            bus=use.bus,
            book=use.book,
            run_pipeline=run_pipeline,
            cancel_run=CancelRun(engine=self.engine),
            get_run=GetRun(board=self.board, recorded=recorded),
            replay_run=ReplayRun(tapes=self._tapes, recorded=recorded, plans=self.plans),
            compare_shadow=compare_shadow,
            limits=limits,
            clock=use.clock,
        )
        return run_pipeline, desk

    def _keep_up(self, surroundings: Surroundings) -> None:
        """Has the supervisor run what is no part of its own."""
        use, own = self._use, self._settings.service
        left_over = LeftOverRuns(bus=use.bus, board=self.board, clock=use.clock)
        taking_in = TakingIn(
            folder=own.pipelines,
            scope=own.workspace,
            repository=self.repository,
            surroundings=surroundings,
            since=use.bus.gate.since,
            clock=use.clock,
            log=use.log,
        )
        desks = (self._desk, self._pipeline_desk, self._alarm_desk)
        commands = LeftOverCommands(services=[one for desk in desks for one in desk.services], bus=use.bus)
        for child in (self.board, left_over, commands, taking_in, self.triggers):
            self._supervisor.keep(child.name, child.run)

    def _new_herald(self) -> Herald:
        use = self._use
        return Herald(
            runs=lambda: f"{self.engine.running} running, {self.engine.queued} waiting",
            bus=use.bus,
            journal=use.journal,
            health=use.health,
            clock=use.clock,
            log=use.log,
        )

    def _new_engine(self, own: OrchestratorSettings, surroundings: Surroundings) -> Engine:
        use = self._use
        self._dispatcher = Dispatcher(
            bus=use.bus,
            user=SECTION,
            functions=self._functions.info,
            clock=use.clock,
            log=use.log,
            random=use.random,
        )
        tools = Tools(
            bus=use.bus,
            user=SECTION,
            tags=self.tags,
            plans=self.plans,
            accept=self._accept,
            alarms=self.alarms,
            dispatcher=self._dispatcher,
            owners=surroundings,
            metrics=use.metrics,
            clock=use.clock,
        )
        return Engine(
            queue=RunQueue(most_runs=own.runs, most_queued=own.queue),
            shadows=RunQueue(most_runs=own.runs, most_queued=own.queue),
            use=Workplace(
                executors=executors(tools),
                shadows=shadow_executors(tools),
                cache=NodeCache(),
                chronicle=self._chronicle,
                board=self.board,
                crew=Crew(log=use.log, metrics=use.metrics),
                clock=use.clock,
            ),
            metrics=use.metrics,
            log=use.log,
            random=use.random,
            drain_s=own.drain_runs,
        )

    def _new_pipeline_desk(self, limits: Limits, surroundings: Surroundings) -> PipelineDesk:
        """Where commands that concern definitions are answered."""
        repository, clock = self.repository, self._use.clock
        validate = ValidatePipeline(surroundings=surroundings, definitions=self._definitions)
        cases = PipelineCases(
            save=SavePipeline(repository=repository, validate=validate, clock=clock),
            rollback=RollbackPipeline(repository=repository, validate=validate, clock=clock),
            delete=DeletePipeline(repository=repository, clock=clock),
            validate=validate,
            show=ShowPipelines(repository=repository, showcase=self._showcase, definitions=self._definitions),
        )
        return PipelineDesk(
            bus=self._use.bus,
            book=self._use.book,
            cases=cases,
            limits=limits,
            check_open=self.engine.check_open,
            clock=clock,
        )

    def _accept(self, request: RunRequest) -> Execution:
        """The engine's own, which is not made yet when its executors are."""
        return self.engine.accept(request)

    def _follow_alarms(self, scope: str, pipeline: str, version: Version | None) -> None:
        """The alarms that the live version has are the pipeline's; None: it has no live version.

        Of a version of another release, which cannot be read, nobody knows: its alarms stay as they are.
        """
        if version is not None and version.shadow:
            return
        names: set[str] = set()
        if version is not None and version.text is not None:
            try:
                nodes = all_nodes(self._definitions.of(version.text).nodes)
            except ValueError:
                return
            names = {node.alarm for node in nodes if isinstance(node, AlarmNode)}
        self.alarms.follow(scope, pipeline, names)

    def _count_runs_of(self, version: Version) -> None:
        if version.text is None:
            self._use.metrics.forget_pipeline(*version.name)
        elif not version.shadow:
            self._use.metrics.expect_pipeline(*version.name)

    def _prepare(self, definition: Definition) -> None:
        """Follows the tags that the pipeline reads, so that its first run finds them known."""
        for node in all_nodes(definition.nodes):
            if isinstance(node, ReadNode) and node.source == "last":
                device, _, tag = node.tag.partition("/")
                self.tags.follow(device, tag)
