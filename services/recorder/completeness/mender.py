"""Mends gaps: asks a stream's owner to send again what is missing, and books what the owner says is gone."""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Iterator

from contracts.codec import ContractError
from contracts.v1.command import ErrorCode
from contracts.v1.resend import RESEND, RESEND_EVENTS, UNKNOWN, Resend, ResendResult
from services.recorder.completeness.incidents import Incidents
from services.recorder.spool.admission import EVENTS
from services.recorder.spool.marks import EpochMarks, Lost
from services.recorder.spool.spool import Spool
from services.runtime.bus.bus import Bus, BusError, Outcome
from services.runtime.gaps import Gaps, Wanted
from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.ranges import Ranges
from services.runtime.stopping import Stopping
from services.runtime.throttle import Throttle

LOOK_S = 0.5
AT_ONCE = 16
"""Requests that are under way at the same time."""
PATIENCE_S = 5.0
"""How long an owner has to answer."""


class Mender:
    """A Part. user: the account as which the bus is logged in."""

    name = "mender"

    def __init__(
        self, *, spool: Spool, gaps: Gaps, incidents: Incidents, bus: Bus, user: str, metrics: Metrics, log: Log
    ) -> None:
        self._spool = spool
        self._gaps = gaps
        self._incidents = incidents
        self._bus = bus
        self._user = user
        self._metrics = metrics
        self._log = log
        self._throttle = Throttle()
        self._stopping = Stopping()
        metrics.frames_missing.set_function(lambda: float(gaps.count))

    async def run(self) -> None:
        """Looks for gaps until stop(). What is asked for then is given up: it is asked for again at the next start."""
        loop = asyncio.get_running_loop()
        self._gaps.note(self._spool.marks)
        while not self._stopping.is_set():
            due = self._gaps.due(loop.time(), most=AT_ONCE) if self._bus.connected else []
            await asyncio.gather(*map(self._mend, due))
            if len(due) < AT_ONCE:  # else a broker that died may have left a gap in every stream
                await self._stopping.within(LOOK_S)

    async def stop(self) -> None:
        """Ends run()."""
        self._stopping.set()

    async def _mend(self, wanted: Wanted) -> None:
        """One request, and what follows from its answer."""
        outcome = await self._ask(wanted)
        denied = outcome is not None and outcome.error is not None and outcome.error.code is ErrorCode.NOT_FOUND
        believed = self._gaps.settle(wanted, asyncio.get_running_loop().time(), denied=denied)
        if outcome is not None and outcome.result is not None:
            await self._book(wanted, outcome.result.gone)
        elif believed:
            await self._book(wanted, [(first, last, UNKNOWN) for first, last in wanted.ranges])

    async def _ask(self, wanted: Wanted) -> Outcome[ResendResult] | None:
        """None if the request did not get through."""
        stream = wanted.stream
        command = RESEND_EVENTS if stream.kind == EVENTS else RESEND
        request = Resend(stream=stream.name, epoch=wanted.epoch, ranges=wanted.ranges)
        try:
            outcome = await self._bus.request(command, request, timeout_s=PATIENCE_S, user=self._user, id=stream.owner)
        except (BusError, ContractError) as error:
            self._tell(wanted, "unavailable", str(error))
            return None
        if outcome.error is not None:
            self._tell(wanted, str(outcome.error.code), outcome.error.message)
        else:
            self._metrics.resend_requests.labels("answered").inc()
        return outcome

    def _tell(self, wanted: Wanted, why: str, detail: str) -> None:
        self._metrics.resend_requests.labels(why).inc()
        if self._throttle.passes(asyncio.get_running_loop().time()):
            self._log.warning(
                "resend_not_answered", **wanted.stream._asdict(), epoch=wanted.epoch, why=why, detail=detail
            )

    async def _book(self, wanted: Wanted, lost: list[Lost]) -> None:
        asked = [
            (max(first, begin), min(last, end), reason)
            for first, last, reason in lost
            for begin, end in wanted.ranges
            if max(first, begin) <= min(last, end)
        ]
        if not asked:
            return
        known = self._spool.marks.get(wanted.stream, {}).get(wanted.epoch)
        try:
            marks = await self._spool.book_lost(wanted.stream, wanted.epoch, asked)
        except sqlite3.Error as error:
            self._log.error("loss_not_booked", error=str(error))  # the gap stays, and is asked for again
            return
        self._gaps.note({wanted.stream: {wanted.epoch: marks}})
        self._incidents.lost(wanted.stream, wanted.epoch, _added(marks, known))
        for reason, count in (_lost(marks) - _lost(known)).items():
            self._metrics.frames_lost.labels(reason).inc(count)
            self._log.error("frames_lost", **wanted.stream._asdict(), epoch=wanted.epoch, count=count, reason=reason)


def _added(marks: EpochMarks, before: EpochMarks | None) -> Iterator[Lost]:
    """What of the losses is new."""
    known = Ranges((first, last) for first, last, _ in (before.lost if before else ()))
    for first, last, reason in marks.lost:
        yield from ((begin, end, reason) for begin, end in known.gaps(first, last))


def _lost(marks: EpochMarks | None) -> Counter[str]:
    """How many are booked as lost, by reason."""
    counts: Counter[str] = Counter()
    for first, last, reason in marks.lost if marks else ():
        counts[reason] += last - first + 1
    return counts
