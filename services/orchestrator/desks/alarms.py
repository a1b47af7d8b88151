"""Where people acknowledge and shelve alarms."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from contracts.v1.alarm import ACK_ALARM, SHELVE_ALARM, UNSHELVE_ALARM, AckAlarm, Alarm, ShelveAlarm, UnshelveAlarm
from contracts.v1.command import ErrorCode
from plugins.api.clock import Clock
from services.orchestrator.alarms.alarm import AlarmRefused, Condition, Step, acknowledge, shelve, unshelve
from services.orchestrator.alarms.alarms import Alarms, UnknownAlarm
from services.orchestrator.desks.desk import timely
from services.runtime.bus.bus import Bus, CommandFailed, Delivery, Service
from services.runtime.commands.book import CommandBook


class AlarmDesk:
    """Serves the commands of all alarms from its making on. services: what it serves."""

    def __init__(self, *, alarms: Alarms, bus: Bus, book: CommandBook, clock: Clock) -> None:
        self._alarms = alarms
        self._clock = clock
        self.services: Sequence[Service[Any, Any]] = (
            bus.serve(ACK_ALARM, timely(self._acknowledge, clock=clock), book=book),
            bus.serve(SHELVE_ALARM, timely(self._shelve, clock=clock), book=book),
            bus.serve(UNSHELVE_ALARM, timely(self._unshelve, clock=clock), book=book),
        )

    async def _acknowledge(self, command: Delivery[AckAlarm]) -> Alarm:
        step = partial(acknowledge, t=self._now_ms(), by=command.levels["user"])
        return await self._change(command, step, command.payload.comment)

    async def _shelve(self, command: Delivery[ShelveAlarm]) -> Alarm:
        t = self._now_ms()
        step = partial(shelve, t=t, by=command.levels["user"], until=t + round(command.payload.for_s * 1000))
        return await self._change(command, step, command.payload.comment)

    async def _unshelve(self, command: Delivery[UnshelveAlarm]) -> Alarm:
        return await self._change(command, unshelve, "")

    async def _change(self, command: Delivery[Any], step: Callable[[Condition], Step], comment: str) -> Alarm:
        scope, name, user = (command.levels[level] for level in ("scope", "id", "user"))
        try:
            return await self._alarms.change(scope, name, step, user=user, comment=comment)
        except UnknownAlarm as error:
            raise CommandFailed(ErrorCode.NOT_FOUND, str(error)) from error
        except AlarmRefused as error:
            raise CommandFailed(ErrorCode.CONFLICT, f"{name}: {error}") from error

    def _now_ms(self) -> int:
        return self._clock.now_us() // 1000
