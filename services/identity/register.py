"""The users of the site as they are: in their file, in the broker's files, in the policy, and in the ledger."""

import asyncio
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from contracts.v1.command import ErrorCode
from contracts.v1.policy import POLICY
from plugins.api.clock import Clock
from plugins.api.document import DocumentError, Fault
from services.identity.broker_files import write_broker_access
from services.identity.roster import UserRefused, Users, dated, fault_of_new_name, policy_of
from services.identity.user_file import users_of, users_text
from services.runtime.bus.bus import Bus
from services.runtime.event_log import EventLog
from services.runtime.logs import Log
from services.runtime.site_file import replace_file
from services.runtime.watch import Mark, Watch, marks

USER_AGGREGATE = "user"
BY_HAND = "file"
"""The cause of an event of whoever changed the file, by hand or while the service did not run."""
TOLD_FILE = "told.yaml"
MODE = 0o600

Change = Callable[[Users], Users]
"""Makes other users of those that there are. Raises UserRefused."""


class Register:
    """Follows the file of users and changes it; child of a supervisor.

    Of what follows from a change, the event is told first and noted last (told.yaml): after a kill in between it is
    told again, at the next start, with the cause `file`; no change goes untold.
    """

    name = "register"

    def __init__(
        self,
        *,
        site: str,
        file: Path,
        broker: Path,
        data: Path,
        look_s: float,
        taken: Collection[str],
        bus: Bus,
        events: EventLog,
        clock: Clock,
        log: Log,
    ) -> None:
        """file: of the users. broker: folder of the broker's files. data: where it is noted what has been told.

        taken: names of services and of their instances, which no new user may have.
        """
        self._site = site
        self._file = file
        self._broker = broker
        self._told_file = data / TOLD_FILE
        self._look_s = look_s
        self._taken = taken
        self._bus = bus
        self._events = events
        self._clock = clock
        self._log = log
        self._watch = Watch(self._marks, every_s=look_s)
        self._turn = asyncio.Lock()
        self._changes: set[asyncio.Task[None]] = set()
        self._users: Users | None = None
        self._told: Users = {}
        self._late = False
        self.problem: str | None = None
        """What is not well, for a person."""

    @property
    def users(self) -> Users:
        """As they are. Raises UserRefused if the file has never been read without a fault."""
        if self._users is None:
            raise UserRefused(ErrorCode.UNAVAILABLE, self.problem or "the file of users has not been read yet")
        return self._users

    async def run(self) -> None:
        """Takes up the file, and what changes in it, until it is cancelled; then finishes what has begun."""
        try:
            await self._watch.begin()
            self._told = await asyncio.to_thread(self._read_told)
            await self._look()
            while True:
                await self._changed()
                await self._look()
        finally:
            if self._changes:
                await asyncio.wait(self._changes)

    async def change(self, make: Change, *, user: str) -> Users:
        """Changes the users in all places. user: who asks. What has begun is finished, though nobody waits any more.

        Raises UserRefused.
        """
        changing = asyncio.create_task(self._change(make, user), name="register.change")
        self._changes.add(changing)
        changing.add_done_callback(self._on_end)
        await asyncio.shield(changing)
        return self.users

    async def _change(self, make: Change, user: str) -> None:
        async with self._turn:
            try:
                now = await asyncio.to_thread(self._read)  # what somebody has changed by hand is not written over
            except (DocumentError, OSError) as error:
                raise UserRefused(ErrorCode.CONFLICT, f"not done: {_first_line(error)}") from error
            if now != self._users:
                await self._take_up(now, cause=BY_HAND)
            users = make(now)
            try:
                await asyncio.to_thread(replace_file, self._file, users_text(users).encode(), mode=MODE)
            except OSError as error:
                raise UserRefused(ErrorCode.UNAVAILABLE, f"not done: {_reason(error)}") from error
            await self._take_up(users, user=user)
            if self._late:
                raise UserRefused(
                    ErrorCode.UNAVAILABLE, f"kept, but the broker does not know of it yet: {self.problem}"
                )

    async def _look(self) -> None:
        """Takes up the file as it is now; one with a fault changes nothing."""
        async with self._turn:
            try:
                users = await asyncio.to_thread(self._read)
            except (DocumentError, OSError) as error:
                self.problem = f"the file of users is not taken up: {_first_line(error)}"
                self._log.error("users_not_taken_up", error=str(error))
                return
            await self._take_up(users, cause=BY_HAND)

    def _read(self) -> Users:
        """Raises DocumentError, OSError."""
        before = self._told if self._users is None else self._users
        read = users_of(self._file.read_bytes(), source=str(self._file))
        users = dated(read, before=before, now_us=self._clock.now_us())
        faults = [
            Fault(str(self._file), 0, f"users.{name}", fault)
            for name in users.keys() - before.keys()
            if (fault := fault_of_new_name(name, taken=self._taken))
        ]
        if faults:
            raise DocumentError(faults)
        return users

    async def _take_up(self, users: Users, *, user: str | None = None, cause: str | None = None) -> None:
        for name, type_, data in _differences(self._told, users):
            self._events.tell(type_, aggregate=USER_AGGREGATE, id=name, user=user, cause=cause, data=data)
        if users != self._users:
            self._bus.retain(POLICY, policy_of(users, t_us=self._clock.now_us()))
        self._users = users
        try:
            await asyncio.to_thread(self._write_broker, users)
            self._late, self.problem = False, None
        except OSError as error:
            if not self._late:
                self._log.error("broker_files_not_written", error=str(error))
            self._late, self.problem = True, f"the broker's files are not written: {_reason(error)}"
        self._told = users
        try:
            await asyncio.to_thread(replace_file, self._told_file, users_text(users).encode(), mode=MODE)
        except OSError as error:
            self._log.error("told_users_not_noted", error=str(error))

    async def _changed(self) -> None:
        """Returns when the file may have changed, or, if the broker's files are to be tried again, after a moment."""
        if self._late:
            await asyncio.sleep(self._look_s)
        else:
            await self._watch.changed()

    def _on_end(self, changing: "asyncio.Task[None]") -> None:
        self._changes.discard(changing)
        if not changing.cancelled():
            changing.exception()  # told to who has asked, if he still waits

    def _write_broker(self, users: Users) -> None:
        for path in write_broker_access(self._broker, site=self._site, users=users):
            self._log.info("broker_file_written", path=str(path))

    def _read_told(self) -> Users:
        """What was told before; nothing at the first start, and where the note is broken: then all is told anew."""
        try:
            return users_of(self._told_file.read_bytes(), source=str(self._told_file))
        except (DocumentError, OSError):
            return {}

    def _marks(self) -> dict[Path, Mark]:
        return marks([self._file])


def _differences(before: Users, now: Users) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Name, event and its data of each user that differs. A password is never among them."""
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if new is None:
            yield name, "removed", {}
        elif old is None:
            yield name, "added", new.rights.model_dump(mode="json")
        else:
            if old.rights != new.rights:
                yield name, "rights.changed", new.rights.model_dump(mode="json")
            if old.password != new.password:
                yield name, "password.changed", {}


def _reason(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


def _first_line(error: DocumentError | OSError) -> str:
    return _reason(error) if isinstance(error, OSError) else str(error.faults[0])
