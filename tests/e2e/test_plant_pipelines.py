"""The pipelines of the demo plant on its simulated machines: each does what its file says."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import JsonValue

from contracts.acl import OPERATOR
from contracts.v1.alarm import ALARM, Alarm, AlarmStatus
from contracts.v1.pipeline import PIPELINE, RUN_PIPELINE, WORKSPACE, PipelineInfo, RunAccepted, RunPipeline
from contracts.v1.run import GET_RUN, GetRun
from contracts.v1.tag import TAG, TagValue
from services.cli.check import check
from services.cli.connection import ConnectionFailed, access_as, connected
from services.cli.site import EXAMPLES, Ports, Site, make_site
from services.runtime.bus import Bus, Delivery
from tests.ports import free_ports

PLANT = EXAMPLES / "plant"
NAMES = sorted(path.stem for path in (PLANT / "pipelines").glob("*.yaml"))
START_S = 60
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The demo plant's site, which starts."""
    site = Site(tmp_path_factory.mktemp("plant") / "site")
    make_site(site, name="plant", example="plant", ports=Ports(*free_ports(7)))
    command = (sys.executable, "-m", "services.cli.main", "up", "--dir", str(site.folder), "--no-watch")
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield site
    finally:
        running.terminate()
        running.wait(60)


@asynccontextmanager
async def operator(site: Site) -> AsyncIterator[Bus]:
    """Somebody at the plant, as soon as its broker is there."""
    access = access_as(OPERATOR.name, site)
    async with asyncio.timeout(START_S):
        while True:
            try:
                async with connected(access) as bus:
                    yield bus
                    return
            except ConnectionFailed:
                await asyncio.sleep(0.2)


async def there(bus: Bus, name: str) -> None:
    """Returns once there is this pipeline."""
    seen = asyncio.Event()

    async def heard(delivery: Delivery[PipelineInfo]) -> None:
        del delivery
        seen.set()

    bus.subscribe(PIPELINE, heard, pipeline=name)
    async with asyncio.timeout(START_S):
        await seen.wait()


async def run(bus: Bus, name: str, **inputs: JsonValue) -> RunAccepted:
    """A run of the pipeline to its end; while the machines are still connected to it is tried again."""
    asked = RunPipeline(inputs=inputs, wait=True)
    async with asyncio.timeout(START_S):
        while True:
            outcome = await bus.request(RUN_PIPELINE, asked, timeout_s=30, user=OPERATOR.name, scope=WORKSPACE, id=name)
            if outcome.result is not None:
                return outcome.result
            await asyncio.sleep(0.5)


async def output_of(bus: Bus, run: str, node: str) -> dict[str, Any]:
    outcome = await bus.request(GET_RUN, GetRun(), user=OPERATOR.name, scope=WORKSPACE, id=run)
    assert outcome.result is not None, outcome.error
    return outcome.result.nodes[node].output or {}


def test_the_folder_has_no_fault() -> None:
    findings = check(PLANT)

    assert not findings.faults
    assert [one.pipeline for one in findings.pipelines] == NAMES
    assert len(NAMES) >= 4


async def test_the_tank_gets_the_set_point_that_the_line_needs(site: Site) -> None:
    async with operator(site) as bus:
        await there(bus, "tank-level")
        done = await run(bus, "tank-level", lowest=80, highest=80)

        assert done.outputs is not None
        assert done.outputs["wanted"] == 80.0
        assert (await output_of(bus, done.run, "set"))["read_back"] == 80.0


async def test_a_batch_of_caps_is_pressed_one_by_one(site: Site) -> None:
    async with operator(site) as bus:
        await there(bus, "cap-batch")
        done = await run(bus, "cap-batch", caps=2, stroke=20)

        assert done.outputs is not None
        assert done.outputs["pressed"] == 2
        batch = await output_of(bus, done.run, "batch")
        assert batch["rounds"] >= 2


async def test_the_operator_is_told_that_the_product_is_too_cold(site: Site) -> None:
    """As it is while the pasteuriser heats up, for two minutes after its start."""
    raised = asyncio.Event()

    async def heard(delivery: Delivery[Alarm]) -> None:
        if delivery.payload.state is not AlarmStatus.NORMAL:
            raised.set()

    async with operator(site) as bus:
        bus.subscribe(ALARM, heard, alarm="product-too-cold")
        async with asyncio.timeout(START_S):
            await raised.wait()


async def test_the_effectiveness_of_the_line_is_a_tag(site: Site) -> None:
    told: asyncio.Queue[TagValue] = asyncio.Queue()

    async def heard(delivery: Delivery[TagValue]) -> None:
        told.put_nowait(delivery.payload)

    async with operator(site) as bus:
        bus.subscribe(TAG, heard, device="line", tag="oee")
        await there(bus, "line-oee")
        await run(bus, "line-oee", looks=1000)
        done = await run(bus, "line-oee", looks=1)

        assert done.outputs is not None
        assert 0 <= done.outputs["availability"] <= 100
        async with asyncio.timeout(START_S):
            while (await told.get()).value != done.outputs["oee"]:
                pass


async def test_a_pump_that_is_new_does_not_stray(site: Site) -> None:
    async with operator(site) as bus:
        await there(bus, "pump-vibration")
        done = await run(bus, "pump-vibration")

    assert done.outputs is not None
    assert done.outputs["worn"] is False
    assert isinstance(done.outputs["stray"], float)
    assert abs(done.outputs["stray"]) < 1.0
