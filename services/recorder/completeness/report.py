"""Tells the owners of streams what of them is on disk, so that they can trim their journals."""

import asyncio
from collections import Counter

from contracts.codec import decode
from contracts.v1.stored import STORED, Stored
from services.recorder.spool.marks import stored
from services.recorder.spool.spool import Spool
from services.runtime.bus.bus import Bus, Delivery
from services.runtime.gaps import StreamKey
from services.runtime.stopping import Stopping

PERIOD_S = 1.0
MOST_STREAMS = 100_000
"""Retained topics of an earlier database that are taken note of at a time."""


class StoredReport:
    """Publishes the marks of each stream that has changed, at most once a second. A Part.

    store: UUID of the recorder's database. What an earlier database left retained is written over, so that no owner
    trims its journal by what is gone.
    """

    name = "report"

    def __init__(self, *, spool: Spool, bus: Bus, instance: str, store: str) -> None:
        self._spool = spool
        self._bus = bus
        self._instance = instance
        self._store = store
        self._stopping = Stopping()
        self._changed = asyncio.Event()
        self._left_over: set[StreamKey] = set()
        self._turns: Counter[StreamKey] = Counter()
        spool.listen(self._changed.set)
        bus.subscribe_raw(STORED, self._on_stored, queue_size=MOST_STREAMS, recorder=instance)

    async def run(self) -> None:
        """Reports until stop(), then once more."""
        while not self._stopping.is_set():
            self._changed.clear()
            self._publish()
            if not await self._stopping.within(PERIOD_S):
                await self._changed.wait()
        self._publish()

    async def stop(self) -> None:
        """Reports what is left and ends."""
        self._stopping.set()
        self._changed.set()

    async def _on_stored(self, delivery: Delivery[bytes]) -> None:
        if not delivery.retained:
            return  # our own, just published
        if decode(Stored, delivery.payload, topic=delivery.topic).store != self._store:
            levels = delivery.levels
            self._left_over.add(StreamKey(levels["kind"], levels["owner"], levels["stream"]))
            self._changed.set()

    def _publish(self) -> None:
        touched: dict[StreamKey, set[int]] = {stream: set() for stream in self._left_over}
        touched.update(self._spool.take_touched())
        self._left_over.clear()
        for stream, epochs in sorted(touched.items()):
            marks, turn = self._spool.marks.get(stream, {}), self._turns[stream]
            message = stored(marks, store=self._store, news=epochs, turn=turn)
            self._turns[stream] += 1
            self._bus.retain(
                STORED, message, recorder=self._instance, kind=stream.kind, owner=stream.owner, stream=stream.name
            )
