"""The plans of the pipelines that are kept: each version made ready once, for all of its runs."""

from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

from contracts.v1.definition import Definition
from plugins.api.document import DocumentError
from services.orchestrator.errors import NotFound, Unusable
from services.orchestrator.expression.expression import ExpressionError
from services.orchestrator.pipelines.definitions import Definitions
from services.orchestrator.pipelines.repository import Repository
from services.orchestrator.pipelines.version import UnknownPipeline, Version
from services.orchestrator.run.compiler import compile_plan
from services.orchestrator.run.plan import Plan

MOST = 500
"""Plans that are kept ready; others are made again when they are wanted."""

Key = tuple[str, str, int]


class Plans:
    """made: is told of each plan that was made, before it is used."""

    def __init__(
        self,
        *,
        repository: Repository,
        definitions: Definitions,
        made: Callable[[Definition], None],
    ) -> None:
        self._repository = repository
        self._definitions = definitions
        self._made = made
        self._plans: OrderedDict[Key, Plan] = OrderedDict()

    def live(self, scope: str, pipeline: str) -> Plan:
        """The version that runs. Raises NotFound, Unusable."""
        try:
            return self.of(self._repository.live(scope, pipeline))
        except UnknownPipeline as error:
            raise NotFound(str(error)) from error

    def shadow(self, scope: str, pipeline: str) -> Plan | None:
        """The version that runs beside it, its writes held back. Raises Unusable."""
        version = self._repository.shadow(scope, pipeline)
        return self.of(version) if version is not None else None

    async def version(self, scope: str, pipeline: str, version: int) -> Plan:
        """Any version. Raises NotFound, Unusable."""
        known = self._plans.get((scope, pipeline, version))
        if known is not None:
            return known
        try:
            found = await self._repository.get(scope, pipeline, version)
        except UnknownPipeline as error:
            raise NotFound(str(error)) from error
        with suppress(DocumentError):  # of() tells it
            await self._definitions.soon(found.text or "")
        return self.of(found)

    def of(self, version: Version) -> Plan:
        """Of this version. Raises Unusable."""
        key = (version.scope, version.pipeline, version.version)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = self._make(version)
            if len(self._plans) > MOST:
                self._plans.popitem(last=False)
        return plan

    def _make(self, version: Version) -> Plan:
        if version.text is None:
            raise NotFound(f"version {version.version} of {version.pipeline!r} is its deletion")
        try:
            definition = self._definitions.of(version.text)
            plan = compile_plan(
                definition,
                scope=version.scope,
                version=version.version,
                rev=version.rev,
                saved_by=version.saved_by,
                saver_since=version.saver_since,
            )
        except (ValueError, KeyError, ExpressionError) as error:
            raise Unusable(f"version {version.version} of {version.pipeline!r} cannot run: {error}") from error
        self._made(definition)
        return plan
