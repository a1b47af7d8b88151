"""Commands and their answers: request and response over the bus (OASIS MQTT 5.0, 4.10)."""

import asyncio
import json
import math
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from pydantic import BaseModel

from contracts.codec import ContractError, decode, encode
from contracts.v1.command import DEFAULT_DEADLINE_S, REPLY, Command, ErrorCode, Failure, Reply
from contracts.v1.message import Value
from plugins.api.clock import Clock
from services.runtime.answers import Answers, Key
from services.runtime.delivery import BusError, BusUnavailable, Delivery, PublishRefused
from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.subscription import Wanted
from services.runtime.throttle import Throttle

P = TypeVar("P", bound=BaseModel)
R = TypeVar("R", bound=BaseModel)

CONCURRENT_COMMANDS = 16
"""Commands of one subscription that are executed at the same time: one slow device shall not hold up the others."""


class Send(Protocol):
    """Publishes, as Link.send does."""

    def __call__(
        self,
        topic: str,
        data: bytes,
        *,
        kind: str,
        retain: bool,
        expiry_s: int | None = None,
        response_topic: str | None = None,
        correlation: bytes | None = None,
    ) -> Awaitable[None]:
        """See Link.send."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Generic[R]):
    """What came of a command, for who asked: its result, or the error that says why it was not done."""

    result: R | None = None
    error: Failure | None = None

    @property
    def ok(self) -> bool:
        """Whether it was done."""
        return self.error is None


class CommandFailed(Exception):
    """Raised by a command's handler: it was not done, and this is the answer."""

    def __init__(self, code: ErrorCode, message: str, *, detail: Mapping[str, Value] | None = None) -> None:
        super().__init__(message)
        self.failure = Failure(code=code, message=message, detail=dict(detail or {}))


def failed(code: ErrorCode, message: str) -> Reply:
    """The answer to a command that was not done."""
    return Reply(ok=False, error=Failure(code=code, message=message))


class Requests:
    """The asking side. subscribe: makes a subscription, now and at every later connection."""

    def __init__(
        self, *, site: str, client_id: str, send: Send, subscribe: Callable[[Wanted], Awaitable[None]]
    ) -> None:
        self._site = site
        self._client_id = client_id
        self._send = send
        self._subscribe = subscribe
        self._users: set[str] = set()
        self._waiting: dict[bytes, asyncio.Future[Delivery[bytes]]] = {}

    async def ask(
        self, command: Command[P, R], payload: P, *, timeout_s: float, user: str, **levels: str
    ) -> Outcome[R]:
        """See Bus.request."""
        name = command.build(site=self._site, user=user, **levels)
        data = encode(payload, topic=name)
        reply_topic = REPLY.build(site=self._site, user=user, client=self._client_id)
        correlation = uuid.uuid4().bytes
        answer: asyncio.Future[Delivery[bytes]] = asyncio.get_running_loop().create_future()
        self._waiting[correlation] = answer
        try:
            async with asyncio.timeout(timeout_s):
                await self._listen(user, reply_topic)
                await self._send(
                    name,
                    data,
                    kind=command.name,
                    retain=False,
                    expiry_s=max(1, math.ceil(timeout_s)),
                    response_topic=reply_topic,
                    correlation=correlation,
                )
                delivery = await answer
        except TimeoutError:
            return Outcome(error=Failure(code=ErrorCode.TIMEOUT, message=f"no answer within {timeout_s:g} s"))
        finally:
            del self._waiting[correlation]
        return _outcome(decode(Reply, delivery.payload, topic=delivery.topic), command, topic=delivery.topic)

    async def _listen(self, user: str, reply_topic: str) -> None:
        if user not in self._users:
            self._users.add(user)
            await self._subscribe(Wanted(topic=REPLY, filter=reply_topic, handler=self._on_reply, raw=True))

    async def _on_reply(self, delivery: Delivery[bytes]) -> None:
        answer = self._waiting.get(delivery.correlation or b"")
        if answer is not None and not answer.done():  # else it comes too late, or a second time
            answer.set_result(delivery)


