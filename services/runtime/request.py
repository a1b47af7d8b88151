"""The asking side of commands: request and response over the bus (OASIS MQTT 5.0, 4.10)."""

import asyncio
import json
import math
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel

from contracts.codec import decode, encode
from contracts.v1.command import REPLY, Command, ErrorCode, Failure, Reply
from services.runtime.delivery import Delivery, Send
from services.runtime.subscription import Wanted

_UNANSWERED = "no answer within {:g} s: whether it was done is unknown"
P = TypeVar("P", bound=BaseModel)
R = TypeVar("R", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Generic[R]):
    """What came of a command, for who asked: its result, or the error that says why it was not done."""

    result: R | None = None
    error: Failure | None = None

    @property
    def ok(self) -> bool:
        """Whether it was done."""
        return self.error is None


class Requests:
    """Sends commands and waits for answers. subscribe: makes a subscription, now and at every later connection."""

    def __init__(
        self, *, site: str, client_id: str, send: Send, subscribe: Callable[[Wanted], Awaitable[None]]
    ) -> None:
        self._site = site
        self._client_id = client_id
        self._send = send
        self._subscribe = subscribe
        self._users: set[str] = set()
        self._turn = asyncio.Lock()
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
            return Outcome(error=Failure(code=ErrorCode.TIMEOUT, message=_UNANSWERED.format(timeout_s)))
        finally:
            del self._waiting[correlation]
        return _outcome(decode(Reply, delivery.payload, topic=delivery.topic), command, topic=delivery.topic)

    async def _listen(self, user: str, reply_topic: str) -> None:
        async with self._turn:  # nobody asks before the answers to this user are subscribed to
            if user not in self._users:
                self._users.add(user)
                await self._subscribe(Wanted(topic=REPLY, filter=reply_topic, taker=self._on_reply))

    def _on_reply(self, delivery: Delivery[bytes]) -> None:
        answer = self._waiting.get(delivery.correlation or b"")
        if answer is not None and not answer.done():  # else it comes too late, or a second time
            answer.set_result(delivery)


def _outcome(reply: Reply, command: Command[P, R], *, topic: str) -> Outcome[R]:
    """Raises ContractError on a reply that is no answer to this command."""
    if not reply.ok:
        unsaid = Failure(code=ErrorCode.INTERNAL, message="the answer says that it was not done, and not why")
        return Outcome(error=reply.error or unsaid)
    return Outcome(result=decode(command.result, json.dumps(reply.result).encode(), topic=topic))
