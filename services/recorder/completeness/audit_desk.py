"""Where a recorder says what it has of every stream."""

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor

from contracts.v1.audit import AUDIT_STREAMS, AuditedStreams, AuditStreams
from contracts.v1.command import ErrorCode
from services.recorder.completeness.audit import Audit
from services.runtime.bus.bus import Bus, CommandFailed, Delivery
from services.runtime.stopping import Stopping


class AuditDesk:
    """A Part: takes commands from its run() on until stop(). instance: the recorder's name, to which they are sent.

    It looks in a thread of its own, one question at a time: a large spool takes a while to go through.
    """

    name = "audit_desk"

    def __init__(self, *, bus: Bus, audit: Audit, instance: str) -> None:
        self._bus = bus
        self._audit = audit
        self._instance = instance
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="audit")
        self._stopping = Stopping()

    async def run(self) -> None:
        """Answers commands until stop()."""
        service = self._bus.serve(AUDIT_STREAMS, self._look, at_once=1, anew=True, id=self._instance)
        try:
            await self._stopping.wait()
        finally:
            await service.close()
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def stop(self) -> None:
        """Takes no more commands."""
        self._stopping.set()

    async def _look(self, command: Delivery[AuditStreams]) -> AuditedStreams:
        """Raises CommandFailed."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._audit.look, command.payload)
        except sqlite3.Error as error:
            raise CommandFailed(ErrorCode.UNAVAILABLE, f"the recorder's disk refuses: {error}") from error
