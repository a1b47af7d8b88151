"""The pipelines there are, shown as retained topics, and every change of them told as an event."""

from contracts.v1.pipeline import PIPELINE, PipelineInfo, PipelineList
from plugins.api.document import DocumentError
from services.orchestrator.pipelines.definitions import Definitions
from services.orchestrator.pipelines.info import pipeline_info, summary_of
from services.orchestrator.pipelines.repository import Repository
from services.orchestrator.pipelines.version import Name, Version
from services.runtime.bus.bus import Bus
from services.runtime.commands.replies import Encoded
from services.runtime.event_log import EventLog
from services.runtime.logs import Log

PIPELINE_AGGREGATE = "pipeline"
_TYPES = {"save": "saved", "rollback": "rolled_back", "import": "imported", "delete": "deleted"}


class Showcase:
    """Follows the repository. open() when it is open."""

    def __init__(
        self, *, bus: Bus, repository: Repository, definitions: Definitions, events: EventLog, log: Log
    ) -> None:
        self._bus = bus
        self._definitions = definitions
        self._repository = repository
        self._events = events
        self._log = log
        self._infos: dict[Name, PipelineInfo] = {}
        self._encoded: dict[Name, Encoded[PipelineInfo]] = {}
        self._lists: dict[str, Encoded[PipelineList]] = {}

    def open(self) -> None:
        """Shows what there is, and from now on every change."""
        for version in self._repository.all():
            self._show(version)
        self._repository.on_change(self._changed)

    def info(self, scope: str, pipeline: str) -> PipelineInfo | None:
        """The live version; None if there is none that can be shown."""
        return self._infos.get((scope, pipeline))

    def encoded(self, scope: str, pipeline: str) -> Encoded[PipelineInfo] | None:
        """As info(), for who asks over the bus."""
        name = (scope, pipeline)
        known = self._encoded.get(name)
        if known is None and name in self._infos:
            known = self._encoded[name] = Encoded.of(self._infos[name])
        return known

    def listed(self, scope: str) -> Encoded[PipelineList]:
        """The live versions of a workspace, by name."""
        known = self._lists.get(scope)
        if known is None:
            infos = [info for (within, _), info in sorted(self._infos.items()) if within == scope]
            known = Encoded.of(PipelineList(pipelines=[summary_of(info) for info in infos]))
            if infos:  # what people ask for that is not there is not kept
                self._lists[scope] = known
        return known

    def _changed(self, version: Version) -> None:
        self._events.tell(
            f"pipeline.{_TYPES[version.origin]}",
            aggregate=PIPELINE_AGGREGATE,
            id=version.pipeline,
            scope=version.scope,
            user=version.saved_by,
            data={"version": version.version, "rev": version.rev, "shadow": version.shadow},
        )
        self._encoded.pop(version.name, None)
        self._lists.pop(version.scope, None)
        live = next((one for one in self._repository.all(version.scope) if one.name == version.name), None)
        if live is not None:
            self._show(live)
        elif self._infos.pop(version.name, None) is not None:
            self._bus.retain(PIPELINE, None, scope=version.scope, pipeline=version.pipeline)

    def _show(self, version: Version) -> None:
        info = self.described(version)
        if info is None:
            self._log.warning("pipeline_unreadable", pipeline=version.pipeline, version=version.version)
            return
        self._infos[version.name] = info
        self._bus.retain(PIPELINE, info, scope=version.scope, pipeline=version.pipeline)

    def described(self, version: Version) -> PipelineInfo | None:
        """What there is to say of any version; None if this release cannot read it, or it is a deletion."""
        if version.text is None:
            return None
        try:
            definition = self._definitions.of(version.text)
        except DocumentError:
            return None
        return pipeline_info(version, definition, shadow=self._repository.shadow(*version.name))
