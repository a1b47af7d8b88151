"""Tells the owners of streams what of them is on disk, so that they can trim their journals."""

import asyncio
import sqlite3
from collections import Counter

from contracts.codec import decode
from contracts.v1.stored import STORED, Stored
from services.recorder.spool.admission import Admission
from services.recorder.spool.marks import recalled, stored
from services.recorder.spool.spool import Spool
from services.runtime.bus.bus import Bus, Delivery
from services.runtime.gaps import Gaps, StreamKey
from services.runtime.logs import Log
from services.runtime.stopping import Stopping

PERIOD_S = 1.0
MOST_STREAMS = 100_000
"""Retained topics of an earlier database that are taken note of at a time."""


class StoredReport:
    """Publishes the marks of each stream that has changed, at most once a second. A Part.

    store: UUID of the recorder's database. What an earlier database left retained is written over, so that no owner
    trims its journal by what is gone. Where ours itself has told more than it has now, it is an older copy of it: what
    it lacks is asked for.
    """

    name = "report"

    def __init__(self, *, spool: Spool, gaps: Gaps, bus: Bus, instance: str, store: str, log: Log) -> None:
        self._spool = spool
        self._gaps = gaps
        self._log = log
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
        levels = delivery.levels
        stream = StreamKey(levels["kind"], levels["owner"], levels["stream"])
        told = decode(Stored, delivery.payload, topic=delivery.topic)
        if told.store != self._store:
            self._left_over.add(stream)
            self._changed.set()
        elif recalled(self._spool.marks.get(stream, {}), told):
            await self._recall(stream, told)

    async def _recall(self, stream: StreamKey, told: Stored) -> None:
        try:
            async with self._spool.turn:
                known = recalled(self._spool.marks.get(stream, {}), told)
                if not known:
                    return  # a commit has brought it meanwhile
                await self._spool.commit(Admission(marks={stream: known}))
        except sqlite3.Error as error:
            self._log.error("database_older_not_noted", **stream._asdict(), error=str(error))
            return
        self._gaps.note({stream: known})
        self._log.warning("database_older", **stream._asdict(), epochs=len(known))

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
