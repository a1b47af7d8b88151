"""How far triggers have come, with a real database."""

import asyncio
import threading

import structlog

from services.orchestrator.database import FILE, Database
from services.orchestrator.triggers.progress import Progress


async def test_what_the_disk_has_not_begun_to_write_at_a_stop_is_written_all_the_same(tmp_path, eventually):
    free, submitted = threading.Event(), []

    class Busy(Database):
        """Its thread is busy with something else when the write comes."""

        async def transaction(self, work, **more):
            submitted.append(work)
            return await super().transaction(work, **more)

    async with Busy(tmp_path / FILE) as database:
        progress = Progress(database=database, log=structlog.get_logger())
        other = asyncio.create_task(database.transaction(lambda sql: free.wait(10)))
        task = asyncio.create_task(progress.run())
        progress.put("p", "done with 7")
        await eventually(lambda: len(submitted) == 2)
        task.cancel()
        await eventually(lambda: len(submitted) == 3 or task.done())
        free.set()
        await asyncio.wait([task])
        await other

        assert await Progress(database=database, log=structlog.get_logger()).last("p") == "done with 7"
