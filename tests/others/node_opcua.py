"""node-opcua as a server for tests: fetched with npm into the user's cache the first time, and then run by node."""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fetched import kept

PACKAGE = "node-opcua@2.186.4"
SERVER = Path(__file__).with_name("opcua_server.cjs")
FETCH_S = 90


def modules() -> Path:
    """The folder with the package. Skips the test, with the reason, where it cannot be had."""
    with kept(PACKAGE) as folder:
        if not (folder / "whole").exists():
            _fetch(folder)
        return folder / "node_modules"


def _fetch(folder: Path) -> None:
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip(f"{PACKAGE} needs node and npm, which are not installed")
    fetch = ["npm", "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund", PACKAGE]
    try:
        done = subprocess.run(fetch, capture_output=True, text=True, timeout=FETCH_S, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{PACKAGE} was not fetched within {FETCH_S} s")
    if done.returncode:
        pytest.skip(f"{PACKAGE} cannot be fetched: {done.stderr.strip().splitlines()[-1:]}")
    (folder / "whole").touch()


class NodeServer:
    """A running server. url: its endpoint."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self._process = process
        self.url = url

    async def do(self, order: str, given: object = None) -> Any:
        """Gives an order of opcua_server.cjs and returns what it answers."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({order: given}).encode() + b"\n")
        return (await _told(self._process))["done"]

    async def kill(self) -> None:
        """Ends it as a pulled plug would."""
        self._process.kill()
        await self._process.wait()


async def _told(process: asyncio.subprocess.Process) -> dict[str, Any]:
    """The next line of JSON; what else is printed is passed over."""
    assert process.stdout is not None
    async with asyncio.timeout(60):
        while line := await process.stdout.readline():
            if line.startswith(b"{"):
                told: dict[str, Any] = json.loads(line)
                return told
    raise AssertionError("the server has ended")


@asynccontextmanager
async def node_server(folder: Path, port: int, *, rate: int | None = None) -> AsyncIterator[NodeServer]:
    """Runs it with its certificates in the folder. rate: changes a second of each of 1000 further variables."""
    process = await asyncio.create_subprocess_exec(
        "node",
        str(SERVER),
        str(port),
        str(folder),
        *([] if rate is None else [str(rate)]),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "NODE_PATH": str(modules())},
    )
    server = NodeServer(process, (await _told(process))["url"])
    try:
        yield server
    finally:
        if process.returncode is None:
            await server.kill()
