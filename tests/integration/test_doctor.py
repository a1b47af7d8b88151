"""`dinrail doctor` at a real broker: each thing that is wrong is named with its mend."""

import asyncio
import os
import shutil
import signal
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from services.cli.main import app
from tests.e2e.stack import SITE, Stack
from tests.integration.tls_site import password, shown, spoil
from tests.polling import until
from tests.ports import listens

Spoil = Callable[[Stack], object]


async def begin(stack: Stack) -> None:
    await stack.start("broker")
    await until(lambda: listens(stack.ports.broker_websockets), 30, what="the broker listens for WebSockets")


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """A site whose broker does not run yet."""
    stack = Stack.make(tmp_path / "site", example=None)
    yield stack
    await stack.close()


async def doctor(folder: Path) -> tuple[int, list[str]]:
    result = await asyncio.to_thread(CliRunner().invoke, app, ["doctor", "--dir", str(folder)])
    return result.exit_code, result.output.splitlines()


BESIDE = ("no such service is on the bus", "nothing keeps this machine's clock right")
"""In most of these tests the broker runs alone, and what keeps the clock of the tests' machine right is its own."""


def of(lines: list[str], state: str) -> str:
    return "\n".join(line for line in lines if line.startswith(state) and not any(one in line for one in BESIDE))


SERVICES = ("identity", "gateway", "recorder", "orchestrator", "compute")


async def test_of_a_sound_site_all_is_well(stack: Stack) -> None:
    await begin(stack)
    for service in SERVICES:
        stack.service(service)
        await stack.start(service)
    ports = [getattr(stack.ports, service) for service in SERVICES]
    await until(lambda: all(healthy(port) for port in ports), 60, what="every service is well")

    looks: list[tuple[int, list[str]]] = []
    well = "compute, gateway, identity, orchestrator, recorder are on the bus and say that all is well"

    async def all_say_so() -> bool:
        """On the bus too, by now."""
        looks.append(await doctor(stack.site.folder))
        return well in of(looks[-1][1], "OK")

    await until(all_say_so, 60, what="every service says so")
    code, lines = looks[-1]

    assert (code, of(lines, "FAIL"), of(lines, "WARN")) == (0, "", "")
    assert [line for line in lines if line.startswith("OK    recorder: ")]
    assert lines[-1].startswith(f"{stack.site.folder}: 0 failures, ")


def healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


FILES: dict[str, tuple[Spoil, tuple[str, ...]]] = {
    "an open password": (
        lambda stack: stack.site.password("viewer").chmod(0o644),
        ("viewer.password: others", "chmod u=rw,go= "),
    ),
    "an open folder": (lambda stack: stack.site.broker.chmod(0o755), ("others than its owner", "chmod u=rwx,go= ")),
    "a clock that was set back": (
        lambda stack: os.utime(stack.site.settings_file, (time.time() + 7200,) * 2),
        ("2.0 h newer: set the clock",),
    ),
    "an authority that did not sign": (
        lambda stack: spoil(stack, foreign=True),
        ("has not signed it; `dinrail init`", "was not signed by the authority in"),
    ),
    "an old certificate": (lambda stack: spoil(stack, days_ago=1000), ("has ended on", "has expired")),
    "another name": (lambda stack: spoil(stack, hosts=("elsewhere",)), ("is not for 127.0.0.1",)),
    "a wrong password": (
        lambda stack: stack.site.password("viewer").write_text("wrong\n"),
        ("refuses the account viewer", "password file"),
    ),
    "no password": (lambda stack: stack.site.password("viewer").unlink(), ("viewer.password: No such file",)),
    "a password file of something else": (
        lambda stack: stack.site.password("viewer").write_bytes(b"\xff\xfe"),
        ("viewer.password: no password, for it is not UTF-8 text",),
    ),
    "settings that cannot be read": (lambda stack: stack.site.settings_file.write_text("brokr: 1\n"), ("brokr",)),
}


