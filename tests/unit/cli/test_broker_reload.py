"""What whoever has started the broker does when its files change."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from plugins.api.certificates import key_text
from services.cli import broker_reload
from services.cli.authority import make_authority
from services.cli.broker_reload import BrokerReload
from tests.conftest import Eventually

RULES = "user viewer\ntopic read a\n"


@dataclass
class Followed:
    """A broker's files, and what was done for them."""

    folder: Path
    done: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def write(self, name: str, text: str) -> None:
        """In its place as a whole."""
        (self.folder / "new").write_text(text)
        (self.folder / "new").replace(self.folder / name)


def pem() -> str:
    made = make_authority(site="plant", now=datetime.now(UTC))
    return (key_text(made.key) + made.certificate.public_bytes(serialization.Encoding.PEM)).decode()


@asynccontextmanager
async def followed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Followed]:
    monkeypatch.setattr(broker_reload, "LOOK_S", 0.02)
    files = Followed(folder)
    for name, text in (("acl", RULES), ("passwords", "viewer:x\n"), ("server.pem", "old")):
        files.write(name, text)

    async def restart() -> None:
        """Of a broker."""
        files.done.append("restart")

    reload = BrokerReload(
        [folder / name for name in ("acl", "passwords", "server.pem")],
        access=folder / "acl",
        reload=lambda: files.done.append("reload"),
        certificate=folder / "server.pem",
        restart=restart,
        tell=files.told.append,
    )
    reload.begin()
    running = asyncio.create_task(reload.run())
    yield files
    running.cancel()
    await asyncio.wait([running])


async def test_for_another_certificate_the_broker_is_started_anew_once_and_not_for_passwords(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    async with followed(tmp_path, monkeypatch) as files:
        files.write("server.pem", pem())
        files.write("passwords", "viewer:y\n")
        await eventually(lambda: files.done == ["restart"])

        files.write("passwords", "viewer:z\n")

        await eventually(lambda: files.done == ["restart", "reload"])


@pytest.mark.parametrize("fault", ["a piece", ""])
async def test_a_broker_is_not_started_anew_for_a_certificate_that_it_cannot_use_and_reads_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eventually: Eventually, fault: str
) -> None:
    async with followed(tmp_path, monkeypatch) as files:
        files.write("server.pem", fault)
        await eventually(lambda: any("server.pem holds no certificate" in line for line in files.told))
        files.write("passwords", "viewer:z\n")
        await eventually(lambda: files.done == ["reload", "reload"])

        files.write("server.pem", pem())

        await eventually(lambda: files.done == ["reload", "reload", "restart"])


async def test_a_new_certificate_waits_for_rules_that_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    async with followed(tmp_path, monkeypatch) as files:
        files.write("acl", "user view")
        files.write("server.pem", pem())
        await eventually(lambda: any("acl is not whole" in line for line in files.told))
        assert files.done == []

        files.write("acl", RULES)

        await eventually(lambda: files.done == ["restart"])
