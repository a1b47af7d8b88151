"""Definitions in a folder are taken in at the start, each as soon as what it names is there."""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from contracts.v1.definition import revision
from plugins.api.clock import Clock
from plugins.api.document import DocumentError
from services.orchestrator.definition.catalogue import Catalogue
from services.orchestrator.pipelines.folder import Pipelines, load_pipelines, pipeline_paths, read_text
from services.orchestrator.pipelines.repository import Repository
from services.orchestrator.pipelines.surroundings import Surroundings
from services.orchestrator.pipelines.version import Draft, digest_of
from services.runtime.logs import Log

TAKEN_BY = "engineer"
"""In whose name a pipeline out of a folder writes."""
QUIET_S = 0.3
"""What other services say at their start comes in one go: so long after the last of it, the files are looked at."""
PATIENCE_S = 5.0
"""For so long it is not told that a file names something which is not there: services start at the same time."""


class TakingIn:
    """A child of a Supervisor: ends when every file was taken in, else looks again whenever something changes."""

    name = "taking_in"

    def __init__(
        self,
        *,
        folder: Path,
        scope: str,
        repository: Repository,
        surroundings: Surroundings,
        since: Callable[[str], int | None],
        clock: Clock,
        log: Log,
    ) -> None:
        """since: gives since when a name is its owner's, see Version.saver_since."""
        self._folder = folder
        self._scope = scope
        self._repository = repository
        self._surroundings = surroundings
        self._since = since
        self._clock = clock
        self._log = log
        self._told: set[str] = set()

    async def run(self) -> None:
        """Takes in what is right, and tells once what is not."""
        began = self._clock.monotonic()
        while True:
            await self._quiet()
            found = await self._look()
            if not found.faults:
                return
            if self._clock.monotonic() - began >= PATIENCE_S:
                self._tell(found)
            with suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_S):
                    await self._surroundings.changed.wait()

    async def _quiet(self) -> None:
        """Returns when nothing has changed for a while."""
        while True:
            self._surroundings.changed.clear()
            try:
                async with asyncio.timeout(QUIET_S):
                    await self._surroundings.changed.wait()
            except TimeoutError:
                return

    async def _look(self) -> Pipelines:
        """Of files that were taken in already what has become of them since is live, and checked with."""
        async with self._repository.editing:
            known = await self._repository.imported(self._scope)
            catalogue = self._surroundings.catalogue(self._scope)
            found = await asyncio.to_thread(_load, self._folder, known, catalogue)
            for name, definition in found.definitions.items():
                draft = Draft(scope=self._scope, pipeline=name, text=found.texts[name], rev=revision(definition))
                version = await self._repository.take_in(
                    draft, by=TAKEN_BY, at_ms=self._clock.now_us() // 1000, since=self._since(TAKEN_BY)
                )
                if version is not None:
                    self._log.info("pipeline_taken_in", pipeline=name, version=version.version)
        return found

    def _tell(self, found: Pipelines) -> None:
        for fault in map(str, found.faults):
            if fault not in self._told:
                self._told.add(fault)
                self._log.warning("pipeline_refused", fault=fault)


def _load(folder: Path, known: Collection[str], catalogue: Catalogue) -> Pipelines:
    """The files that have not been taken in yet. known: the digests of those that have."""
    return load_pipelines([path for path in pipeline_paths(folder) if not _is_known(path, known)], catalogue)


def _is_known(path: Path, known: Collection[str]) -> bool:
    try:
        return digest_of(read_text(path)) in known
    except DocumentError:
        return False
