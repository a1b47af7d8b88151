"""What a write or call goes through, state by state, told in the ledger in as few messages as may be."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from contracts.v1.command import PLANT
from plugins.api.clock import Clock
from services.gateway.condition import DEVICE_AGGREGATE
from services.runtime.event_log import EventLog, Subject

PUT_OFF_S = 0.25
"""How long a state may stay untold. A kill in between leaves the command in the book, from which it is told."""


@dataclass(slots=True)
class Story:
    """The events of one write or call, each the cause of the next. note: stands in the data of each."""

    events: EventLog
    clock: Clock
    device: str
    user: str
    note: Mapping[str, object]
    cause: str | None = None
    _untold: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    _times_us: list[int] = field(default_factory=list)
    _timer: asyncio.TimerHandle | None = None

    def tell(self, *states: str, **data: object) -> None:
        """It went through these states, just now; what tell_soon() has put off comes before them."""
        for state in states:
            self._add(state, data)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._untold:
            untold, times_us = self._untold, self._times_us
            self._untold, self._times_us = [], []
            subject = Subject(scope=PLANT, aggregate=DEVICE_AGGREGATE, id=self.device)
            self.cause = self.events.tell_step(subject, untold, user=self.user, cause=self.cause, times_us=times_us)

    def tell_soon(self, state: str) -> None:
        """It is in this state now, which is told with what follows, or after PUT_OFF_S: it keeps nothing waiting."""
        self._add(state, {})
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PUT_OFF_S, self.tell)

    def _add(self, state: str, data: Mapping[str, object]) -> None:
        self._untold.append((state, {**self.note, **data}))
        self._times_us.append(self.clock.now_us())
