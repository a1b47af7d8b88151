"""Services in processes of their own, each with its account at a broker that has accounts."""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.integration.gateway_site import write_devices
from tests.real_broker import SITE, Broker


def gateway_config(broker: Broker, folder: Path, devices: Mapping[str, Mapping[str, Any]]) -> Path:
    """The settings file of a site with these devices, made in this folder."""
    write_devices(folder / "devices", devices)
    assert broker.accounts is not None
    (folder / "gateway.password").write_text(broker.accounts["gateway"])
    settings = {
        "site": SITE,
        "broker": {"host": "127.0.0.1", "port": broker.port},
        "logs": {"format": "json"},
        "gateway": {"password_file": "gateway.password"},
    }
    path = folder / "dinrail.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@asynccontextmanager
async def service_process(service: str, config: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """The service at work, its stderr in a pipe; killed at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"services.{service}",
        "--config",
        str(config),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
