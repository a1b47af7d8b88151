"""Where pipelines are kept: versions that are written once and never changed, in the orchestrator's database.

Every change is one more version: a save, a rollback (an old content anew), a deletion (a version without content).
"""

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import replace

from services.orchestrator.database import Database
from services.orchestrator.pipelines.version import (
    Change,
    Draft,
    Name,
    UnknownPipeline,
    Version,
    digest_of,
    read_history,
    read_latest,
    read_live,
    read_version,
    write_version,
)

MOST_VERSIONS = 1000
"""Versions that one answer lists."""


class Repository:
    """All pipelines; what is live is in memory. open() before anything else. Raises sqlite3.Error where it writes.

    editing: is held from the check of what is to be written until it is on disk and live, so that of two who are both
    right alone, and not together, the second is refused.
    """

    def __init__(self, *, database: Database) -> None:
        self._database = database
        self._live: dict[Name, Version] = {}
        self._shadows: dict[Name, Version] = {}
        self._listeners: list[Callable[[Version], None]] = []
        self.editing = asyncio.Lock()

    async def open(self) -> None:
        """Reads what is live."""
        for version in await self._database.transaction(read_latest):
            self._keep(version)

    def on_change(self, listener: Callable[[Version], None]) -> None:
        """`listener` is called in the event loop with each version once it is on disk, in their order."""
        self._listeners.append(listener)

    def live(self, scope: str, pipeline: str) -> Version:
        """The version that runs. Raises UnknownPipeline."""
        version = self._live.get((scope, pipeline))
        if version is None or version.text is None:
            raise UnknownPipeline(scope, pipeline)
        return version

    def shadow(self, scope: str, pipeline: str) -> Version | None:
        """The version that runs in the live one's shadow: the last one saved so since the live one was."""
        shadow, live = self._shadows.get((scope, pipeline)), self._live.get((scope, pipeline))
        return shadow if shadow and (live is None or shadow.version > live.version) else None

    def all(self, scope: str | None = None) -> list[Version]:
        """The live versions by scope and name; of one scope, or of all."""
        live = (version for version in self._live.values() if version.text is not None)
        return sorted((one for one in live if scope in {None, one.scope}), key=lambda one: one.name)

    async def get(self, scope: str, pipeline: str, version: int) -> Version:
        """Any version, live or not. Raises UnknownPipeline."""
        return await self._database.transaction(lambda database: read_version(database, scope, pipeline, version))

    async def versions(self, scope: str, pipeline: str) -> list[Version]:
        """The last versions, the newest first, at most MOST_VERSIONS, without their texts. Raises UnknownPipeline."""
        found = await self._database.transaction(
            lambda database: read_history(database, scope, pipeline, most=MOST_VERSIONS)
        )
        if not found:
            raise UnknownPipeline(scope, pipeline)
        return found

    async def save(
        self,
        draft: Draft,
        *,
        by: str,
        at_ms: int,
        expect_version: int | None = None,
        shadow: bool = False,
        since: int | None = None,
    ) -> Version:
        """The version as saved; the same text as the live one, by the same user, makes no new version.

        The same text by another user does: the pipeline writes in that user's name from then on.
        expect_version: the live version that the caller has seen; 0: there is none. since: see Version.saver_since.
        Raises VersionConflict.
        """

        def work(database: sqlite3.Connection) -> Change:
            """Raises VersionConflict."""
            last, live = read_live(database, draft.scope, draft.pipeline, expect_version=expect_version)
            same = live is not None and (live.text, live.saved_by, live.saver_since) == (draft.text, by, since)
            if live is not None and same and not shadow:
                return Change(live, new=False)
            version = draft.version(last + 1, by=by, at_ms=at_ms, origin="save", shadow=shadow, since=since)
            return write_version(database, version)

        return await self._write(work)

    async def rollback(
        self,
        scope: str,
        pipeline: str,
        version: int,
        *,
        by: str,
        at_ms: int,
        expect_version: int | None = None,
        since: int | None = None,
    ) -> Version:
        """A new version with the content of an old one. since: see Version.saver_since.

        The old one may have run as a shadow, or be of a pipeline that was deleted. Raises UnknownPipeline,
        VersionConflict.
        """

        def work(database: sqlite3.Connection) -> Change:
            """Raises UnknownPipeline, VersionConflict."""
            old = read_version(database, scope, pipeline, version)
            if old.text is None:
                raise UnknownPipeline(scope, pipeline, version)
            last, _ = read_live(database, scope, pipeline, expect_version=expect_version)
            draft = Draft(scope=scope, pipeline=pipeline, text=old.text, rev=old.rev)
            return write_version(database, draft.version(last + 1, by=by, at_ms=at_ms, origin="rollback", since=since))

        return await self._write(work)

    async def delete(
        self, scope: str, pipeline: str, *, by: str, at_ms: int, expect_version: int | None = None
    ) -> Version:
        """The pipeline is no more; its versions stay. Raises UnknownPipeline, VersionConflict."""

        def work(database: sqlite3.Connection) -> Change:
            """Raises UnknownPipeline, VersionConflict."""
            last, live = read_live(database, scope, pipeline, expect_version=expect_version)
            if live is None:
                raise UnknownPipeline(scope, pipeline)
            gone = replace(live, version=last + 1, text=None, saved_by=by, saved_at=at_ms, origin="delete")
            return write_version(database, gone)

        return await self._write(work)

    async def take_in(self, draft: Draft, *, by: str, at_ms: int, since: int | None = None) -> Version | None:
        """The new version of a file's content; None if there is nothing new.

        What was taken in once is not taken in again: a version that was saved since then stands, and so does a
        deletion, until the file changes; nor does a file take a pipeline with the same text from who saved it.
        """

        def work(database: sqlite3.Connection) -> Change | None:
            """None: this content was taken in before, or is live."""
            name = (draft.scope, draft.pipeline)
            digest = digest_of(draft.text)
            known = database.execute("SELECT digest FROM imported WHERE scope = ? AND pipeline = ?", name).fetchone()
            if known == (digest,):
                return None
            database.execute("INSERT OR REPLACE INTO imported VALUES (?, ?, ?)", (*name, digest))
            last, live = read_live(database, *name, expect_version=None)
            if live is not None and live.text == draft.text:
                return None
            return write_version(database, draft.version(last + 1, by=by, at_ms=at_ms, origin="import", since=since))

        change = await self._database.transaction(work, committed=self._teller())
        return change.version if change else None

    async def imported(self, scope: str) -> frozenset[str]:
        """The digests of the files that were last taken in."""
        rows = await self._database.transaction(
            lambda database: database.execute("SELECT digest FROM imported WHERE scope = ?", (scope,)).fetchall()
        )
        return frozenset(digest for (digest,) in rows)

    async def _write(self, work: Callable[[sqlite3.Connection], Change]) -> Version:
        """Ends with the transaction, cancelled or not: who holds the lock holds it until then."""
        writing = asyncio.ensure_future(self._database.transaction(work, committed=self._teller()))
        try:
            return (await asyncio.shield(writing)).version
        except asyncio.CancelledError:
            await asyncio.wait([writing])
            raise

    def _teller(self) -> Callable[[Change | None], None]:
        """Tells the loop of a commit, whether or not who asked for it still waits: a command may be past its
        deadline."""
        loop = asyncio.get_running_loop()

        def tell(change: Change | None) -> None:
            """Called in the database's thread, right after the commit."""
            if change is not None and change.new:
                loop.call_soon_threadsafe(self._tell, change.version)

        return tell

    def _keep(self, version: Version) -> None:
        (self._shadows if version.shadow else self._live)[version.name] = version

    def _tell(self, version: Version) -> None:
        self._keep(version)
        for listener in self._listeners:
            listener(version)