class CommandServer(Generic[P, R]):
    """The executing side of one subscription to commands. handler: gives the result or raises CommandFailed."""

    def __init__(
        self,
        command: Command[P, R],
        handler: Callable[[Delivery[P]], Awaitable[R]],
        *,
        site: str,
        send: Send,
        metrics: Metrics,
        clock: Clock,
        log: Log,
    ) -> None:
        self._command = command
        self._handler = handler
        self._site = site
        self._send = send
        self._metrics = metrics
        self._clock = clock
        self._log = log
        self._throttles: defaultdict[str, Throttle] = defaultdict(Throttle)
        self._answers = Answers(on_evict=metrics.dropped.labels("bus.answers", "oldest").inc)

    def wanted(self, **levels: str) -> Wanted:
        """The subscription for the commands of these levels."""
        return Wanted(
            topic=self._command,
            filter=self._command.filter(site=self._site, **levels),
            handler=self.handle,
            raw=True,
            overflow="refuse",
            timeout_s=None,
            workers=CONCURRENT_COMMANDS,
            commands=True,
        )

    async def handle(self, command: Delivery[bytes]) -> None:
        """Executes a command once, by its deadline, and answers it."""
        if not command.payload:
            return  # a retained command was wiped
        if command.retained:
            await self._wipe(command)
        elif command.response_topic is None:
            await self._execute(command)  # from a tool without MQTT 5: nobody waits for the answer
        elif self._is_foreign(command):
            self._refuse(command, "foreign_response_topic")
        else:
            await self._execute_once(command, command.response_topic)

    async def _execute_once(self, command: Delivery[bytes], response_topic: str) -> None:
        key = (command.topic, response_topic, command.correlation or b"")
        if command.correlation is None or self._answers.begin(
            key, now_s=self._clock.monotonic(), deadline_s=self._deadline_s(command)
        ):
            await self._execute_and_answer(command, response_topic, key)
            return
        self._refuse(command, "duplicate")
        answer = self._answers.answer(key)
        if answer is not None:  # else the first is being executed and will be answered
            await self._answer(command, response_topic, answer)

    async def _execute_and_answer(self, command: Delivery[bytes], response_topic: str, key: Key) -> None:
        reply: Reply | None = failed(ErrorCode.INTERNAL, "the command crashed; the log says where")
        try:
            reply = await self._execute(command)
        except asyncio.CancelledError:
            reply = None
            raise
        finally:
            if reply is not None:
                data = self._encode(reply, response_topic)
                self._answers.finish(key, data)
                await self._answer(command, response_topic, data)

    async def _execute(self, command: Delivery[bytes]) -> Reply:
        left_s = self._deadline_s(command) - self._clock.monotonic()
        if left_s <= 0:
            self._refuse(command, "late")
            return failed(ErrorCode.TIMEOUT, "not done: its deadline had passed before it began")
        try:
            payload = decode(self._command.payload, command.payload, topic=command.topic)
        except ContractError as error:
            return failed(ErrorCode.INVALID, str(error))
        try:
            async with asyncio.timeout(left_s):
                result = await self._handler(replace(command, payload=payload))  # type: ignore[arg-type]
        except TimeoutError:
            return failed(ErrorCode.TIMEOUT, "not done by its deadline")
        except CommandFailed as error:
            return Reply(ok=False, error=error.failure)
        except BusError as error:
            return failed(ErrorCode.UNAVAILABLE, str(error))
        return Reply(ok=True, result=result.model_dump(mode="json"))

    def _deadline_s(self, command: Delivery[bytes]) -> float:
        return command.arrived_s + (DEFAULT_DEADLINE_S if command.expiry_s is None else command.expiry_s)

    def _is_foreign(self, command: Delivery[bytes]) -> bool:
        """The broker vouches for the user in the command's topic; an answer elsewhere would be read by someone else."""
        reply_levels = REPLY.parse(command.response_topic or "")
        return reply_levels is None or any(reply_levels[name] != command.levels[name] for name in ("site", "user"))

    async def _wipe(self, command: Delivery[bytes]) -> None:
        self._refuse(command, "retained")
        try:
            await self._send(command.topic, b"", kind=self._command.name, retain=True)
        except PublishRefused as error:
            self._log.error("retained_command_stays", error=str(error))

    async def _answer(self, command: Delivery[bytes], response_topic: str, data: bytes) -> None:
        try:
            await self._send(
                response_topic,
                data,
                kind=REPLY.name,
                retain=False,
                expiry_s=REPLY.expiry_s,
                correlation=command.correlation,
            )
        except (BusUnavailable, PublishRefused) as error:
            self._log.warning("answer_lost", topic=command.topic, error=str(error))

    def _encode(self, reply: Reply, topic: str) -> bytes:
        try:
            return encode(reply, topic=topic)
        except ContractError as error:
            return encode(failed(ErrorCode.INTERNAL, f"the answer cannot be sent: {error}"), topic=topic)

    def _refuse(self, command: Delivery[bytes], why: str) -> None:
        self._metrics.dropped.labels(f"bus.{self._command.name}", why).inc()
        if self._throttles[why].passes(self._clock.monotonic()):
            self._log.warning("command_refused", reason=why, topic=command.topic, response_topic=command.response_topic)


def _outcome(reply: Reply, command: Command[P, R], *, topic: str) -> Outcome[R]:
    """Raises ContractError on a reply that is no answer to this command."""
    if not reply.ok:
        unsaid = Failure(code=ErrorCode.INTERNAL, message="the answer says that it was not done, and not why")
        return Outcome(error=reply.error or unsaid)
    return Outcome(result=decode(command.result, json.dumps(reply.result).encode(), topic=topic))