@pytest.mark.parametrize(("spoiled", "told"), FILES.values(), ids=FILES.keys())
async def test_what_is_wrong_is_named_with_its_mend_and_exits_with_1(
    stack: Stack, spoiled: Spoil, told: tuple[str, ...]
) -> None:
    secret = password(stack)
    spoiled(stack)
    await begin(stack)

    code, lines = await doctor(stack.site.folder)

    assert code == 1
    assert not [part for part in told if part not in of(lines, "FAIL")], lines
    assert not [line for line in lines if secret in line]


async def test_a_certificate_that_is_soon_to_end_is_a_warning(stack: Stack) -> None:
    spoil(stack, days_ago=800)
    await begin(stack)

    _, lines = await doctor(stack.site.folder)

    assert of(lines, "FAIL") == ""
    assert of(lines, "WARN").count("`dinrail init` renews it") == 3


async def test_without_a_broker_each_port_is_named(stack: Stack) -> None:
    code, lines = await doctor(stack.site.folder)

    assert code == 1
    ports = (stack.ports.broker, stack.ports.broker_tls, stack.ports.broker_websockets)
    assert [f":{port} does not answer" in of(lines, "FAIL") for port in ports] == [True] * 3


async def test_a_port_that_shows_an_older_certificate_than_the_files_is_told_until_the_broker_has_read_them(
    stack: Stack,
) -> None:
    await begin(stack)
    before = shown(stack)
    spoil(stack)

    _, lines = await doctor(stack.site.folder)
    assert of(lines, "FAIL") == ""
    assert of(lines, "WARN").count("the broker shows another certificate") == 2

    stack.processes["broker"].send_signal(signal.SIGHUP)
    await until(lambda: shown(stack) != before, 30)
    _, lines = await doctor(stack.site.folder)
    assert of(lines, "FAIL") == ""
    assert f":{stack.ports.broker_tls}: the broker shows" not in of(lines, "WARN")


def aim(stack: Stack, *, port: int, tls: bool) -> None:
    """The settings name this port, with TLS or without."""
    broker = {"host": "127.0.0.1", "port": port, "listen": {"tls_port": None, "websocket_port": None}}
    if tls:
        broker["tls"] = {"ca_file": str(stack.site.certificates.authority)}
    stack.site.settings_file.write_text(yaml.safe_dump({"site": SITE, "broker": broker}))


async def test_a_port_of_the_other_kind_and_a_broker_that_hangs_are_told_apart(stack: Stack) -> None:
    await begin(stack)
    aim(stack, port=stack.ports.broker_tls, tls=False)
    plain = of((await doctor(stack.site.folder))[1], "FAIL")
    aim(stack, port=stack.ports.broker, tls=True)
    secured = of((await doctor(stack.site.folder))[1], "FAIL")
    aim(stack, port=stack.ports.broker, tls=False)
    stack.processes["broker"].send_signal(signal.SIGSTOP)
    try:
        hangs = of((await doctor(stack.site.folder))[1], "FAIL")
    finally:
        stack.processes["broker"].send_signal(signal.SIGCONT)

    assert f":{stack.ports.broker_tls} has ended the connection before it answered the login: if that is its" in plain
    assert f":{stack.ports.broker} does not answer the TLS handshake: if that is its port for plain MQTT" in secured
    assert f":{stack.ports.broker} does not answer (" in hangs
    assert "is it running" in hangs


async def test_a_folder_with_settings_the_authority_and_a_password_reaches_the_site_over_tls(
    stack: Stack, tmp_path: Path
) -> None:
    await begin(stack)
    folder = tmp_path / "elsewhere"
    (folder / "secrets").mkdir(parents=True, mode=0o700)
    shutil.copy(stack.site.certificates.authority, folder / "authority.pem")
    shutil.copy(stack.site.password("viewer"), folder / "secrets")
    broker = {"host": "localhost", "port": stack.ports.broker_tls, "tls": {"ca_file": "authority.pem"}}
    (folder / "dinrail.yaml").write_text(yaml.safe_dump({"site": SITE, "broker": broker}))

    code, lines = await doctor(folder)

    assert (code, of(lines, "FAIL"), of(lines, "WARN")) == (0, "", "")
    assert "logs in at localhost" in of(lines, "OK")
    assert "over TLS" in of(lines, "OK")
