"""The asking side of commands: request and response over the bus (OASIS MQTT 5.0, 4.10)."""

import asyncio
import math
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Generic, TypeVar, cast

from pydantic import BaseModel, create_model

from contracts.codec import ContractError, decode, encode
from contracts.topic import Topic
from contracts.v1.command import REPLY, Command, ErrorCode, Failure, Reply
from services.runtime.mqtt.delivery import Delivery, Send
from services.runtime.mqtt.subscription import Wanted

MOST_REPLIES = 16
_UNANSWERED = "no answer within {:g} s: whether it was done is unknown"
P = TypeVar("P", bound=BaseModel)
R = TypeVar("R", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Generic[R]):
    """What came of a command, for who asked: its result, or the error that says why it was not done.

    answered: by a service; else `error` is our own.
    """

    result: R | None = None
    error: Failure | None = None
    answered: bool = True

    @property
    def ok(self) -> bool:
        """Whether it was done."""
        return self.error is None


class Conversation:
    """The replies to one message, in the order in which they come; beyond MOST_REPLIES at once the rest is lost."""

    def __init__(self) -> None:
        self._replies: asyncio.Queue[Delivery[bytes]] = asyncio.Queue(MOST_REPLIES)

    def take(self, delivery: Delivery[bytes]) -> None:
        """A reply has come."""
        with suppress(asyncio.QueueFull):
            self._replies.put_nowait(delivery)

    async def next(self) -> Reply:
        """The next reply; waits for one. Raises ContractError."""
        delivery = await self._replies.get()
        return decode(Reply, delivery.payload, topic=delivery.topic)


class Requests:
    """Sends commands and waits for answers. subscribe: makes a subscription, now and at every later connection."""

    def __init__(
        self, *, site: str, client_id: str, send: Send, subscribe: Callable[[Wanted], Awaitable[None]]
    ) -> None:
        self._site = site
        self._client_id = client_id
        self._send = send
        self._subscribe = subscribe
        self._reply_topics: dict[str, str] = {}
        self._turn = asyncio.Lock()
        self._waiting: dict[bytes, Callable[[Delivery[bytes]], None]] = {}

    async def ask(
        self, command: Command[P, R], payload: P, *, timeout_s: float, user: str, **levels: str
    ) -> Outcome[R]:
        """See Bus.request."""
        name = command.build(site=self._site, user=user, **levels)
        data = encode(payload, topic=name)
        correlation = uuid.uuid4().bytes
        answer: asyncio.Future[Delivery[bytes]] = asyncio.get_running_loop().create_future()
        self._waiting[correlation] = partial(_settle, answer)
        try:
            async with asyncio.timeout(timeout_s):
                reply_topic = self._reply_topics.get(user) or await self._listen(user)
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
            return Outcome(error=Failure(code=ErrorCode.TIMEOUT, message=_UNANSWERED.format(timeout_s)), answered=False)
        finally:
            del self._waiting[correlation]
        return _outcome(command, delivery)

    @asynccontextmanager
    async def converse(
        self, topic: Topic[P], payload: P, *, user: str, expiry_s: int, **levels: str
    ) -> AsyncIterator[Conversation]:
        """See Exchange.converse."""
        name = topic.build(site=self._site, **levels)
        data = encode(payload, topic=name)
        correlation = uuid.uuid4().bytes
        conversation = Conversation()
        self._waiting[correlation] = conversation.take
        try:
            await self._send(
                name,
                data,
                kind=topic.name,
                retain=False,
                expiry_s=expiry_s,
                response_topic=self._reply_topics.get(user) or await self._listen(user),
                correlation=correlation,
                to_somebody=True,
            )
            yield conversation
        finally:
            del self._waiting[correlation]

    async def _listen(self, user: str) -> str:
        """Where the answers to this user go, once they are subscribed to; nobody asks before."""
        async with self._turn:
            if user not in self._reply_topics:
                topic = REPLY.build(site=self._site, user=user, client=self._client_id)
                try:
                    await self._subscribe(Wanted(topic=REPLY, filter=topic, taker=self._on_reply))
                finally:
                    self._reply_topics[user] = topic  # else it is the subscriptions' to try again
            return self._reply_topics[user]

    def _on_reply(self, delivery: Delivery[bytes]) -> None:
        take = self._waiting.get(delivery.correlation or b"")
        if take is not None:  # else it comes too late
            take(delivery)


def _settle(answer: asyncio.Future[Delivery[bytes]], delivery: Delivery[bytes]) -> None:
    if not answer.done():  # else it comes a second time
        answer.set_result(delivery)


def _outcome(command: Command[P, R], delivery: Delivery[bytes]) -> Outcome[R]:
    """Raises ContractError on a reply that is no answer to this command."""
    reply = decode(_reply_of(command.result), delivery.payload, topic=delivery.topic)
    if not reply.ok:
        unsaid = Failure(code=ErrorCode.INTERNAL, message="the answer says that it was not done, and not why")
        return Outcome(error=reply.error or unsaid)
    if reply.result is None:
        raise ContractError(f"{delivery.topic}: $.result: the answer says that it was done, and has no result")
    return Outcome(result=cast("R", reply.result))


@cache
def _reply_of(result: type[BaseModel]) -> type[Reply]:
    """The contract of the replies to one verb: its result is read along with the rest, not a second time."""
    kind: Any = result | None
    return create_model(f"{result.__name__}Reply", __base__=Reply, result=(kind, None))
