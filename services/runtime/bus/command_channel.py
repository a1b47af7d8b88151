"""Commands on a bus, from both sides: those that it sends, and those that it executes for whom the policy allows it."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from pydantic import BaseModel

from contracts.v1.command import Command
from contracts.v1.policy import POLICY
from plugins.api.clock import Clock
from services.runtime.bus.service import Service
from services.runtime.commands.book import CommandBook
from services.runtime.commands.exchange import Exchange
from services.runtime.commands.gate import Gate
from services.runtime.commands.replies import Encoded
from services.runtime.commands.request import Requests
from services.runtime.commands.rpc import CommandServer
from services.runtime.commands.serving import Serving
from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.mqtt.delivery import Delivery, Login
from services.runtime.mqtt.link import Link
from services.runtime.mqtt.subscription import Wanted
from services.runtime.mqtt.subscriptions import Subscriptions
from services.runtime.settings import Limits, Rate

P = TypeVar("P", bound=BaseModel)
R = TypeVar("R", bound=BaseModel)


class CommandChannel:
    """Of one bus. login: as whom it is connected. requests, exchange, gate: see Bus."""

    def __init__(
        self,
        *,
        site: str,
        login: Login,
        link: Link,
        subscriptions: Subscriptions,
        limits: Limits,
        metrics: Metrics,
        clock: Clock,
        log: Log,
    ) -> None:
        self._site = site
        self._subscriptions = subscriptions
        self._serves = False
        self.requests = Requests(site=site, client_id=login.client_id, send=link.send, subscribe=subscriptions.begin)
        self.exchange = Exchange(
            site=site, login=login, send=link.send, requests=self.requests, subscriptions=subscriptions
        )
        self.gate = Gate(limits=limits, clock=clock)
        self._use = Serving(site=site, send=link.send, gate=self.gate, metrics=metrics, clock=clock, log=log)

    def serve(
        self,
        command: Command[P, R],
        handler: Callable[[Delivery[P]], Awaitable[R | Encoded[R]]],
        *,
        book: CommandBook | None,
        early: bool,
        at_once: int,
        anew: bool,
        rate: Rate | None,
        levels: dict[str, str],
    ) -> Service[P, R]:
        """See Bus.serve."""
        if not self._serves:
            self._serves = True
            policy = POLICY.filter(site=self._site)
            self._subscriptions.add(Wanted(topic=POLICY, filter=policy, handler=self.gate.follow))
        server = CommandServer(
            command, handler, use=self._use, book=book, early=early, at_once=at_once, anew=anew, rate=rate
        )
        return Service(server, subscriptions=self._subscriptions, levels=levels)
