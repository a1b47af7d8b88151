"""Jobs given to a backend of the compute service, without a broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from plugins.api.registry import read_manifest
from services.compute.backend import Backend, BackendFull
from services.compute.job import Answer, Job, Source
from services.compute.library import Version
from services.compute.pool import Pool
from services.runtime.metrics import Metrics


def source_of(folder: Path) -> Source:
    return Version(manifest=read_manifest(folder), folder=folder, copy=folder, build="1").source


UNRULY = source_of(Path(__file__).parent / "functions/unruly")


@asynccontextmanager
async def pool(*, size: int = 1, queue: int = 10, wait_s: float = 0.5, warm: bool = True) -> AsyncIterator[Pool]:
    made = Pool(
        size=size,
        queue=queue,
        wait_s=wait_s,
        memory_mb=64,
        metrics=Metrics(CollectorRegistry()),
        log=structlog.stdlib.get_logger(),
        random=Random(1),
    )
    running = asyncio.create_task(made.run())
    try:
        if warm:
            await made.renew([UNRULY])
        yield made
    finally:
        await made.stop()
        await running


async def call(workers: Backend, function: str, *, limit_s: float = 10.0, memory_mb: int = 64, **inputs: Any) -> Answer:
    return await workers.compute(Job("unruly", function, inputs, memory_mb), limit_s=limit_s, begun=lambda: None)


async def pid_of(workers: Backend) -> int:
    answer = await call(workers, "worker")
    assert answer.outputs is not None
    return int(answer.outputs["pid"])


async def until_free(workers: Backend, function: str, **inputs: Any) -> Answer:
    """A worker that is replaced takes longer to be warm than a job may wait for it."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await call(workers, function, **inputs)
            except BackendFull:
                continue
