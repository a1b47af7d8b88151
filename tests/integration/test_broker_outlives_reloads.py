"""No client of ours brings down mosquitto 2.0 when it reads its files again: it puts a session whose owner is away and
has another password by then on its list of sessions to end a second time, and then uses it after it is gone.
"""

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.cli.connection import Access, connected
from services.cli.credentials import password_file
from tests.account_client import AccountClient
from tests.integration.clients import make_intake, taking
from tests.polling import until
from tests.real_broker import SITE, Broker
from tests.real_bus import WAIT_S

ACCOUNTS = {"recorder": "recorder's", "gateway": "gateway's", "viewer": "viewer's", "operator": "operator's"}
FREED_MEMORY_IS_SPOILT = "glibc.malloc.tcache_count=0:glibc.malloc.perturb=165"
"""So that its use ends the process at once and not some day (mallopt(3), M_PERTURB)."""


@pytest.fixture
async def strict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Broker]:
    monkeypatch.setenv("GLIBC_TUNABLES", FREED_MEMORY_IS_SPOILT)
    at_once = {"log_dest stdout": "log_dest stderr"}
    broker = Broker(tmp_path / "broker", accounts=ACCOUNTS, users=None, replace=at_once)
    await asyncio.to_thread(broker.start)
    yield broker
    await asyncio.to_thread(broker.stop)


async def login(broker: Broker, account: str, password: str, client_id: str | None = None) -> bool:
    """Comes, and goes again; whether it was let in."""
    client = await asyncio.to_thread(AccountClient, broker.port, account, password, client_id=client_id)
    await until(lambda: not client.connected.empty() or client.ended.is_set(), WAIT_S, what="an answer")
    let_in = not client.connected.empty() and client.connected.get().getName() == "Success"
    await asyncio.to_thread(client.close)
    return let_in


async def reread(broker: Broker, accounts: dict[str, str], known_by: str) -> None:
    """Returns once the broker has read these passwords; known_by: of which account it was another before."""
    assert broker.process is not None
    (broker.folder / "passwords").write_text(password_file(accounts, present=""))
    broker.process.send_signal(signal.SIGHUP)
    await until(lambda: login(broker, known_by, accounts[known_by]), WAIT_S, what="the passwords are read")


@asynccontextmanager
async def outlived(strict: Broker) -> AsyncIterator[None]:
    """What is done inside does not end the broker, which looks through its sessions afterwards: each second it ends
    those that are due, and says so. Nobody connects meanwhile, whose memory would take the place of what was freed.
    """
    process = strict.process
    assert process is not None
    client = await asyncio.to_thread(
        AccountClient, strict.port, "gateway", ACCOUNTS["gateway"], client_id="a-short-one", session_s=1
    )
    await asyncio.to_thread(client.connected.get, timeout=WAIT_S)
    yield
    await asyncio.to_thread(client.close)
    expired = "Expiring client a-short-one"
    await until(lambda: expired in strict.log or process.poll() is not None, WAIT_S, what="a look")
    assert process.poll() is None


async def test_a_command_line_that_has_gone_when_its_users_password_changes(strict: Broker) -> None:
    async with connected(Access(SITE, strict.settings(), ACCOUNTS["viewer"])):
        pass
    names = re.findall(r" as (viewer-\S+) \(", strict.log)
    assert names

    await reread(strict, {**ACCOUNTS, "viewer": "another"}, known_by="viewer")

    async with outlived(strict):
        for name in names:  # who names a session ends it, and what is wrong with it shows at once
            await login(strict, "gateway", ACCOUNTS["gateway"], client_id=name)


async def test_a_recorder_that_is_away_while_the_broker_is_started_anew_and_users_change(strict: Broker) -> None:
    async def record() -> None:
        """Opens the session that keeps its messages, and goes away."""
        async with taking(make_intake(strict)):
            pass

    await record()
    await asyncio.to_thread(strict.stop)
    await asyncio.to_thread(strict.start)
    for password in ("one", "two"):
        await reread(strict, {**ACCOUNTS, "operator": password}, known_by="operator")

    async with outlived(strict):
        await record()
