"""Live frames on their way to the broker. What stands here is in the journal already: it is late, never lost.

Live data comes first: while the broker is away nothing waits here, so that the newest frame is the first to go out when
it is back. What did not go out follows from the journal (services.runtime.backfill).
"""

import asyncio
from collections import deque
from contextlib import suppress
from functools import partial
from typing import NamedTuple, Protocol

from contracts.v1.frame import FRAME
from services.runtime.bus.bus import Bus, BusUnavailable
from services.runtime.journal import Stream
from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.mqtt.outgoing import Refusals

QUEUED = 1000
"""Frames that wait for the broker; beyond it the oldest ones are left to the backfill."""
AT_ONCE = 16
"""Frames that wait for the broker's answer at the same time."""
ROOM = 2 * AT_ONCE
"""A group that is polled as fast as it goes waits while more frames than this are on their way."""
LOOK_S = 1.0


class Parcel(NamedTuple):
    """An encoded frame, and where it stands in the journal."""

    stream: Stream
    seq: int
    topic: str
    data: bytes


class Creditor(Protocol):
    """Takes note of frames that did not go out live."""

    def owe(self, stream: Stream, seq: int) -> None:
        """The frame is to be sent out of the journal."""
        ...


class Publisher:
    """Publishes frames in the order in which they were submitted. A Part between the devices and the bus.

    A frame that the broker had not answered when the connection broke goes out again; if the broker then has it twice,
    it is known by its number.
    """

    name = "publisher"

    def __init__(self, *, bus: Bus, backfill: Creditor, metrics: Metrics, log: Log, queued: int = QUEUED) -> None:
        self._bus = bus
        self._backfill = backfill
        self._log = log
        self._queued = queued
        self._waiting: deque[Parcel] = deque()
        self._unanswered = 0
        self._changed = asyncio.Event()
        self._taken = asyncio.Event()
        self._met = False  # the broker has been there: before that, the first frames of the epochs wait for it
        self._stopping = False
        self._overflow = metrics.dropped.labels(self.name, "oldest")
        metrics.watch_depth(self.name, self._waiting)

    def submit(self, parcel: Parcel) -> None:
        """Takes a frame that has been journalled, and sends it if the broker answers in time: what follows waits.

        Never waits; if too many wait, the oldest is left to the backfill.
        """
        if self._met and not self._bus.connected:
            self._leave(parcel)
            return
        if len(self._waiting) >= self._queued:
            self._leave(self._waiting.popleft())
            self._overflow.inc()
        self._waiting.append(parcel)
        self._send()

    async def room(self) -> None:
        """Returns when few frames wait, or when they wait for a broker that is away, which must not stop a device."""
        while len(self._waiting) > ROOM and self._bus.connected and not self._stopping:
            self._taken.clear()
            await self._taken.wait()

    async def run(self) -> None:
        """Publishes until stop(), and then what is left as long as the broker is there."""
        while True:
            if not self._bus.connected and (self._met or self._stopping):
                self._leave_all()
            elif not self._met:
                await self._connected()
                self._send()
            if self._stopping and not self._waiting and not self._unanswered:
                return
            if self._met:
                self._changed.clear()
                await self._changed.wait()

    async def stop(self) -> None:
        """Ends run() when what waits has been published, or cannot be."""
        self._stopping = True
        self._changed.set()

    async def _connected(self) -> None:
        with suppress(TimeoutError):
            await self._bus.wait_connected(LOOK_S)
            self._met = True

    def _send(self) -> None:
        while self._waiting and self._unanswered < AT_ONCE and self._bus.connected:
            self._met = True
            parcel = self._waiting.popleft()
            try:
                answer = self._bus.post_bytes(parcel.topic, parcel.data, kind=FRAME.name)
            except BusUnavailable:
                self._leave(parcel)
                continue
            self._unanswered += 1
            answer.add_done_callback(partial(self._answered, parcel))

    def _answered(self, parcel: Parcel, answer: asyncio.Future[Refusals]) -> None:
        self._unanswered -= 1
        if isinstance(answer.exception(), BusUnavailable):
            self._leave(parcel)
            self._changed.set()
        else:
            for refusal in answer.result():
                self._log.error("frame_refused", topic=parcel.topic, error=str(refusal))
        self._send()
        self._taken.set()
        if self._stopping:
            self._changed.set()

    def _leave(self, parcel: Parcel) -> None:
        self._backfill.owe(parcel.stream, parcel.seq)

    def _leave_all(self) -> None:
        if self._waiting:
            self._log.warning("frames_left_to_backfill", frames=len(self._waiting))
        while self._waiting:
            self._leave(self._waiting.popleft())
        self._taken.set()
