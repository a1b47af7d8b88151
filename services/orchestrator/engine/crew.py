"""The tasks that do the work of nodes. One that crashes is told of in the log, and touches no other."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from services.runtime.logs import Log
from services.runtime.metrics import Metrics


class Crew:
    """Starts tasks, and knows those that have not ended."""

    def __init__(self, *, log: Log, metrics: Metrics) -> None:
        self._log = log
        self._crashes = metrics.crashes.labels("node")
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None], *, name: str) -> "asyncio.Task[None]":
        """Does the work beside all other."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._on_end)
        return task

    async def end(self) -> None:
        """Returns when every task has ended; cancels those that are left."""
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(tuple(self._tasks), timeout=1.0)

    def _on_end(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._crashes.inc()
            self._log.error("node_crashed", node=task.get_name(), exc_info=error)
