"""In what order a site's processes begin, with real processes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.cli import processes as processes_module
from services.cli.child import Program
from services.cli.processes import Processes
from tests.conftest import Eventually

SLEEPS = ("sleep", "60")


@asynccontextmanager
async def site(folder: Path, values: asyncio.Event) -> AsyncIterator[Processes]:
    """A gateway, and two that are to be late."""
    programs = [
        Program(name=name, command=SLEEPS, folder=folder, grace_s=5, late=late)
        for name, late in (("gateway", False), ("compute", True), ("orchestrator", True))
    ]
    made = Processes(programs, logs=folder / "logs", tell=lambda _: None, values=values)
    running = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        await made.stop()
        async with asyncio.timeout(30):
            await running


def begun(site: Processes) -> set[str]:
    return {name for name, child in site.children.items() if child.pid is not None}


async def test_who_is_late_begins_once_there_are_values(tmp_path: Path, eventually: Eventually) -> None:
    values = asyncio.Event()
    async with site(tmp_path, values) as running:
        await eventually(lambda: begun(running) == {"gateway"})
        await running.started("gateway")
        assert begun(running) == {"gateway"}

        values.set()
        await eventually(lambda: begun(running) == {"gateway", "compute", "orchestrator"})


async def test_who_is_late_begins_without_values_after_a_while(
    tmp_path: Path, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes_module, "VALUES_S", 0.05)
    async with site(tmp_path, asyncio.Event()) as running:
        await eventually(lambda: len(begun(running)) == 3)


async def test_who_is_late_does_not_begin_any_more_while_the_site_stops(tmp_path: Path) -> None:
    async with site(tmp_path, asyncio.Event()) as running:
        await running.started("gateway")
        clean = await running.stop()
        begun_then = begun(running)

    assert clean
    assert not begun_then
