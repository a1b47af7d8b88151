"""The executing side of commands: each is executed once, in time, and answered to who asked."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Generic, TypeVar

from pydantic import BaseModel

from contracts.codec import MAX_BYTES, ContractError, decode
from contracts.v1.command import REPLY, Command, ErrorCode, Failure
from services.runtime.commands.answers import Answers, Key, KeyTaken, key_of
from services.runtime.commands.book import BookError, CommandBook
from services.runtime.commands.failure import CommandFailed, Denied, NotOurs, busy
from services.runtime.commands.refusals import DUPLICATE, Refusals
from services.runtime.commands.replies import Encoded, encode_done, encode_failed, encode_failure
from services.runtime.commands.serving import CONCURRENT_COMMANDS, Serving
from services.runtime.commands.sync import Keep
from services.runtime.mqtt.delivery import BusError, BusUnavailable, Delivery, PublishRefused
from services.runtime.mqtt.subscription import Wanted
from services.runtime.settings import Rate

P = TypeVar("P", bound=BaseModel)
R = TypeVar("R", bound=BaseModel)


class CommandServer(Generic[P, R]):
    """The executing side of one subscription to commands: each executed once, before its deadline, and answered.

    One that comes again within 10 minutes gets the same answer again; another one with the same correlation data is
    refused. A retained command is refused and wiped (from a tool without MQTT 5: executed once and wiped), and wiped
    unread if it was there before we subscribed; one that wants its answer sent to another user is refused, as is one
    whose sender may not ask for it, or asks too often (see Gate).
    handler: gives the result or raises CommandFailed, NotOurs; it is cancelled at the deadline. book: the commands are
    entered there before they are begun, and what has begun runs to its end: then the handler looks at the deadline
    itself.
    early: the handler does not wait until the entry is on the disk, unless that is stuck: a power cut right after may
    lose it, a kill does not. at_once: how many are executed at the same time. anew: the command asks and changes
    nothing: nothing is kept of it, and one that comes again is answered anew. rate: see Gate.spend.
    """

    def __init__(
        self,
        command: Command[P, R],
        handler: Callable[[Delivery[P]], Awaitable[R | Encoded[R]]],
        *,
        use: Serving,
        book: CommandBook | None = None,
        early: bool = False,
        at_once: int = CONCURRENT_COMMANDS,
        anew: bool = False,
        rate: Rate | None = None,
    ) -> None:
        self._command = command
        self._handler = handler
        self._site = use.site
        self._send = use.send
        self._clock = use.clock
        self._log = use.log
        self._gate = use.gate
        self._rate = rate
        self._refusals = Refusals(command, use=use)
        self._answers = Answers(on_evict=use.metrics.dropped.labels("bus.answers", "oldest").inc)
        self._book = book
        self._early = early
        self._at_once = at_once
        self._anew = anew

    def wanted(self, **levels: str) -> Wanted:
        """The subscription for the commands of these levels."""
        return Wanted(
            topic=self._command,
            filter=self._command.filter(site=self._site, **levels),
            handler=self.handle,
            refuser=self.refuse,
            raw=True,
            overflow="refuse",
            timeout_s=None,
            workers=self._at_once,
            sweep=self._command.filter(site=self._site),
        )

    async def handle(self, command: Delivery[bytes]) -> None:
        """Executes a command once, by its deadline, and answers it."""
        if command.retained and not command.payload:
            return  # a retained command was wiped
        if command.retained:
            await self._wipe(command)
            if command.planted or not _is_plain(command):
                return  # nobody knows how old it is; or its sender could have said what it asks for
        if command.response_topic is not None and self._is_foreign(command):
            self._refusals.note(command, "foreign_response_topic")
        else:
            await self._execute_once(command)

    async def refuse(self, command: Delivery[bytes]) -> None:
        """Tells who has most of the commands that wait here that this one of his was not done: there is no room."""
        if not (command.retained or self._knows(command) or self._is_foreign(command)):
            await self._fail(command, busy(command.levels["user"]))

    def left_over(self, **levels: str) -> list[Delivery[P]]:
        """The commands of these levels in the book that were begun in an earlier session and have no answer.

        Each is to be answered by settle().
        """
        left = []
        for command in self._book.left_over if self._book else ():
            named = self._command.parse(command.topic)
            if named is not None and {**named, **levels, "site": self._site} == named:
                with suppress(ContractError):  # then nothing was begun that could be unfinished
                    payload = decode(self._command.payload, command.payload, topic=command.topic)
                    left.append(replace(command, levels=named, payload=payload))  # type: ignore[arg-type]
        return left  # type: ignore[return-value]

    async def settle(self, command: Delivery[P], error: CommandFailed) -> None:
        """Answers a command that was left over."""
        if self._book is not None:
            data = encode_failure(error.failure, topic=command.topic)
            self._finish(key_of(command), data)
            await self._answer(command, data)

    async def _execute_once(self, command: Delivery[bytes]) -> None:
        if self._knows(command):
            await self._answer_repeated(command)
            return
        try:
            await self._gate.check(self._command, command)
            entry = command
            if self._book is not None and command.correlation is None:
                # So that it is found again in the book; it is never taken for another.
                entry = replace(command, correlation=uuid.uuid4().bytes)
            key = key_of(entry)
            payload = await self._read(command)
            kept = await self._begin(key, entry)
        except CommandFailed as error:
            if isinstance(error, Denied):
                self._refusals.note(command, error.why, told=str(error))
            await self._fail(command, error.failure)
        else:
            if kept is not None:
                await self._execute_and_answer(replace(command, payload=payload), key, kept)  # type: ignore[arg-type]
            else:
                await self._answer_again(command, key)

    async def _read(self, command: Delivery[bytes]) -> P:
        """What is asked for, if it is not asked too often or for somebody else. Raises CommandFailed."""
        self._gate.spend(self._command, command.levels["user"], rate=self._rate)
        most = MAX_BYTES if self._book is None else self._book.most_command_bytes
        try:
            payload = decode(self._command.payload, command.payload, topic=command.topic, max_bytes=most)
        except ContractError as error:
            raise CommandFailed(ErrorCode.INVALID, str(error)) from error
        named = getattr(payload, "on_behalf_of", None)
        if named is not None:
            await self._gate.check_behalf(self._command, command, named)
        return payload

    def _knows(self, command: Delivery[bytes]) -> bool:
        """Whether it comes again; without correlation data nobody can tell."""
        known = self._book or self._answers
        return command.correlation is not None and known.knows(key_of(command), self._clock.monotonic())

    async def _answer_repeated(self, command: Delivery[bytes]) -> None:
        """Before his rights are looked at: it was begun when he had them, and `forbidden` would say that it was not.

        It costs what a new one does. Who has nothing left hears nothing, for the same reason.
        """
        try:
            self._gate.spend(self._command, command.levels["user"], rate=self._rate)
        except Denied:
            self._refusals.note(command, "repeated_too_often")
        else:
            await self._answer_again(command, key_of(command))

    async def _answer_again(self, command: Delivery[bytes], key: Key) -> None:
        try:
            answer = (self._book or self._answers).answer(key, command.payload)
        except KeyTaken:
            self._refusals.note(command, "correlation_taken")
            message = "not done: its correlation data are those of another command; give each command its own"
            await self._fail(command, Failure(code=ErrorCode.CONFLICT, message=message))
            return
        self._refusals.note(command, DUPLICATE)
        if answer is not None:  # else the first is being executed and will be answered
            await self._answer(command, answer)

    async def _fail(self, command: Delivery[bytes], failure: Failure) -> None:
        await self._answer(command, encode_failure(failure, topic=command.topic))

    async def _begin(self, key: Key, command: Delivery[bytes]) -> Keep | None:
        """None if the command is known, else what brings it to the disk (see CommandBook). Raises CommandFailed."""
        if self._book is not None:
            try:
                return await self._book.begin(key, command, early=self._early)
            except BookError as error:
                raise _unkept(error) from error
        if self._anew:
            return _unwritten
        now_s = self._clock.monotonic()
        known = command.correlation is not None and not self._answers.begin(
            key, command.payload, now_s=now_s, deadline_s=command.deadline_s
        )
        return None if known else _unwritten

    def _finish(self, key: Key, answer: bytes) -> None:
        try:
            (self._book or self._answers).finish(key, answer)
        except BookError as error:  # it has been done: who asked must hear of it all the same
            self._log.error("answer_not_kept", error=str(error))

    async def _execute_and_answer(self, command: Delivery[P], key: Key, keep: Keep) -> None:
        data, crashed = None, True
        try:
            data = await self._execute(command, keep)
            crashed = False
        except asyncio.CancelledError:
            crashed = False
            raise
        finally:
            if crashed:
                data = encode_failed(ErrorCode.INTERNAL, "the command crashed; the log says where", topic=command.topic)
            if data is not None:
                self._finish(key, data)  # before anybody can have heard it: whoever asks again hears the same
                await self._answer(command, data)

    async def _execute(self, command: Delivery[P], keep: Keep) -> bytes | None:
        """The answer; None if it is another's to answer."""
        topic = command.topic
        left_s = command.deadline_s - self._clock.monotonic()
        if left_s <= 0:
            self._refusals.note(command, "late")
            return encode_failed(ErrorCode.TIMEOUT, "not done: its deadline had passed before it began", topic=topic)
        try:
            async with asyncio.timeout(None if self._book else left_s):
                await _on_disk(keep)
                result = await self._handler(command)
        except NotOurs:
            return None
        except TimeoutError:
            return encode_failed(ErrorCode.TIMEOUT, "not done by its deadline", topic=topic)
        except CommandFailed as error:
            if isinstance(error, Denied):
                self._refusals.note(command, error.why, told=str(error))
            return encode_failure(error.failure, topic=topic)
        except BusError as error:
            return encode_failed(ErrorCode.UNAVAILABLE, str(error), topic=topic)
        return encode_done(result, topic=topic)

    def _is_foreign(self, command: Delivery[bytes]) -> bool:
        """The broker vouches for the user in the command's topic; an answer elsewhere would be read by someone else."""
        reply_levels = REPLY.parse(command.response_topic or "")
        return reply_levels is None or any(reply_levels[name] != command.levels[name] for name in ("site", "user"))

    async def _wipe(self, command: Delivery[bytes]) -> None:
        why = "planted" if command.planted else "retained_by_plain_tool" if _is_plain(command) else "retained"
        self._refusals.note(command, why)
        try:
            await self._send(command.topic, b"", kind=self._command.name, retain=True)
        except PublishRefused as error:
            self._log.error("retained_command_stays", error=str(error))

    async def _answer(self, command: Delivery[P] | Delivery[bytes], data: bytes) -> None:
        if command.response_topic is None:
            return  # from a tool without MQTT 5: nobody waits for the answer
        try:
            await self._send(
                command.response_topic,
                data,
                kind=REPLY.name,
                retain=False,
                expiry_s=REPLY.expiry_s,
                correlation=command.correlation,
            )
        except (BusUnavailable, PublishRefused) as error:
            self._log.warning("answer_lost", topic=command.topic, error=str(error))


async def _unwritten() -> None:
    """Of a command that is in no book."""


async def _on_disk(keep: Keep) -> None:
    """Raises CommandFailed."""
    try:
        await keep()
    except BookError as error:
        raise _unkept(error) from error


def _unkept(error: BookError) -> CommandFailed:
    return CommandFailed(ErrorCode.UNAVAILABLE, f"not done: it cannot be kept: {error}")


def _is_plain(command: Delivery[bytes]) -> bool:
    """Whether it may be from a tool without MQTT 5, which cannot say for how long its message is meant."""
    return command.response_topic is None and command.correlation is None and command.expiry_s is None
