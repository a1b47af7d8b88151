"""Commands that were refused stand in the ledger: somebody has tried. A flood of them makes no flood of events.

Who is narrowed sees none that name what he may not see: it happens to the device, to the workspace, or to users.
"""

from collections import Counter
from typing import Any

from contracts.v1.command import PLANT, Command
from plugins.api.clock import Clock
from services.runtime.allowance import Allowance
from services.runtime.event_log import SERVICE_AGGREGATE, EventLog
from services.runtime.mqtt.delivery import Delivery

TOLD_AT_ONCE = 20
"""Refusals of one user that are told one by one; of more, one in TOLD_EVERY_S, with the number of those in between."""
TOLD_EVERY_S = 10.0
MOST_SCOPES = 100
"""Workspaces in which refusals are told, whether or not there are such. Of others it is told without what was asked."""
_DEVICE, _USER = "device", "user"


class RefusedCommands:
    """Of one service."""

    def __init__(self, *, instance: str, events: EventLog, clock: Clock) -> None:
        self._instance = instance
        self._events = events
        self._clock = clock
        self._allowance = Allowance(rate=1 / TOLD_EVERY_S, burst=TOLD_AT_ONCE)
        self._untold: Counter[str] = Counter()  # by user: the broker lets nobody in whom the site does not know
        self._scopes = {PLANT}

    def tell(self, command: Command[Any, Any], asked: Delivery[Any], why: str, message: str | None) -> None:
        """A command was refused; see Refusal."""
        user = asked.levels["user"]
        if self._allowance.spend(user, self._clock.monotonic()):
            self._untold[user] += 1
            return
        scope = asked.levels.get("scope", PLANT)
        if len(self._scopes) <= MOST_SCOPES:
            self._scopes.add(scope)
        data: dict[str, Any] = {"why": why}
        if scope in self._scopes:
            data["topic"] = asked.topic
            if message is not None and not command.within:  # else it may name what the topic does not
                data["message"] = message
        else:
            scope = PLANT
        if untold := self._untold.pop(user, 0):
            data["untold"] = untold
        aggregate, name = self._subject(command, asked)
        self._events.tell("command.refused", aggregate=aggregate, id=name, scope=scope, user=user, data=data)

    def _subject(self, command: Command[Any, Any], asked: Delivery[Any]) -> tuple[str, str]:
        """Aggregate and id. Commands about users happen to who asks: those who are named there need not exist."""
        if command.target == _DEVICE:
            return _DEVICE, asked.levels["id"]
        if command.target == _USER:
            return _USER, asked.levels["user"]
        return SERVICE_AGGREGATE, self._instance
