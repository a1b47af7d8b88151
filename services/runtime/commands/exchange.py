"""Messages that one of several services takes, and answers more than once: how tasks travel."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel

from contracts.codec import encode
from contracts.topic import Topic
from contracts.v1.command import REPLY, Reply
from services.runtime.commands.request import Conversation, Requests
from services.runtime.mqtt.delivery import Delivery, Login, Send
from services.runtime.mqtt.subscription import Wanted
from services.runtime.mqtt.subscriptions import EndOfSubscription, Subscriptions

P = TypeVar("P", bound=BaseModel)


class Exchange:
    """Of a bus. login: as whom it is connected."""

    def __init__(
        self, *, site: str, login: Login, send: Send, requests: Requests, subscriptions: Subscriptions
    ) -> None:
        self._site = site
        self._login = login
        self._send = send
        self._requests = requests
        self._subscriptions = subscriptions

    def share(
        self,
        topic: Topic[P],
        handler: Callable[[Delivery[P]], Awaitable[None]],
        *,
        group: str,
        workers: int,
        close_s: float,
    ) -> EndOfSubscription:
        """Hands to `handler` those of the topic's messages that the broker gives us of all who share them in the group.

        workers: how many are handled at the same time, each for as long as it takes; for those at work what is given
        waits close_s. See MQTT 5.0, 4.8.2.
        """
        # Mosquitto lets any account join a group, and drops what falls to a member who may not read it.
        name = f"$share/{self._login.unguessable(group)}/{topic.filter(site=self._site)}"
        wanted = Wanted(topic=topic, filter=name, handler=handler, overflow="refuse", timeout_s=None, workers=workers)
        return partial(self._subscriptions.remove, self._subscriptions.add(wanted), within_s=close_s)

    async def reply(self, message: Delivery[Any], reply: Reply) -> None:
        """Answers a message that has named a topic for it; may be called again.

        Raises NobodyListens, BusUnavailable, PublishRefused, ContractError.
        """
        assert message.response_topic is not None
        await self._send(
            message.response_topic,
            encode(reply, topic=message.response_topic),
            kind=REPLY.name,
            retain=False,
            expiry_s=REPLY.expiry_s,
            correlation=message.correlation,
            to_somebody=True,
        )

    def converse(
        self, topic: Topic[P], payload: P, *, user: str, expiry_s: int, **levels: str
    ) -> AbstractAsyncContextManager[Conversation]:
        """Sends a message that is answered by replies, which can be had inside, once somebody has got it.

        user: as whom this bus is logged in. Raises NobodyListens, BusUnavailable, PublishRefused, ContractError.
        """
        return self._requests.converse(topic, payload, user=user, expiry_s=expiry_s, **levels)
