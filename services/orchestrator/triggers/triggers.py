"""What starts runs by itself: the triggers of all live, enabled pipelines."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import suppress

from contracts.v1.definition import Definition
from services.orchestrator.pipelines.repository import Repository
from services.orchestrator.pipelines.version import Name, UnknownPipeline, Version
from services.orchestrator.triggers.outfit import TriggerOutfit
from services.orchestrator.triggers.session import SessionTrigger
from services.orchestrator.triggers.trigger_set import TriggerSet
from services.runtime.sqlite_file import DatabaseError

AGAIN_S = 1.0
"""How soon what the disk or the broker refused is tried again."""


class Triggers:
    """Kept running by a supervisor; so are its timekeeper, its progress and its sessions.

    parse: a definition out of its text; raises ValueError.
    """

    name = "triggers"

    def __init__(self, *, repository: Repository, parse: Callable[[str], Definition], use: TriggerOutfit) -> None:
        self._repository = repository
        self._parse = parse
        self._use = use
        self._log = use.log
        self._sets: dict[Name, TriggerSet] = {}
        self._ended: dict[Name, dict[str, SessionTrigger]] = {}
        self._changed: set[Name] = set()
        self._unreadable: set[Name] = set()
        self._news = asyncio.Event()
        self._followed = asyncio.Event()
        repository.on_change(self._on_change)
        for part in (use.timekeeper, use.progress):
            use.supervisor.keep(part.name, part.run)

    async def run(self) -> None:
        """Follows the repository until cancelled; then nothing is started any more."""
        self._changed |= {version.name for version in self._repository.all()} | self._sets.keys()
        try:
            while True:
                self._news.clear()
                await self._follow()
                if self._changed:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(AGAIN_S):
                            await self._news.wait()
                else:
                    self._followed.set()
                    await self._news.wait()
        finally:
            for name in tuple(self._sets):
                await self._end(name, forget=set())

    async def settled(self) -> None:
        """Returns once all that is saved now is followed; the caller sets the deadline."""
        await self._followed.wait()
        for one in tuple(self._sets.values()):
            for session in one.sessions:
                await session.listening.wait()
        await self._use.bus.settled()

    def _on_change(self, version: Version) -> None:
        self._changed.add(version.name)
        self._followed.clear()
        self._news.set()

    async def _follow(self) -> None:
        """Brings the triggers of what has changed up to date; what fails stays to be done."""
        for name in tuple(self._changed):
            self._changed.discard(name)
            try:
                await self._renew(name)
            except (sqlite3.Error, DatabaseError) as error:
                self._log.error("triggers_not_made", pipeline=name[1], error=str(error))
                self._changed.add(name)
        wanted = {session.name for one in self._sets.values() for session in one.sessions}
        try:
            await self._use.sessions.end_others(wanted, undecided=self._changed | self._unreadable)
        except (sqlite3.Error, DatabaseError) as error:
            self._log.error("sessions_not_ended", error=str(error))
        if not self._changed and not self._unreadable:
            self._use.notes.forget_left()

    async def _renew(self, name: Name) -> None:
        self._unreadable.discard(name)
        known = self._sets.get(name)
        try:
            wanted = self._wanted(name)
        except ValueError as error:
            # Of another release: what waits for it is kept until a version comes that can be read.
            self._log.error("triggers_unusable", pipeline=name[1], error=str(error))
            self._unreadable.add(name)
            if known is not None:
                await self._end(name, forget=set())
            return
        if known is not None and wanted is not None and known.what == wanted.what:
            return
        if known is not None:
            await self._end(name, forget=known.keys - (wanted.keys if wanted else set()))
        before = self._ended.get(name, {})
        if wanted is not None:
            await wanted.make(before=before)
            self._sets[name] = wanted
        for session in before.values():
            if wanted is None or session.latest not in wanted.sessions:
                session.latest.give_up()
        self._ended.pop(name, None)

    async def _end(self, name: Name, *, forget: set[str]) -> None:
        """The runs of its sessions go on, and are looked after by those that may take their place."""
        known = self._sets.pop(name)
        sessions = {session.name: session for session in known.sessions}
        self._ended.setdefault(name, {}).update(sessions)
        await known.close(forget=forget)

    def _wanted(self, name: Name) -> TriggerSet | None:
        """The triggers that the pipeline should have, not made yet. Raises ValueError: it cannot be read."""
        try:
            version = self._repository.live(*name)
        except UnknownPipeline:
            return None
        definition = self._parse(version.text or "")
        if not definition.enabled or not definition.triggers:
            return None
        return TriggerSet(name, definition, use=self._use)
