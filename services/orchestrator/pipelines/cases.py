"""What the orchestrator can be asked for concerning definitions, whoever asks."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from contracts.policy import WHOLE
from contracts.v1.definition import Definition, revision
from contracts.v1.pipeline import PipelineInfo, PipelineList, PipelineVersion
from contracts.v1.policy import Rights
from plugins.api.clock import Clock
from plugins.api.document import DocumentError, Fault
from services.orchestrator.definition.reach import beyond
from services.orchestrator.definition.validation import Checked, check_text
from services.orchestrator.errors import Conflict, Forbidden, InvalidDefinition, NotFound
from services.orchestrator.pipelines.definitions import Definitions
from services.orchestrator.pipelines.info import version_of
from services.orchestrator.pipelines.repository import Repository
from services.orchestrator.pipelines.showcase import Showcase
from services.orchestrator.pipelines.surroundings import Surroundings
from services.orchestrator.pipelines.version import Draft, UnknownPipeline, Version, VersionConflict
from services.runtime.commands.replies import Encoded

_TOLD_FAULTS = 10


@contextmanager
def told() -> Iterator[None]:
    """What the repository raises inside becomes an error of the orchestrator. Raises NotFound, Conflict."""
    try:
        yield
    except UnknownPipeline as error:
        raise NotFound(str(error)) from error
    except VersionConflict as error:
        raise Conflict(str(error), version=error.current) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveOrder:
    """What is to be saved, by whom, within which rights. text: YAML or JSON.

    expect_version, shadow: see contracts SavePipeline. since: see Version.saver_since.
    """

    scope: str
    pipeline: str
    text: str
    user: str
    rights: Rights = WHOLE
    expect_version: int | None = None
    shadow: bool = False
    since: int | None = None


class ValidatePipeline:
    """Looks for faults in definitions, one after the other, beside the event loop: a long text may take a second."""

    def __init__(self, *, surroundings: Surroundings, definitions: Definitions) -> None:
        self._surroundings = surroundings
        self._definitions = definitions
        self._turn = asyncio.Lock()

    async def check(self, scope: str, pipeline: str, text: str, *, rights: Rights = WHOLE) -> Checked:
        """Every fault, a name that is not the one asked for among them.

        Devices that are none of the user's are as if there were none: what is wrong tells nothing of them.
        """
        async with self._turn:
            catalogue = self._surroundings.catalogue(scope).seen_with(rights)
            checked = await asyncio.to_thread(check_text, text, source=pipeline, catalogue=catalogue)
        if checked.definition is not None and checked.definition.pipeline != pipeline:
            message = f"is {checked.definition.pipeline!r}, but {pipeline!r} was asked for"
            return Checked(None, (Fault(pipeline, 1, "pipeline", message, f"write {pipeline}, or ask for the other"),))
        return checked

    async def right(self, scope: str, pipeline: str, text: str, rights: Rights) -> Definition:
        """The definition. Raises InvalidDefinition with its faults, see check()."""
        checked = await self.check(scope, pipeline, text, rights=rights)
        if checked.definition is None:
            raise InvalidDefinition(_lines(checked.faults), faults=len(checked.faults))
        return self._definitions.learn(text, checked.definition)


def _check_reach(definition: Definition, rights: Rights, user: str) -> None:
    """Raises Forbidden."""
    told = beyond(definition, rights)
    if told is not None:
        raise Forbidden(f"{user} {told}, which the pipeline reaches for")


class SavePipeline:
    """Makes versions."""

    def __init__(self, *, repository: Repository, validate: ValidatePipeline, clock: Clock) -> None:
        self._repository = repository
        self._validate = validate
        self._clock = clock

    async def save(self, order: SaveOrder) -> Version:
        """The version, on disk. Raises InvalidDefinition, Forbidden, Conflict."""
        async with self._repository.editing:
            definition = await self._validate.right(order.scope, order.pipeline, order.text, order.rights)
            _check_reach(definition, order.rights, order.user)
            return await self._write(order, revision(definition))

    async def _write(self, order: SaveOrder, rev: str) -> Version:
        draft = Draft(scope=order.scope, pipeline=order.pipeline, text=order.text, rev=rev)
        with told():
            return await self._repository.save(
                draft,
                by=order.user,
                at_ms=self._clock.now_us() // 1000,
                expect_version=order.expect_version,
                shadow=order.shadow,
                since=order.since,
            )


class RollbackPipeline:
    """Makes the content of an old version live again, as a new one."""

    def __init__(self, *, repository: Repository, validate: ValidatePipeline, clock: Clock) -> None:
        self._repository = repository
        self._validate = validate
        self._clock = clock

    async def rollback(
        self,
        scope: str,
        pipeline: str,
        version: int,
        *,
        user: str,
        rights: Rights = WHOLE,
        expect_version: int | None = None,
        since: int | None = None,
    ) -> Version:
        """The new version.

        Raises NotFound, Forbidden, Conflict; InvalidDefinition: what it names is not there any more.
        """
        with told():
            async with self._repository.editing:
                old = await self._repository.get(scope, pipeline, version)
                if old.text is not None:
                    definition = await self._validate.right(scope, pipeline, old.text, rights)
                    _check_reach(definition, rights, user)
                return await self._repository.rollback(
                    scope,
                    pipeline,
                    version,
                    by=user,
                    at_ms=self._clock.now_us() // 1000,
                    expect_version=expect_version,
                    since=since,
                )


class DeletePipeline:
    """Takes pipelines away; their versions stay."""

    def __init__(self, *, repository: Repository, clock: Clock) -> None:
        self._repository = repository
        self._clock = clock

    async def delete(self, scope: str, pipeline: str, *, user: str, expect_version: int | None = None) -> Version:
        """The version that says so. Raises NotFound, Conflict."""
        with told():
            at_ms = self._clock.now_us() // 1000
            return await self._repository.delete(scope, pipeline, by=user, at_ms=at_ms, expect_version=expect_version)


class ShowPipelines:
    """Tells what pipelines and versions there are."""

    def __init__(self, *, repository: Repository, showcase: Showcase, definitions: Definitions) -> None:
        self._repository = repository
        self._definitions = definitions
        self._showcase = showcase

    def all(self, scope: str) -> Encoded[PipelineList]:
        """The live versions of a workspace, by name."""
        return self._showcase.listed(scope)

    async def get(self, scope: str, pipeline: str, version: int | None = None) -> PipelineInfo | Encoded[PipelineInfo]:
        """A version; the live one if none is named. Raises NotFound."""
        if version is None:
            encoded = self._showcase.encoded(scope, pipeline)
            if encoded is None:
                raise NotFound(f"there is no pipeline {pipeline!r} in {scope!r}")
            return encoded
        with told():
            found = await self._repository.get(scope, pipeline, version)
        if found.text is not None:
            with suppress(DocumentError):
                await self._definitions.soon(found.text)
        info = self._showcase.described(found)
        if info is None:
            raise NotFound(f"version {version} of {pipeline!r} is its deletion, or of another release")
        return info

    async def versions(self, scope: str, pipeline: str) -> list[PipelineVersion]:
        """All of them, the newest first. Raises NotFound."""
        with told():
            versions = await self._repository.versions(scope, pipeline)
        live = self._showcase.info(scope, pipeline)
        shadow = self._repository.shadow(scope, pipeline)
        shown, beside = live.version if live else None, shadow.version if shadow else None
        return [version_of(one, live=one.version == shown, shadow=one.version == beside) for one in versions]


def _lines(faults: Sequence[Fault]) -> str:
    lines = [str(one) for one in faults[:_TOLD_FAULTS]]
    more = [f"and {len(faults) - _TOLD_FAULTS} more"] if len(faults) > _TOLD_FAULTS else []
    return "\n".join([*lines, *more])
