"""The pipelines there are, shown as retained topics, and every change of them told as an event."""

from contracts.v1.pipeline import PIPELINE, PipelineInfo
from services.orchestrator.definition_file import read_definition
from services.orchestrator.pipeline_info import pipeline_info
from services.orchestrator.repository import Repository
from services.orchestrator.version import Name, Version
from services.runtime.bus import Bus
from services.runtime.event_log import EventLog
from services.runtime.logs import Log

PIPELINE_AGGREGATE = "pipeline"
_TYPES = {"save": "saved", "rollback": "rolled_back", "import": "imported", "delete": "deleted"}


class Showcase:
    """Follows the repository. open() when it is open."""

    def __init__(self, *, bus: Bus, repository: Repository, events: EventLog, log: Log) -> None:
        self._bus = bus
        self._repository = repository
        self._events = events
        self._log = log
        self._infos: dict[Name, PipelineInfo] = {}

    def open(self) -> None:
        """Shows what there is, and from now on every change."""
        for version in self._repository.all():
            self._show(version)
        self._repository.on_change(self._changed)

    def info(self, scope: str, pipeline: str) -> PipelineInfo | None:
        """The live version; None if there is none that can be shown."""
        return self._infos.get((scope, pipeline))

    def all(self, scope: str) -> list[PipelineInfo]:
        """The live versions of a workspace, by name."""
        return [info for (within, _), info in sorted(self._infos.items()) if within == scope]

    def _changed(self, version: Version) -> None:
        self._events.tell(
            f"pipeline.{_TYPES[version.origin]}",
            aggregate=PIPELINE_AGGREGATE,
            id=version.pipeline,
            scope=version.scope,
            user=version.saved_by,
            data={"version": version.version, "rev": version.rev, "shadow": version.shadow},
        )
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
        file = read_definition(version.text, source=version.pipeline) if version.text is not None else None
        if file is None or file.definition is None or file.faults:
            return None
        return pipeline_info(version, file.definition, shadow=self._repository.shadow(*version.name))
