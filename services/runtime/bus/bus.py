"""The bus: what a service publishes and subscribes to, over a link to the broker that comes back by itself.

Nothing here acknowledges late: a consumer that must not lose a message uses the intake.
Each verb that a service has is here with what it promises, and hands on to the module that does it: hence its length.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager, suppress
from functools import partial
from random import Random
from typing import Any, TypeVar

from pydantic import BaseModel

from contracts.codec import encode
from contracts.topic import Topic, check_level
from contracts.v1.command import Command
from contracts.v1.service import ServiceStatus
from plugins.api.clock import Clock
from services.runtime.bus.command_channel import CommandChannel
from services.runtime.bus.courier import Courier
from services.runtime.bus.duty import Duty
from services.runtime.bus.outbox import Retained, RetainedValue
from services.runtime.bus.presence import Announcer, Presence
from services.runtime.bus.service import Service
from services.runtime.commands.book import CommandBook
from services.runtime.commands.failure import CommandFailed, Denied
from services.runtime.commands.replies import Encoded
from services.runtime.commands.request import Outcome
from services.runtime.commands.serving import CONCURRENT_COMMANDS
from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.mqtt.connection import SESSION_EXPIRY_S
from services.runtime.mqtt.delivery import (
    BusError,
    BusUnavailable,
    Delivery,
    InstanceTaken,
    Login,
    LoginRefused,
    Password,
    PublishRefused,
    TakenOver,
)
from services.runtime.mqtt.envelope import envelope_of
from services.runtime.mqtt.link import Link
from services.runtime.mqtt.outgoing import Refusals
from services.runtime.mqtt.subscription import Wanted
from services.runtime.mqtt.subscriptions import EndOfSubscription, Subscriptions
from services.runtime.settings import BrokerSettings, Limits, Rate

__all__ = [
    "Bus",
    "BusError",
    "BusUnavailable",
    "CommandFailed",
    "Delivery",
    "Denied",
    "InstanceTaken",
    "LoginRefused",
    "Outcome",
    "Presence",
    "PublishRefused",
    "Service",
    "TakenOver",
]

P = TypeVar("P", bound=BaseModel)
R = TypeVar("R", bound=BaseModel)

SETTLE_S = 1.0


class Bus:
    """A Part: a sink, to be stopped after everything that publishes.

    client_id: a level of the topic grammar, unique at the broker. presence: None for a tool that is not a
    service. admit: is awaited before the first connection (see vacancy); what it raises ends the bus.
    session_expiry_s: 0 for who shares a subscription (see connection.SESSION_EXPIRY_S). limits: of who sends commands
    to it; None: the usual ones. gate: who may have commands executed. exchange: for tasks.
    """

    name = "bus"

    def __init__(
        self,
        *,
        broker: BrokerSettings,
        site: str,
        client_id: str,
        username: str | None,
        password: Password | None,
        presence: Presence | None,
        admit: Callable[[], Awaitable[None]] | None = None,
        metrics: Metrics,
        clock: Clock,
        log: Log,
        random: Random | None = None,
        session_expiry_s: int = SESSION_EXPIRY_S,
        limits: Limits | None = None,
    ) -> None:
        self._site = check_level("site", site)
        self._log = log
        arriving = self._subscriptions = Subscriptions(metrics=metrics, clock=clock, log=log)
        self._announcer = Announcer(presence, site=site, clock=clock, log=log)
        login = Login(client_id=check_level("client_id", client_id), username=username, password=password)
        self._link = Link(
            broker=broker,
            login=login,
            will=self._announcer.will,
            deliver=self._subscriptions.deliver,
            metrics=metrics,
            clock=clock,
            log=log,
            random=random,
            admit=admit,
            session_expiry_s=session_expiry_s,
        )
        self._courier = Courier(carry=self._link.carry, log=log)
        stopping = self._link.stopping
        self._duty = Duty(subscriptions=arriving, announcer=self._announcer, courier=self._courier, stopping=stopping)
        channel = CommandChannel(
            site=site,
            login=login,
            link=self._link,
            subscriptions=arriving,
            limits=limits or Limits(),
            metrics=metrics,
            clock=clock,
            log=log,
        )
        self._channel, self.exchange, self.gate = channel, channel.exchange, channel.gate

    async def run(self) -> None:
        """Keeps the connection until stop(). Raises TakenOver, InstanceTaken."""
        handling = asyncio.create_task(self._subscriptions.run(), name="bus.handling")
        try:
            await self._link.run(prepare=self._duty.prepare, work=self._duty.work)
        except (TakenOver, InstanceTaken) as error:
            self._log.error("bus_given_up", error=str(error))
            raise
        finally:
            await self._subscriptions.stop()
            await handling

    async def stop(self) -> None:
        """Handlers finish, retained values go out, the service says that it is offline, the connection ends."""
        self._link.stopping.set()

    @property
    def connected(self) -> bool:
        """Subscribed and announced."""
        return self._link.connected.is_set()

    async def wait_connected(self, timeout_s: float) -> None:
        """Returns once connected. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            await self._link.connected.wait()

    def on_connect(self, hook: Callable[[], None]) -> None:
        """`hook` is called after each connect. It does not wait: it sets an event or calls retain()."""
        self._duty.hooks.append(hook)

    def subscribe(
        self,
        topic: Topic[P],
        handler: Callable[[Delivery[P]], Awaitable[None]],
        *,
        queue_size: int = 1000,
        timeout_s: float = 5.0,
        **levels: str,
    ) -> EndOfSubscription:
        """Hands the messages of these levels to `handler`, one after the other, at this and every later connection.

        A level not given matches anything. A message that breaks its contract is counted and logged, and the clearing
        of a retained topic (an empty payload) is passed over. queue_size: how many wait for this handler before the
        oldest is dropped; a wildcard over retained topics needs room for them all. timeout_s: how long the handler may
        take for one message. What is given ends it: no message comes after that.
        """
        name = topic.filter(site=self._site, **levels)
        return self._begin(
            Wanted(topic=topic, filter=name, handler=handler, queue_size=queue_size, timeout_s=timeout_s)
        )

    def subscribe_raw(
        self,
        topic: Topic[Any],
        handler: Callable[[Delivery[bytes]], Awaitable[None]],
        *,
        queue_size: int = 1000,
        timeout_s: float = 5.0,
        **levels: str,
    ) -> EndOfSubscription:
        """As subscribe(), for who decodes by itself: gets every payload as it came, empty and broken ones too."""
        name = topic.filter(site=self._site, **levels)
        return self._begin(
            Wanted(topic=topic, filter=name, handler=handler, raw=True, queue_size=queue_size, timeout_s=timeout_s)
        )

    def _begin(self, wanted: Wanted) -> EndOfSubscription:
        return partial(self._subscriptions.remove, self._subscriptions.add(wanted))

    async def publish(self, topic: Topic[P], payload: P, *, expiry_s: int | None = None, **levels: str) -> None:
        """Returns once the broker has taken it. expiry_s: instead of the topic's own.

        Raises BusUnavailable, PublishRefused, ContractError.
        """
        name = topic.build(site=self._site, **levels)
        await self._link.send(
            name,
            encode(payload, topic=name),
            kind=topic.name,
            retain=topic.retain,
            expiry_s=topic.expiry_s if expiry_s is None else expiry_s,
        )

    async def publish_bytes(self, topic: str, data: bytes, *, kind: str, expiry_s: int | None = None) -> None:
        """Publishes what is encoded already, in the order of the calls. kind: the name of its Topic."""
        await self._link.send(topic, data, kind=kind, retain=False, expiry_s=expiry_s)

    def post_bytes(self, topic: str, data: bytes, *, kind: str) -> asyncio.Future[Refusals]:
        """As publish_bytes(), and does not wait: it is on its way, and the future is the broker's answer.

        At most 16 at a time, else others wait for longer. Raises BusUnavailable, as does the future, which has what the
        broker refused.
        """
        return self._link.post(topic, data, kind=kind)

    def retain(
        self, topic: Topic[P], payload: P | None, *, republish: Callable[[P], P] | None = None, **levels: str
    ) -> None:
        """This is the topic's value from now on; None clears it. Never waits.

        The latest value per topic goes out as fast as the broker takes them, and again after each connect; republish
        then makes of the value what is published (see TagValue.snapshot).
        """
        name = topic.build(site=self._site, **levels)

        def encoded(again: bool) -> bytes:
            """See outbox.Encode."""
            assert payload is not None
            return encode(republish(payload) if again and republish else payload, topic=name)

        self.retain_all([RetainedValue(envelope_of(topic, name), encoded if payload is not None else None)])

    def retain_all(self, values: Iterable[Retained]) -> None:
        """As retain(), for who encodes by itself, when the values are sent."""
        self._courier.put(values)

    def quiet(self) -> AbstractContextManager[None]:
        """While the context lasts, retained values give way: each window of them waits for 2 ms, or until its end."""
        return self._courier.quiet()

    def retain_again(self) -> None:
        """Publishes all retained values once more: somebody else has written over some of them. Never waits."""
        self._courier.repeat()

    def disown(self, topic: Topic[Any], **levels: str) -> None:
        """The topic is somebody else's from now on: what we retained there is neither cleared nor published again."""
        self._courier.forget(topic.build(site=self._site, **levels))

    async def settled(self) -> None:
        """Returns when the broker knows of every subscription so far, at once while it is away, or after SETTLE_S."""
        with suppress(BusUnavailable, TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                await self._subscriptions.settle()

    async def announce_again(self) -> None:
        """Says once more in which state the service is: somebody else has written over it."""
        with suppress(BusUnavailable):
            if self._link.connection is not None:
                await self._announcer.publish(self._link.connection)

    async def flush(self) -> None:
        """Returns when the broker has answered every retained value; the caller sets the deadline."""
        await self._courier.wait_empty()

    async def announce(self, status: ServiceStatus, *, problem: str | None = None) -> None:
        """The service is in this state from now on and says so at every connect; without a connection, only then."""
        self._announcer.change(status, problem=problem)
        await self.announce_again()

    async def request(
        self, command: Command[P, R], payload: P, *, timeout_s: float = 5.0, user: str, **levels: str
    ) -> Outcome[R]:
        """Sends a command and gives what came of it; no answer in time is a failure with code `timeout`.

        user: as whom this bus is logged in, which alone is answered. The command is not begun after timeout_s, rounded
        up; what has begun by then is not undone. Raises BusUnavailable, PublishRefused, ContractError.
        """
        return await self._channel.requests.ask(command, payload, timeout_s=timeout_s, user=user, **levels)

    def serve(
        self,
        command: Command[P, R],
        handler: Callable[[Delivery[P]], Awaitable[R | Encoded[R]]],
        *,
        book: CommandBook | None = None,
        early: bool = False,
        at_once: int = CONCURRENT_COMMANDS,
        anew: bool = False,
        rate: Rate | None = None,
        **levels: str,
    ) -> Service[P, R]:
        """Executes the commands of these levels: each once, before its deadline, at_once of them at the same time.

        Only of those who may send them by the site's policy, which is followed from the first call on.
        May be called at any time; ended by what it gives. See CommandServer for the rest.
        """
        return self._channel.serve(
            command, handler, book=book, early=early, at_once=at_once, anew=anew, rate=rate, levels=levels
        )
