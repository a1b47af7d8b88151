"""Tells as events what was noted of completeness."""

import asyncio

from services.recorder.completeness.incidents import Incidents
from services.recorder.spool.spool import Spool
from services.runtime.event_log import EventLog
from services.runtime.gaps import Gaps
from services.runtime.stopping import Stopping

LOOK_S = 0.5
AGGREGATE = "recorder"
"""What the events happen to: the recorder instance."""


class Teller:
    """A Part."""

    name = "teller"

    def __init__(self, *, incidents: Incidents, spool: Spool, gaps: Gaps, events: EventLog, instance: str) -> None:
        self._incidents = incidents
        self._spool = spool
        self._gaps = gaps
        self._events = events
        self._instance = instance
        self._stopping = Stopping()

    async def run(self) -> None:
        """Looks until stop(). What is put off then is in the marks, and in the metrics."""
        self._incidents.known(
            stream for stream, epochs in self._spool.marks.items() if any(marks.holes for marks in epochs.values())
        )
        while not await self._stopping.within(LOOK_S):
            for one in self._incidents.due(asyncio.get_running_loop().time(), missing=self._gaps.misses):
                self._events.tell(one.type, aggregate=AGGREGATE, id=self._instance, data=one.data)

    async def stop(self) -> None:
        """Ends run()."""
        self._stopping.set()
