"""Where questions about the stored events are answered."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from pydantic import ValidationError

from contracts.policy import missing_of_events
from contracts.v1.command import Command, ErrorCode
from contracts.v1.event_chain import VERIFY_EVENTS, ChainCheck, VerifyEvents
from contracts.v1.event_state import REPLAY_EVENTS, AggregateState, ReplayEvents
from contracts.v1.event_store import (
    AUDIT_EVENTS,
    READ_EVENTS,
    AggregateEvents,
    AuditEvents,
    FoundEvents,
    ReadEvents,
)
from services.recorder.database import Database
from services.recorder.events import snapshot
from services.recorder.events.archive import EventArchive
from services.recorder.events.reading import NothingStored, TooLong
from services.recorder.events.replay import EventReplay
from services.recorder.events.verification import EventVerifier
from services.runtime.bus.bus import Bus, CommandFailed, Delivery, Denied
from services.runtime.desk import Desk
from services.runtime.logs import Log

AT_ONCE = 4
"""Questions that are looked up at the same time, of each verb."""

P = TypeVar("P")
R = TypeVar("R")


class EventDesk(Desk):
    """instance: the recorder's name, to which commands are sent.

    database: keeps the snapshots that were made for an answer.
    It looks in threads of its own. A search goes on when nobody waits for it any more: in those that all share, such
    ones would soon keep the writer of the history waiting.
    """

    name = "event_desk"

    def __init__(
        self,
        *,
        bus: Bus,
        archive: EventArchive,
        replay: EventReplay,
        verifier: EventVerifier,
        database: Database,
        instance: str,
        log: Log,
    ) -> None:
        super().__init__()
        self._bus = bus
        self._archive = archive
        self._replayer = replay
        self._verifier = verifier
        self._database = database
        self._log = log
        self._reading = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="event_read")
        self._auditing = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="event_audit")
        # One thread each: they keep a processor busy, which values that come in need too.
        self._replaying = ThreadPoolExecutor(1, thread_name_prefix="event_replay")
        self._verifying = ThreadPoolExecutor(1, thread_name_prefix="event_verify")
        self.threads = (self._reading, self._auditing, self._replaying, self._verifying)
        self.services = (
            bus.serve(READ_EVENTS, self._read, at_once=AT_ONCE, anew=True, id=instance),
            bus.serve(AUDIT_EVENTS, self._audit, at_once=AT_ONCE, anew=True, id=instance),
            bus.serve(REPLAY_EVENTS, self._replay, at_once=1, anew=True, id=instance),
            bus.serve(VERIFY_EVENTS, self._verify, at_once=1, anew=True, id=instance),
        )

    async def _read(self, command: Delivery[ReadEvents]) -> AggregateEvents:
        self._check(READ_EVENTS, command)
        return await _looked_up(self._archive.read, command.payload, self._reading)

    async def _audit(self, command: Delivery[AuditEvents]) -> FoundEvents:
        rights = self._bus.gate.rights(AUDIT_EVENTS, command.levels["user"])
        return await _looked_up(partial(self._archive.audit, rights=rights), command.payload, self._auditing)

    async def _replay(self, command: Delivery[ReplayEvents]) -> AggregateState:
        self._check(REPLAY_EVENTS, command)
        found = await _looked_up(self._replayer.replay, command.payload, self._replaying)
        if found.made:
            try:
                await self._database.transaction(lambda database: snapshot.keep(database, found.made))
            except sqlite3.Error as error:
                self._log.warning("snapshot_not_kept", error=str(error))  # the next answer takes as long
        if found.shown is None:
            message = f"gone through up to version {found.version} so far; ask again, it goes on from there"
            raise CommandFailed(ErrorCode.TIMEOUT, message)
        return found.shown

    def _check(self, command: Command[Any, Any], asked: Delivery[ReadEvents] | Delivery[ReplayEvents]) -> None:
        """Raises Denied: the aggregate is in none of the user's workspaces, or is none of his devices."""
        user, about = asked.levels["user"], asked.payload
        rights = self._bus.gate.rights(command, user)
        told = missing_of_events(rights, about.scope, about.aggregate, about.aggregate_id)
        if told is not None:
            raise Denied(f"{user} {told}")

    async def _verify(self, command: Delivery[VerifyEvents]) -> ChainCheck:
        return await _looked_up(self._verifier.verify, command.payload, self._verifying)


async def _looked_up(look: Callable[[P], R], asked: P, threads: ThreadPoolExecutor) -> R:
    """A page may take a while. Raises CommandFailed."""
    try:
        return await asyncio.get_running_loop().run_in_executor(threads, look, asked)
    except NothingStored as error:
        raise CommandFailed(ErrorCode.NOT_FOUND, str(error)) from error
    except TooLong as error:
        raise CommandFailed(ErrorCode.TIMEOUT, str(error)) from error
    except sqlite3.Error as error:
        raise CommandFailed(ErrorCode.UNAVAILABLE, f"the recorder's disk refuses: {error}") from error
    except OverflowError as error:
        raise CommandFailed(ErrorCode.INVALID, f"a number is beyond all that can be stored: {error}") from error
    except (ValueError, TypeError, AttributeError) as error:
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        message = f"a row is not what was stored: {why}; see `dinrail events verify`"
        raise CommandFailed(ErrorCode.UNAVAILABLE, message) from error
