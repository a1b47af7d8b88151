"""Asks the gateway for frames of a trigger that are missing: the broker's queue for it was full, or the broker died."""

import asyncio

from contracts.codec import ContractError
from contracts.v1.command import ErrorCode
from contracts.v1.resend import RESEND, Resend, ResendResult
from services.orchestrator.triggers.notice import GAP, LOST, TriggerNotice
from services.orchestrator.triggers.seen import Seen
from services.runtime.bus.bus import Bus, BusError, Outcome
from services.runtime.gaps import Gaps, StreamKey, Wanted
from services.runtime.ranges import Ranges

LOOK_S = 0.5
PATIENCE_S = 5.0
"""How long the gateway has to answer."""
UNKNOWN = "unknown"
"""The reason of what the gateway's journal knows nothing of: it has been begun anew since."""


class FrameMender:
    """Of one trigger. What comes again comes as BACKFILL, as after an outage. user: as whom the bus is logged in."""

    def __init__(self, *, path: str, seen: Seen, bus: Bus, user: str, notice: TriggerNotice) -> None:
        device, _, group = path.partition("/")
        self._stream = StreamKey("frame", device, group)
        self._seen = seen
        self._bus = bus
        self._user = user
        self._notice = notice
        self._gaps = Gaps()
        self._told: dict[int, Ranges] = {}

    async def run(self) -> None:
        """Looks for gaps until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._gaps.note({self._stream: self._seen.marks}, {self._stream: self._seen.announced})
            if self._bus.connected:
                for wanted in self._gaps.due(loop.time(), most=1):
                    await self._mend(wanted)
            await asyncio.sleep(LOOK_S)

    async def _mend(self, wanted: Wanted) -> None:
        self._tell(wanted)
        outcome = await self._ask(wanted)
        denied = outcome is not None and outcome.error is not None and outcome.error.code is ErrorCode.NOT_FOUND
        believed = self._gaps.settle(wanted, asyncio.get_running_loop().time(), denied=denied)
        gone = [(first, last, UNKNOWN) for first, last in wanted.ranges] if believed else []
        if outcome is not None and outcome.result is not None:
            gone = outcome.result.gone
        for begin, end, reason in gone:
            for first, last in Ranges(wanted.ranges).within(begin, end):
                self._seen.done_with(wanted.epoch, first, last)
                self._notice.tell(LOST, f"{wanted.epoch}/{first}-{last}", error=reason, count=last - first + 1)

    def _tell(self, wanted: Wanted) -> None:
        """Of each frame once that it is missing."""
        told = self._told = {wanted.epoch: self._told.get(wanted.epoch, Ranges())}
        for first, last in wanted.ranges:
            for begin, end in list(told[wanted.epoch].gaps(first, last)):
                self._notice.tell(GAP, f"{wanted.epoch}/{begin}-{end}", count=end - begin + 1)
            told[wanted.epoch].add(first, last)

    async def _ask(self, wanted: Wanted) -> Outcome[ResendResult] | None:
        """None if the request did not get through: it is made again."""
        request = Resend(stream=self._stream.name, epoch=wanted.epoch, ranges=wanted.ranges)
        try:
            return await self._bus.request(
                RESEND, request, timeout_s=PATIENCE_S, user=self._user, id=self._stream.owner
            )
        except (BusError, ContractError):
            return None
