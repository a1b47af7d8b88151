"""Commands that were refused stand in the ledger: somebody has tried. A flood of them makes no flood of events."""

from collections import Counter
from typing import Any

from contracts.v1.command import Command
from plugins.api.clock import Clock
from services.runtime.allowance import Allowance
from services.runtime.event_log import SERVICE_AGGREGATE, EventLog
from services.runtime.mqtt.delivery import Delivery

TOLD_AT_ONCE = 20
"""Refusals of one user that are told one by one; of more, one in TOLD_EVERY_S, with the number of those in between."""
TOLD_EVERY_S = 10.0
_DEVICE = "device"


class RefusedCommands:
    """Of one service. Those to a device happen to the device, all others to the service."""

    def __init__(self, *, instance: str, events: EventLog, clock: Clock) -> None:
        self._instance = instance
        self._events = events
        self._clock = clock
        self._allowance = Allowance(rate=1 / TOLD_EVERY_S, burst=TOLD_AT_ONCE)
        self._untold: Counter[str] = Counter()  # by user: the broker lets nobody in whom the site does not know

    def tell(self, command: Command[Any, Any], asked: Delivery[Any], why: str, message: str | None) -> None:
        """A command was refused; see Refusal."""
        user = asked.levels["user"]
        if self._allowance.spend(user, self._clock.monotonic()):
            self._untold[user] += 1
            return
        data: dict[str, Any] = {"topic": asked.topic, "why": why}
        if message is not None:
            data["message"] = message
        if untold := self._untold.pop(user, 0):
            data["untold"] = untold
        of_device = command.target == _DEVICE
        self._events.tell(
            "command.refused",
            aggregate=_DEVICE if of_device else SERVICE_AGGREGATE,
            id=asked.levels["id"] if of_device else self._instance,
            user=user,
            data=data,
        )
