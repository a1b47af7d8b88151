"""The shipped functions where they run: in a warm worker, within the memory that their plugin.yaml grants them."""

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
import structlog
import yaml
from prometheus_client import CollectorRegistry

from plugins.api.function_suite import Case
from plugins.api.manifest import Manifest
from plugins.api.registry import plugin_folders, read_manifest
from services.compute.job import Answer, Job
from services.compute.library import HIDDEN, Version
from services.compute.pool import Pool
from services.compute.settings import SHIPPED_FUNCTIONS
from services.runtime.metrics import Metrics

MANY = 20_000


def versions() -> Iterator[Version]:
    for folder in plugin_folders([SHIPPED_FUNCTIONS]):
        manifest = read_manifest(folder)
        if not manifest.id.startswith(HIDDEN):
            yield Version(manifest=manifest, folder=folder, copy=folder, build="1")


@asynccontextmanager
async def worker() -> AsyncIterator[Pool]:
    """One that has all shipped functions."""
    made = Pool(
        size=1,
        queue=1,
        wait_s=0.5,
        memory_mb=512,
        metrics=Metrics(CollectorRegistry()),
        log=structlog.stdlib.get_logger(),
        random=Random(1),
    )
    running = asyncio.create_task(made.run())
    try:
        await made.renew([version.source for version in versions()])
        yield made
    finally:
        await made.stop()
        await running


async def call(pool: Pool, manifest: Manifest, function: str, inputs: dict[str, Any]) -> Answer:
    promised = manifest.functions[function]
    assert promised.memory_mb is not None
    assert promised.timeout_s is not None
    job = Job(manifest.id, function, inputs, promised.memory_mb)
    return await pool.compute(job, limit_s=promised.timeout_s, begun=lambda: None)


def cases(folder: Path) -> Iterator[Case]:
    for path in sorted((folder / "testcases").glob("*.yaml")):
        yield from map(Case.model_validate, yaml.safe_load_all(path.read_text(encoding="utf-8")))


async def test_each_test_case_comes_out_of_a_worker_as_it_is_written() -> None:
    async with worker() as pool:
        for version in versions():
            for case in cases(version.folder):
                answer = await call(pool, version.manifest, case.function, case.inputs)

                assert answer.fault == (None if case.error is None else "invalid"), f"{case.title}: {answer.message}"
                assert (answer.outputs or {}).keys() == (case.outputs or {}).keys(), case.title
                assert (case.error or "") in answer.message


SERIES = [math.sin(place / 7) * 10.0 ** (place % 300 - 150) for place in range(MANY)]
"""Numbers of all sizes, which is what costs the exact sums most."""
CHART = {"values": SERIES, "sd": 1.0}


@pytest.mark.parametrize(
    ("plugin", "function", "inputs"),
    [
        ("statistics", "statistics", {"values": SERIES, "quantiles": [0.01, 0.99]}),
        ("statistics", "rolling-mean", {"values": SERIES, "window": 1000}),
        ("statistics", "linear-fit", {"y": SERIES}),
        ("vibration", "fft", {"samples": SERIES[:-1], "rate_hz": 25600.0}),
        ("vibration", "vibration", {"samples": SERIES, "rate_hz": 25600.0, "band_edges": [10.0, 1000.0, 10000.0]}),
        ("vibration", "velocity-rms", {"samples": SERIES, "rate_hz": 25600.0}),
        ("anomaly", "zscore", {**CHART, "mean": 0.0}),
        ("anomaly", "ewma", {**CHART, "values": SERIES[:10_000], "target": 0.0}),
    ],
)
async def test_a_long_series_fits_into_memory_and_answer(plugin: str, function: str, inputs: dict[str, Any]) -> None:
    manifest = next(version.manifest for version in versions() if version.manifest.id == plugin)
    async with worker() as pool:
        for _ in range(3):
            answer = await call(pool, manifest, function, inputs)

            assert answer.fault is None, answer.message
            assert not answer.spent, "the worker would have to be replaced"


async def test_numpy_starts_no_threads_in_a_worker() -> None:
    """Each would take a processor from another worker, and address space from its function."""
    async with worker() as pool:
        manifest = read_manifest(SHIPPED_FUNCTIONS / "vibration")
        await call(pool, manifest, "fft", {"samples": SERIES, "rate_hz": 25600.0})

        (process,) = pool._living
        assert threads_of(process.pid) == 1


def threads_of(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))
