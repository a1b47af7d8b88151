"""Frames on their way to the broker. What stands here is in the journal already: it is late, never lost."""

import asyncio
from collections import Counter, deque
from collections.abc import Iterable
from typing import NamedTuple

from contracts.v1.frame import FRAME
from services.runtime.bus import Bus, BusUnavailable, PublishRefused
from services.runtime.logs import Log
from services.runtime.metrics import Metrics

QUEUED = 1000
"""Frames that wait for the broker; beyond it the oldest ones stay in the journal alone."""
AT_ONCE = 16
"""Frames that wait for the broker's answer at the same time."""
ROOM = 2 * AT_ONCE
"""A group that is polled as fast as it goes waits while more frames than this are on their way."""
LOOK_S = 1.0


class Parcel(NamedTuple):
    """An encoded frame and the device that it is of."""

    device: str
    topic: str
    data: bytes


class Publisher:
    """Publishes frames in the order in which they were submitted. A Part between the devices and the bus.

    A connection that breaks costs nothing: what the broker had not answered is sent again, and a frame that it then
    has twice is known by its number.
    """

    name = "publisher"

    def __init__(self, *, bus: Bus, metrics: Metrics, log: Log, queued: int = QUEUED) -> None:
        self._bus = bus
        self._log = log
        self._queued = queued
        self._waiting: deque[Parcel] = deque()
        self._given_up: Counter[str] = Counter()
        self._filled = asyncio.Event()
        self._taken = asyncio.Event()
        self._stopping = False
        self._overflow = metrics.dropped.labels(self.name, "oldest")
        metrics.queue_depth.labels(self.name).set_function(lambda: float(len(self._waiting)))

    def submit(self, parcel: Parcel) -> None:
        """Takes a frame that has been journalled. Never waits; if too many wait, the oldest is given up here."""
        if len(self._waiting) >= self._queued:
            self._given_up[self._waiting.popleft().device] += 1
            self._overflow.inc()
        self._waiting.append(parcel)
        self._filled.set()

    def backlog(self, device: str) -> int:
        """How many frames of the device are only in the journal: all that wait, while the broker is away."""
        waiting = 0 if self._bus.connected else sum(parcel.device == device for parcel in self._waiting)
        return self._given_up[device] + waiting

    async def room(self) -> None:
        """Returns when few frames wait, or when they wait for a broker that is away, which must not stop a device."""
        while len(self._waiting) > ROOM and self._bus.connected and not self._stopping:
            self._taken.clear()
            await self._taken.wait()

    async def run(self) -> None:
        """Publishes until stop(), and then what is left as long as the broker is there."""
        while True:
            if not self._waiting:
                if self._stopping:
                    return
                self._filled.clear()
                await self._filled.wait()
            elif self._bus.connected:
                await self._deliver()
            elif self._stopping:
                self._log.warning("frames_left_in_journal", frames=len(self._waiting))
                return
            else:
                self._taken.set()
                await self._connected()

    async def stop(self) -> None:
        """Ends run() when what waits has been published, or cannot be."""
        self._stopping = True
        self._filled.set()

    async def _connected(self) -> None:
        try:
            await self._bus.wait_connected(LOOK_S)
        except TimeoutError:
            return

    async def _deliver(self) -> None:
        parcels = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
        taken = [await self._send(parcels[0])] if len(parcels) == 1 else await asyncio.gather(*map(self._send, parcels))
        self._put_back(parcel for parcel, done in zip(parcels, taken, strict=True) if not done)
        self._taken.set()

    async def _send(self, parcel: Parcel) -> bool:
        """Whether there is nothing more to do for it."""
        try:
            await self._bus.publish_bytes(parcel.topic, parcel.data, kind=FRAME.name)
        except BusUnavailable:
            return False
        except PublishRefused as error:
            self._given_up[parcel.device] += 1
            self._log.error("frame_refused", topic=parcel.topic, error=str(error))
        return True

    def _put_back(self, parcels: Iterable[Parcel]) -> None:
        self._waiting.extendleft(reversed(list(parcels)))
