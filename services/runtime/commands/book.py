"""The book of commands that must not be repeated: entered before they are begun, with their answers after.

What a killed process had begun stands there without an answer: the next one finds it and says that the outcome is
unknown, and a command that comes again is known again. Over a power cut that holds for what has reached the disk:
whoever must not begin before waits for it (contracts/decisions/0009).
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from contracts.v1.command import DEFAULT_DEADLINE_S
from plugins.api.clock import Clock
from services.runtime.commands.answers import KEEP_S, Answers, Key
from services.runtime.commands.page import Kind, Page, Record, pack_command, read_page
from services.runtime.commands.shelf import Begun, Found, Shelf
from services.runtime.commands.sync import Keep, Syncs
from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.mqtt.delivery import Delivery

T = TypeVar("T")

MOST = 100_000
"""Commands that are known; beyond it the oldest answered ones go, before their time."""
MOST_KEPT_BYTES = 1 << 16
"""How long a command may be that is entered: what it asks for stands in the ledger several times."""
_MOST_BYTES = 64 << 20
_MOST_PAGES = 64
_LONGEST_KEEP_S = 0xFFFF_FFFF
_MEND = "commands that change something are refused until it can be opened"


class BookError(Exception):
    """The book cannot be opened, or the disk does not take the entry."""


class CommandBook:
    """One process's commands: known in memory, kept in pages in a folder. A Part: a sink, to be stopped late.

    Times on the disk would be wrong as soon as the clock is set: what a process finds is known for its whole time anew.
    """

    def __init__(
        self,
        folder: Path,
        *,
        clock: Clock,
        metrics: Metrics,
        log: Log,
        most: int = MOST,
        keep_s: float = KEEP_S,
        most_command_bytes: int = MOST_KEPT_BYTES,
        synced: bool = True,
    ) -> None:
        """Opens the folder, made if there is none. While it cannot be opened every entry is tried anew, and refused.

        keep_s: how long a command is known, if it does not expire later. most_command_bytes: longer commands are not
        for it. synced: False never syncs: a SIGKILL loses no entry, a power cut those of the last seconds.
        """
        self.name, self._folder = folder.name, folder
        self.most_command_bytes = most_command_bytes
        self._synced = synced
        self._log, self._clock = log, clock
        self._least_keep_s = keep_s
        self._shelf = Shelf(folder, log=log)
        self._answers = Answers(
            on_evict=metrics.dropped.labels(f"{self.name}.book", "oldest").inc,
            most=most,
            most_bytes=_MOST_BYTES,
            keep_s=keep_s,
        )
        self._stopping, self._opening = asyncio.Event(), asyncio.Lock()
        self._opened = False
        # Threads sync, make pages and remove them, so that the event loop never waits for the disk.
        self._syncs = Syncs(clock.monotonic)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="commands")
        self._pages: list[Page] = []
        self._page: Page | None = None
        self._next_page: Future[Page] | None = None
        self._number, self._until_s = 0, 0.0
        self._begun: dict[Key, Begun] = {}
        self._left_over: dict[Key, Delivery[bytes]] = {}
        try:
            self._take_over(*self._shelf.open())
        except OSError as error:  # no reason not to poll
            log.warning("book_not_open", path=str(folder), error=str(error), mend=_MEND)

    @property
    def left_over(self) -> Sequence[Delivery[bytes]]:
        """What an earlier process had begun and nobody has answered yet, oldest first."""
        return list(self._left_over.values())

    @property
    def answered(self) -> Sequence[tuple[Key, bytes]]:
        """What is known with its answer, oldest first."""
        return self._answers.answered

    async def begin(self, key: Key, command: Delivery[bytes], *, early: bool = False) -> Keep | None:
        """None if the command is known. Else it is entered: from now on a SIGKILL does not lose it.

        It may be begun when what is given returns: it is then on the disk; early: it soon is, unless the disk is stuck.
        Raises BookError, as what is given does: it is then as if never sent, in that case once it is told to finish().
        """
        page = self._page or await self._reopen()
        keep_s = self._keep_s(command)
        now_s = self._clock.monotonic()
        if key in self._begun:
            return None  # for longer than commands are known
        if not self._answers.begin(key, command.payload, now_s=now_s, deadline_s=now_s + keep_s):
            return None
        page = self._turn(page)
        self._number += 1
        begun = self._begun[key] = Begun(self._number, page)
        try:
            self._write(page, Record(Kind.BEGUN, self._number, pack_command(command, keep_s)), now_s + keep_s)
        except OSError as error:
            self._withdraw(key, begun)
            self._answers.forget(key)
            raise self._failed(error) from error
        return partial(self._keep, key, begun, early)

    async def _keep(self, key: Key, begun: Begun, early: bool) -> None:
        """See begin()."""
        waits = self._synced and (not early or self._syncs.stuck)
        if waits and (error := await self._syncs.now(begun.page)) is not None:
            self._withdraw(key, begun)
            raise self._failed(error) from error

    def _on_lost(self, page: Page, error: OSError) -> None:
        """What is begun goes on, and is known until this process ends; what comes next is entered on another page."""
        self._log.error("book_not_synced", path=str(page.path), error=str(error))
        if self._page is page:
            self._page = None

    def knows(self, key: Key, now_s: float) -> bool:
        """Whether a command was entered under it, and is to be known still. now_s: monotonic."""
        return key in self._begun or self._answers.knows(key, now_s)

    def answer(self, key: Key, payload: bytes) -> bytes | None:
        """Its answer; None while there is none. Raises KeyTaken."""
        return self._answers.answer(key, payload)

    def finish(self, key: Key, answer: bytes) -> None:
        """This is the command's answer. A SIGKILL does not lose it; a power cut right after leaves it without one.

        Raises BookError: it is then known until this process ends.
        """
        self._left_over.pop(key, None)
        begun = self._begun.pop(key, None)
        if begun is None:  # withdrawn; known until now, lest it is begun anew while the first is still under way
            self._answers.forget(key)
            return
        self._answers.finish(key, answer)
        try:
            self._write(self._page or begun.page, Record(Kind.ANSWERED, begun.number, answer), self._until_s)
        except OSError as error:
            raise self._failed(error) from error

    async def run(self) -> None:
        """Until stop(); then the files are closed."""
        try:
            await self._stopping.wait()
        finally:
            self.close()

    async def stop(self) -> None:
        """Ends run()."""
        self._stopping.set()

    def close(self) -> None:
        """Closes the files once what was asked for has been done. Idempotent."""
        for lost, error in self._syncs.close():
            self._on_lost(lost, error)
        self._thread.shutdown()
        if self._next_page is not None:
            with suppress(OSError):
                self._next_page.result().close()
        for page in self._pages:
            page.close()

    def _keep_s(self, command: Delivery[bytes]) -> int:
        expiry_s = DEFAULT_DEADLINE_S if command.expiry_s is None else command.expiry_s
        return min(int(max(self._least_keep_s, expiry_s)), _LONGEST_KEEP_S)

    def _write(self, page: Page, record: Record, until_s: float) -> None:
        """Raises OSError."""
        # Of what came later too: an answer must not be forgotten before the entry that it belongs to.
        self._until_s = page.until_s = max(self._until_s, until_s)
        page.write(record)
        if self._synced:
            self._syncs.soon(page, self._on_lost)

    def _withdraw(self, key: Key, begun: Begun) -> None:
        """It could not be kept, and is not begun: the next process need not ask itself."""
        if self._begun.get(key) == begun:  # else it was refused before it was on the disk
            del self._begun[key]
            with suppress(OSError):
                begun.page.write(Record(Kind.WITHDRAWN, begun.number, b""))
        if self._page is begun.page:
            self._page = None  # what it takes after a failed sync may be lost

    def _failed(self, error: OSError) -> BookError:
        return BookError(f"{self._folder.name}: {error.strerror or error}")

    def _turn(self, page: Page) -> Page:
        """The page to write on: the next one as soon as it is there and wanted. What is past its time is removed."""
        if not page.filling:
            return page
        if self._next_page is None:
            self._next_page = self._thread.submit(self._shelf.make_page)
        if not self._next_page.done() or not page.full:
            return page
        made, self._next_page = self._next_page, None
        if made.exception() is not None:
            return page  # which may find room for a few more; the next is tried again
        return self._use(made.result())

    def _remove_old(self, page: Page) -> None:
        """Pages past their time with no command that is not answered yet, and the oldest of too many."""
        now_s = self._clock.monotonic()
        while len(self._pages) > 1:
            oldest = self._pages[0]
            unanswered = {begun.number: key for key, begun in self._begun.items() if begun.page is oldest}
            if len(self._pages) <= _MOST_PAGES and (unanswered or oldest.until_s >= now_s):
                return
            try:
                self._carry_over(oldest, unanswered, page)
            except OSError:
                return  # it stays until the next page is there
            self._pages.pop(0)
            if unanswered:
                self._syncs.ask(page, partial(_remove, oldest))
            else:
                self._thread.submit(_remove, oldest)

    def _carry_over(self, old: Page, unanswered: Mapping[int, Key], page: Page) -> None:
        """A command without an answer for long holds no page, and with it all later ones. Raises OSError."""
        for record in read_page(old.path).records if unanswered else ():
            key = unanswered.get(record.number)
            if key is not None and record.kind == Kind.BEGUN:
                page.write(record)
                page.until_s = max(page.until_s, old.until_s)
                self._begun[key] = Begun(record.number, page)

    async def _reopen(self) -> Page:
        """Raises BookError."""
        async with self._opening:
            if self._page is not None:
                return self._page
            try:
                if not self._opened:
                    return self._take_over(*await self._in_thread(self._shelf.open))
                # The next page, if it is on its way, before one behind it: later commands stand on later pages.
                made, self._next_page = self._next_page, None
                return self._use(await self._in_thread(made.result if made else self._shelf.make_page))
            except OSError as error:
                raise self._failed(error) from error

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _take_over(self, found: Found, page: Page) -> Page:
        now_s = self._clock.monotonic()
        self._number = found.last
        for key, (begun, command, keep_s) in found.commands.items():
            end = found.ends.get(begun.number)
            if end is not None and end.kind == Kind.WITHDRAWN:
                continue
            self._until_s = max(self._until_s, now_s + keep_s)
            self._answers.begin(key, command.payload, now_s=now_s, deadline_s=now_s + keep_s)
            if end is not None:
                self._answers.finish(key, end.body)
            else:
                self._begun[key] = begun
                self._left_over[key] = command
        for old in found.pages:
            old.until_s = self._until_s
        self._pages += found.pages
        self._opened = True
        return self._use(page)

    def _use(self, page: Page) -> Page:
        self._page = page
        self._pages.append(page)
        self._remove_old(page)
        return page


def _remove(page: Page, error: OSError | None = None) -> None:
    """error: what was carried over from it is not on the disk, so its file stays."""
    page.close()
    with suppress(OSError):  # then it is read once more by the next process
        if error is None:
            page.path.unlink()
