"""The history in the recorder's own database, for a machine that needs nothing else."""

import asyncio
from collections.abc import Iterator

from services.recorder.embedded.packing import pack, write
from services.recorder.spool.frames import DeviceFrame
from services.recorder.spool.store import Written


class EmbeddedStore:
    """Packs a batch into chunks; they are inserted in the transaction that removes the batch from the spool."""

    name = "embedded"
    in_order = True

    def __init__(self, *, batch_bytes: int, flush_s: float, chunk_values: int) -> None:
        self.batch_bytes = batch_bytes
        self.flush_s = flush_s
        self._chunk_values = chunk_values

    async def write(self, frames: Iterator[DeviceFrame]) -> Written:
        """The chunks, ready to be inserted. Exactly once: a batch leaves the spool with its chunks or not at all."""
        batch = await asyncio.to_thread(pack, frames, chunk_values=self._chunk_values)
        return Written(batch.values, (), lambda database: write(database, batch.parts))

    async def close(self) -> None:
        """Nothing to let go of: the database belongs to the spool too."""
