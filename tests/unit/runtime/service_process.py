"""A service with one part, as a process of its own: `python service_process.py drains|hangs|crashes`.

The part reads numbers from a source until it is stopped, works off its queue, then writes how many it handled.
"""

import asyncio
import sys

import uvloop
from prometheus_client import CollectorRegistry

from services.runtime.lifecycle import run_service
from services.runtime.logs import configure_logs
from services.runtime.metrics import Metrics
from services.runtime.queue import BoundedQueue, QueueClosed


class Source:
    name = "source"

    def __init__(self, queue: BoundedQueue[int]) -> None:
        self.made = 0
        self._queue = queue
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        while not self._stopping.is_set():
            self.made += 1
            await self._queue.put(self.made)
        self._queue.close()

    async def stop(self) -> None:
        self._stopping.set()


class Sink:
    name = "sink"

    def __init__(self, queue: BoundedQueue[int], behaviour: str) -> None:
        self.handled = 0
        self._queue = queue
        self._behaviour = behaviour

    async def run(self) -> None:
        try:
            while True:
                await self._queue.get()
                self.handled += 1
                if self.handled == 100:
                    self._reach_100()
        except QueueClosed:
            if self._behaviour == "hangs":
                await asyncio.Event().wait()

    def _reach_100(self) -> None:
        if self._behaviour == "crashes":
            raise RuntimeError("broken sink")
        say("working")

    async def stop(self) -> None:
        """Ends when its source has closed the queue."""


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def main(behaviour: str) -> int:
    log = configure_logs(level="info", form="json", service="test", instance="test")
    queue: BoundedQueue[int] = BoundedQueue(
        name="numbers", size=50, overflow="block", metrics=Metrics(CollectorRegistry())
    )
    source, sink = Source(queue), Sink(queue, behaviour)
    code = await run_service(parts=[source, sink], drain_s=1, log=log)
    left = len(asyncio.all_tasks()) - 1
    say(f"made={source.made} handled={sink.handled} tasks_left={left}")
    return code


if __name__ == "__main__":
    sys.exit(uvloop.run(main(sys.argv[1])))
