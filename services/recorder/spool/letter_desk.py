"""Where those who look for dead letters are answered, and get them tried again or thrown away."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeVar

from contracts.v1.command import ErrorCode
from contracts.v1.dead_letter import (
    DISCARD_LETTERS,
    LIST_LETTERS,
    RETRY_LETTERS,
    DiscardLetters,
    Letter,
    LetterChoice,
    LettersDiscarded,
    LettersFound,
    LettersRetried,
    ListLetters,
    RetryLetters,
)
from services.recorder.database import Database
from services.recorder.spool.deadletters import Choice, DeadLetters, KeptLetter, counts
from services.recorder.spool.readmission import readmit
from services.recorder.spool.spool import Spool
from services.runtime.bus.bus import Bus, CommandFailed, Delivery
from services.runtime.desk import Desk
from services.runtime.gaps import Gaps
from services.runtime.logs import Log

CONTENT_BYTES = 1000
"""Of a message are shown; its detail and topic are cut to as many characters."""
SHORT = 300
"""Characters of detail and topic where the content is not asked for."""
MOST_WITH_CONTENT = 100
"""Letters of one answer with content: a reply holds 1 MiB."""

T = TypeVar("T")


class LetterDesk(Desk):
    """instance: the recorder's name, to which commands are sent.

    spool_bytes: while the spool holds more, nothing is put back.
    """

    name = "letter_desk"

    def __init__(
        self,
        *,
        bus: Bus,
        database: Database,
        letters: DeadLetters,
        spool: Spool,
        gaps: Gaps,
        site: str,
        instance: str,
        spool_bytes: int,
        log: Log,
    ) -> None:
        super().__init__()
        self._database = database
        self._letters = letters
        self._spool = spool
        self._gaps = gaps
        self._site = site
        self._spool_bytes = spool_bytes
        self._log = log
        self.services = (
            bus.serve(LIST_LETTERS, self._list, at_once=1, anew=True, id=instance),
            bus.serve(RETRY_LETTERS, self._retry, at_once=1, id=instance),
            bus.serve(DISCARD_LETTERS, self._discard, at_once=1, id=instance),
        )

    async def _list(self, command: Delivery[ListLetters]) -> LettersFound:
        asked = command.payload
        if asked.content and asked.limit > MOST_WITH_CONTENT:
            asked = asked.model_copy(update={"limit": MOST_WITH_CONTENT})

        def look(database: sqlite3.Connection) -> LettersFound:
            """In the file's thread."""
            found = self._letters.chosen(database, _choice(asked))
            return LettersFound(
                letters=[_shown(one, content=asked.content) for one in found],
                counts=counts(database),
                last=self._letters.last(database),
                next=_next(asked, found),
            )

        return await self._in_file(look)

    async def _retry(self, command: Delivery[RetryLetters]) -> LettersRetried:
        if self._spool.bytes >= self._spool_bytes:
            raise CommandFailed(ErrorCode.UNAVAILABLE, "the spool is full; retry once the history has caught up")
        async with self._spool.turn:
            found = await self._chosen(command.payload)
            # In a thread: letters may come to many MB.
            given = await asyncio.to_thread(readmit, found, self._spool.marks, self._gaps, site=self._site)
            if given.back:
                try:
                    await self._spool.commit(
                        given.admission, also=lambda database: self._letters.remove(database, given.back)
                    )
                except sqlite3.Error as error:
                    raise _disk_refuses(error) from error
                self._gaps.note(given.admission.marks)
        self._log.info("dead_letters_retried", retried=len(given.back), refused=given.refused)
        return LettersRetried(retried=len(given.back), refused=given.refused, next=_next(command.payload, found))

    async def _discard(self, command: Delivery[DiscardLetters]) -> LettersDiscarded:
        def work(database: sqlite3.Connection) -> list[KeptLetter]:
            """In the file's thread."""
            found = self._letters.chosen(database, _choice(command.payload))
            self._letters.throw_away(database, found)
            return found

        found = await self._in_file(work)
        self._log.info("dead_letters_discarded", discarded=len(found))
        return LettersDiscarded(discarded=len(found), next=_next(command.payload, found))

    async def _chosen(self, asked: LetterChoice) -> list[KeptLetter]:
        return await self._in_file(lambda database: self._letters.chosen(database, _choice(asked)))

    async def _in_file(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Raises CommandFailed."""
        try:
            return await self._database.transaction(work)
        except sqlite3.Error as error:
            raise _disk_refuses(error) from error


def _disk_refuses(error: sqlite3.Error) -> CommandFailed:
    return CommandFailed(ErrorCode.UNAVAILABLE, f"the recorder's disk refuses: {error}")


def _choice(asked: LetterChoice) -> Choice:
    return Choice(most=asked.limit, ids=asked.ids, reason=asked.reason, after=asked.after, to=asked.to)


def _next(asked: LetterChoice, found: Sequence[KeptLetter]) -> int | None:
    """Where the next answer goes on, if there may be more."""
    return found[-1].id if len(found) == asked.limit else None


def _shown(one: KeptLetter, *, content: bool) -> Letter:
    letter, most = one.letter, CONTENT_BYTES if content else SHORT
    return Letter(
        id=one.id,
        t=one.t,
        reason=letter.reason,
        detail=letter.detail[:most],
        topic=letter.topic[:most],
        bytes=len(letter.payload),
        content=letter.payload[:CONTENT_BYTES].decode(errors="replace") if content else None,
    )
