"""`dinrail init --rotate` under a running site: the services carry on with new passwords, and nothing is lost."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from contracts.acl import OWN_ACCOUNTS
from contracts.v1.service import SERVICE, ServiceStatus
from contracts.v1.stored import STORED
from plugins.api.certificates import read_certificates
from services.cli.authority import vouches_for
from services.cli.main import app
from services.cli.site import EXAMPLES, Site
from tests.e2e.stack import START_S, Stack, Viewer, viewer
from tests.integration.tls_site import shown
from tests.polling import until

DEVICE, GROUP = "servo", "motion"


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """A site whose one device needs no machine."""
    stack = Stack.make(tmp_path / "site", example=None)
    device = yaml.safe_load((EXAMPLES / "plant/devices/servo.yaml").read_text())
    device["groups"][GROUP]["interval"] = "20ms"
    stack.device(DEVICE, device)
    await stack.start("broker", "gateway", "recorder")
    yield stack
    await stack.close()


async def rotate(stack: Stack, *options: str) -> str:
    arguments = ["init", "--dir", str(stack.site.folder), *(options or ("--rotate",))]
    result = await asyncio.to_thread(CliRunner().invoke, app, arguments)
    assert result.exit_code == 0, result.output
    # What whoever has started the broker does when its certificate is another.
    await stack.stop("broker")
    await stack.start("broker")
    return result.output


def connections(stack: Stack, service: str) -> int:
    """How many times the service's connections have been made so far: the bus, and of a recorder the intake too."""
    lines = [json.loads(line) for line in stack.log(service).splitlines() if line.startswith("{")]
    return sum(line["event"] in ("broker_connected", "intake_connected") for line in lines)


def stored(view: Viewer) -> int:
    """Up to which number the recorder has every frame of the only epoch."""
    state = view.value(STORED, recorder="recorder", kind="frame", owner=DEVICE, stream=GROUP)
    if state is None or not state.epochs:
        return 0
    (epoch,) = state.epochs
    (begin, end), *rest = epoch.have
    return end if begin == 1 and not rest else 0


async def further(view: Viewer, what: str) -> int:
    """Returns once twenty more frames are stored without a gap."""
    before = len(view.frames.get((DEVICE, GROUP), []))
    await view.wait(lambda: len(view.frames.get((DEVICE, GROUP), [])) >= before + 20, f"twenty more frames {what}")
    last = view.frames[DEVICE, GROUP][-1].seq
    await view.wait(lambda: stored(view) >= last, f"frame {last} is stored {what}")
    return last


async def test_under_rotated_secrets_all_services_carry_on_and_no_frame_is_lost(stack: Stack) -> None:
    passwords = {path: path.read_text() for path in stack.site.folder.glob("secrets/*.password")}
    inodes = {path: path.stat().st_ino for path in passwords}
    certificate = stack.site.certificates.server.read_bytes()
    services = {name: process for name, process in stack.processes.items() if name != "broker"}
    async with viewer(stack) as view:
        await further(view, "before")
        made = {name: connections(stack, name) for name in ("gateway", "recorder")}

    output = await rotate(stack)

    for name, before in made.items():
        parts = 2 if name == "recorder" else 1
        await until(lambda name=name, wanted=before + parts: connections(stack, name) >= wanted, START_S)
    async with viewer(stack) as view:
        last = await further(view, "after")
        state = view.value(SERVICE, service="gateway", instance="gateway")
        assert state is not None
        assert state.state is ServiceStatus.ONLINE
        assert last > 40

    assert {name: stack.processes[name] for name in services} == services
    assert all(process.returncode is None for process in stack.processes.values())
    changed = {path.stem for path, text in passwords.items() if path.read_text() != text}
    assert changed == {account.name for account in OWN_ACCOUNTS}
    assert {path: path.stat().st_ino for path in passwords} == inodes, "a container has the file mounted"
    assert stack.site.certificates.server.read_bytes() != certificate
    assert not [text for path in passwords if (text := path.read_text().strip()) in output + stack.log("gateway")]


@pytest.mark.parametrize("options", [("--rotate",), ("--rotate-authority",)])
async def test_the_running_broker_shows_a_renewed_certificate_which_its_authority_vouches_for(
    stack: Stack, options: tuple[str, ...]
) -> None:
    certificates = stack.site.certificates
    authority = certificates.authority.read_bytes()

    await rotate(stack, *options)

    wanted = read_certificates(certificates.server)[0]
    await until(lambda: shown(stack) == wanted, START_S)
    assert vouches_for(read_certificates(certificates.authority)[0], wanted)
    assert (certificates.authority.read_bytes() == authority) == (options == ("--rotate",))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda site: site.certificates.authority_key.unlink(), "authority.key: cannot be read"),
        (lambda site: site.users_file.write_text("users: 1\n"), "users.yaml"),
    ],
    ids=["no key of the authority", "a fault in users.yaml"],
)
def test_where_the_broker_could_not_be_told_nothing_is_rotated(
    tmp_path: Path, spoil: Callable[[Site], object], told: str
) -> None:
    site = Stack.make(tmp_path / "site", example=None).site
    spoil(site)
    before = {path: path.read_bytes() for path in site.folder.rglob("*") if path.is_file()}

    result = CliRunner().invoke(app, ["init", "--dir", str(site.folder), "--rotate"])

    assert result.exit_code == 2
    assert told in result.output
    assert {path: path.read_bytes() for path in before} == before
