"""Tells the owners of streams what of them is on disk, so that they can trim their journals."""

import asyncio

from contracts.v1.stored import STORED
from services.recorder.marks import stored
from services.recorder.spool import Spool
from services.runtime.bus import Bus

PERIOD_S = 1.0


class StoredReport:
    """Publishes the marks of each stream that has changed, at most once a second. A Part.

    store: UUID of the recorder's database.
    """

    name = "report"

    def __init__(self, *, spool: Spool, bus: Bus, instance: str, store: str) -> None:
        self._spool = spool
        self._bus = bus
        self._instance = instance
        self._store = store
        self._stopping = asyncio.Event()
        self._changed = asyncio.Event()
        spool.listen(self._changed.set)

    async def run(self) -> None:
        """Reports until stop(), then once more."""
        while not self._stopping.is_set():
            self._changed.clear()
            self._publish()
            try:
                async with asyncio.timeout(PERIOD_S):
                    await self._stopping.wait()
            except TimeoutError:
                await self._changed.wait()
        self._publish()

    async def stop(self) -> None:
        """Reports what is left and ends."""
        self._stopping.set()
        self._changed.set()

    def _publish(self) -> None:
        for stream, epochs in sorted(self._spool.take_touched().items()):
            message = stored(self._spool.marks[stream], store=self._store, news=epochs)
            self._bus.retain(
                STORED, message, recorder=self._instance, kind=stream.kind, owner=stream.owner, stream=stream.name
            )
