"""A site is copied while its services run, brought back in another folder, and goes on there."""

import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.cli.site import Site
from tests.e2e.stack import Stack
from tests.e2e.test_up import dinrail
from tests.polling import until

SERVICES = ("broker", "plant", "recorder", "gateway", "identity", "orchestrator")
STOPPED = tuple(reversed(SERVICES))
START_S = 90
MINE = """\
pipeline: mine
nodes: {twice: {type: expression, expression: "x * 2", inputs: {x: inputs.x}}}
inputs: {x: {type: number, default: 3.0}}
"""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


async def of(site: Site, *words: str) -> tuple[int, str]:
    return await dinrail(*words, "--dir", str(site.folder))


async def levels(site: Site, since: datetime) -> list[object]:
    """The recorded values of one tag up to a time."""
    span = ("--since", "2020-01-01T00:00:00Z", "--until", since.isoformat())
    code, text = await of(site, "history", "filler-plc/tank-level", "--json", *span)
    return text.splitlines() if code == 0 else []


async def proved(site: Site) -> bool:
    return await ran(site, "recorder", "audit")


async def test_a_site_is_copied_while_it_runs_and_goes_on_elsewhere_with_all_it_had(tmp_path: Path) -> None:
    stack = Stack.make(tmp_path / "site", example="plant")
    for service in ("identity", "orchestrator"):
        stack.service(service)
    await stack.start(*SERVICES)
    archive, copy = tmp_path / "plant.tar.gz", Site(tmp_path / "elsewhere")
    try:
        (tmp_path / "mine.yaml").write_text(MINE)
        await until(lambda: ran(stack.site, "users", "add", "anna", "operator", "--generate"), START_S)
        await until(lambda: ran(stack.site, "pipeline", "save", str(tmp_path / "mine.yaml")), START_S)
        await until(lambda: proved(stack.site), START_S)
        before = datetime.now(UTC)
        await until(lambda: levels(stack.site, before), START_S)

        made = await of(stack.site, "backup", str(archive))

        kept = await levels(stack.site, before)
        versions = await of(stack.site, "pipeline", "versions", "mine")
    finally:
        for name in STOPPED:
            await stack.stop(name, within_s=60)
    back = await of(copy, "restore", str(archive))
    stack.site = copy
    for name, (command, environment) in stack.commands.items():
        moved = [part.replace(str(tmp_path / "site"), str(copy.folder)) for part in command]
        stack.commands[name] = (moved, environment)
    await of(copy, "init")
    await stack.start(*SERVICES)
    try:
        await until(lambda: proved(copy), START_S)
        found = await levels(copy, before)
        saved = await of(copy, "pipeline", "versions", "mine")
        users = await of(copy, "users", "list")
        chain = await of(copy, "events", "verify")
        audit = await of(copy, "recorder", "audit")
    finally:
        for name in STOPPED:
            await stack.stop(name, within_s=60)

    assert made[0] == 0, made
    assert back[0] == 0, back
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    assert len(kept) > 3
    assert found == kept
    assert saved == versions
    assert saved[0] == 0
    assert "anna" in users[1]
    assert chain[0] == 0, chain
    assert "+ 0 lost: nothing is missing" in audit[1].replace("\n", " "), audit


async def ran(site: Site, *words: str) -> bool:
    return (await of(site, *words))[0] == 0
