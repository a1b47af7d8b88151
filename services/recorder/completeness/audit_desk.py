"""Where a recorder says what it has of every stream."""

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor

from contracts.v1.audit import AUDIT_STREAMS, AuditedStreams, AuditStreams
from contracts.v1.command import ErrorCode
from services.recorder.completeness.audit import Audit
from services.runtime.bus.bus import Bus, CommandFailed, Delivery
from services.runtime.desk import Desk


class AuditDesk(Desk):
    """instance: the recorder's name, to which commands are sent.

    It looks in a thread of its own, one question at a time: a large spool takes a while to go through.
    """

    name = "audit_desk"

    def __init__(self, *, bus: Bus, audit: Audit, instance: str) -> None:
        super().__init__()
        self._audit = audit
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="audit")
        self.threads = (self._thread,)
        self.services = (bus.serve(AUDIT_STREAMS, self._look, at_once=1, anew=True, id=instance),)

    async def _look(self, command: Delivery[AuditStreams]) -> AuditedStreams:
        """Raises CommandFailed."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._audit.look, command.payload)
        except sqlite3.Error as error:
            raise CommandFailed(ErrorCode.UNAVAILABLE, f"the recorder's disk refuses: {error}") from error
