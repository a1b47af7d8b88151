"""`dinrail up`, `tags`, `watch` and their ends, as somebody at a terminal has them."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from services.cli.site import Site, make_site
from tests.conftest import Eventually
from tests.ports import site_ports

START_S = 100
STOP_S = 40
DINRAIL = (sys.executable, "-m", "services.cli.main")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """The demo plant's site on free ports, ready to start."""
    site = Site(tmp_path / "site")
    make_site(site, name="plant", example="plant", ports=site_ports())
    return site


@dataclass
class Up:
    """A running `dinrail up` and what it has printed."""

    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    ended: bool = False

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    async def until(self, condition: Callable[[], object]) -> None:
        """Waits for lines until the condition holds; all it printed is in the failure if it does not, or ends."""
        async with self.changed:
            try:
                async with asyncio.timeout(START_S):
                    await self.changed.wait_for(lambda: self.ended or condition())
            except TimeoutError:
                pytest.fail(f"not within {START_S} s:\n{self.text}")
        assert condition(), self.text

    def press_ctrl_c(self) -> None:
        """What the terminal does then: SIGINT to all of the process group that runs in it."""
        os.killpg(self.process.pid, signal.SIGINT)

    async def read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            async with self.changed:
                self.lines.append(line.decode().rstrip())
                self.changed.notify_all()
        async with self.changed:
            self.ended = True
            self.changed.notify_all()

    def children(self) -> dict[int, str]:
        """Every process that it has started: command line by process id."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                command = (folder / "cmdline").read_text().replace("\0", " ")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if parent == self.process.pid and command:
                found[int(folder.name)] = command
        return found


@asynccontextmanager
async def up(site: Site, *arguments: str) -> AsyncIterator[Up]:
    command = (*DINRAIL, "up", "--dir", str(site.folder), *arguments)
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, process_group=0
    )
    running = Up(process)
    reading = asyncio.create_task(running.read())
    try:
        yield running
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(STOP_S):
            await process.wait()
            await reading


async def dinrail(*arguments: str, folder: Path | None = None) -> tuple[int, str]:
    """Exit code and output of one call, made in this folder."""
    process = await asyncio.create_subprocess_exec(
        *DINRAIL, *arguments, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(START_S):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode is not None
    return process.returncode, output.decode()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def whole(text: str) -> bool:
    """Whether a line says that all of at least 60 tags are good."""
    counts = [line.split("  ", 1)[1].split() for line in text.splitlines() if " tags, " in line]
    return any(int(words[0]) >= 60 and words[0] == words[2] for words in counts)


async def test_values_of_the_whole_plant_flow_and_ctrl_c_leaves_nothing_behind(
    site: Site, eventually: Eventually
) -> None:
    async with up(site) as running:
        await running.until(lambda: whole(running.text))
        await eventually(lambda: len(running.children()) == 7, START_S)
        children = running.children()

        code, output = await dinrail("tags", "--dir", str(site.folder), "--json")
        listed = json.loads(output)
        assert code == 0, output
        assert listed["missing"] == []
        assert {service["service"] for service in listed["services"]} >= {"gateway", "recorder"}
        assert {device["state"] for device in listed["devices"]} == {"online"}
        assert len(listed["tags"]) >= 60

        running.press_ctrl_c()
        async with asyncio.timeout(STOP_S):
            assert await running.process.wait() == 0, running.text

    assert not [pid for pid in children if alive(pid)]
    assert "all processes ended cleanly" in running.text


async def test_pipelines_run_and_all_services_say_that_they_are_there(site: Site, eventually: Eventually) -> None:
    async with up(site, "--no-watch"):
        async with asyncio.timeout(START_S):
            while (ran := await dinrail("run", "tank-level", "--timeout", "3", "--dir", str(site.folder)))[0] != 0:
                assert ran[0] in (1, 2), ran  # not there yet
        assert "wanted" in ran[1]

        async def are_shown(*told: str) -> bool:
            """Whether all of this is: an alarm is raised after its delay, and services begin one after the other."""
            _, text = await dinrail("tags", "servo", "--dir", str(site.folder))
            return all(re.search(one, text) for one in told)

        async def are_online(*services: str) -> bool:
            _, output = await dinrail("tags", "--dir", str(site.folder), "--json")
            states = {service["service"]: service["state"] for service in json.loads(output)["services"]}
            return states == dict.fromkeys(services, "online")

        # The product is too cold while the pasteuriser heats up.
        told = (r"pipeline tank-level +done", r"alarm product-too-cold +active unacked")
        await eventually(lambda: are_shown(*told), START_S)
        await eventually(lambda: are_online("gateway", "recorder", "orchestrator", "compute", "identity"), START_S)


async def test_a_site_that_was_made_before_there_were_pipelines_runs_all_services_and_sigterm_ends_them_cleanly(
    site: Site,
) -> None:
    settings = site.settings_file.read_text()
    old, _, rest = settings.partition("orchestrator:\n")
    site.settings_file.write_text(old + "demo:" + rest.partition("\ndemo:")[2])
    for account in ("orchestrator", "compute"):
        site.password(account).unlink()

    async with up(site, "--no-watch") as running:
        async with asyncio.timeout(START_S):
            while (listed := await dinrail("pipeline", "list", "--dir", str(site.folder)))[0] != 0:
                assert listed[0] in (1, 2), listed  # not there yet
        children = running.children()
        assert len(children) == 7

        running.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(STOP_S):
            assert await running.process.wait() == 0, running.text

    assert not [pid for pid in children if alive(pid)]
    assert "all processes ended cleanly" in running.text


async def test_a_second_ctrl_c_does_not_wait_for_a_process_that_does_not_end(
    site: Site, eventually: Eventually
) -> None:
    async with up(site, "--no-watch") as running:
        await eventually(lambda: len(running.children()) == 7, START_S)
        children = running.children()
        (gateway,) = [pid for pid, command in children.items() if "services.gateway" in command]
        os.kill(gateway, signal.SIGSTOP)
        running.press_ctrl_c()
        await running.until(lambda: "stopping" in running.text)

        def killed_by_another_press() -> bool:
            if alive(gateway):
                running.press_ctrl_c()
            return not alive(gateway)

        await eventually(killed_by_another_press, STOP_S)
        async with asyncio.timeout(STOP_S):
            assert await running.process.wait() == 1, running.text

    assert not [pid for pid in children if alive(pid)]
    assert "did not end within" not in running.text
    assert "not everything went well" in running.text


async def test_a_killed_process_is_started_again_and_values_return(site: Site, eventually: Eventually) -> None:
    async with up(site) as running:
        await running.until(lambda: whole(running.text))
        for killed, name in enumerate(("gateway", "mosquitto"), 1):
            (victim,) = [pid for pid, command in running.children().items() if name in command]
            os.kill(victim, signal.SIGKILL)
            await running.until(lambda killed=killed: running.text.count("was killed by SIGKILL") == killed)
            before = len(running.lines)

            await eventually(lambda: len(running.children()) == 7, START_S)
            await running.until(lambda before=before: whole("\n".join(running.lines[before:])))


async def test_after_the_supervisors_violent_end_no_process_is_left(site: Site, eventually: Eventually) -> None:
    async with up(site) as running:
        await eventually(lambda: len(running.children()) == 7, START_S)
        children = running.children()

        running.process.kill()

        await eventually(lambda: not [pid for pid in children if alive(pid)])


async def test_a_taken_port_is_named_with_its_setting_before_anything_starts(site: Site) -> None:
    settings = site.settings_file.read_text()
    port = int(settings.partition("http_port: ")[2].split()[0])
    with socket.create_server(("127.0.0.1", port)):
        code, output = await dinrail("up", "--dir", str(site.folder))

    assert code == 2
    assert f"port {port} (gateway.http_port) is taken" in output
    assert not site.logs.exists()


async def test_a_duration_ends_a_site_named_by_a_relative_path_cleanly(site: Site) -> None:
    arguments = ("up", "--dir", site.folder.name, "--duration", "4", "--no-watch")
    code, output = await dinrail(*arguments, folder=site.folder.parent)

    assert code == 0, output
    assert "all processes ended cleanly" in output


async def test_watch_shows_changes_and_frames_of_what_was_asked_for_and_a_wrong_password_is_said(site: Site) -> None:
    async with up(site, "--no-watch"):
        for arguments in ((), ("--frames",)):
            command = (*DINRAIL, "watch", "filler-plc/tank-level", "--json", "--dir", str(site.folder), *arguments)
            async with asyncio.timeout(START_S):
                lines = await first_lines(command, count=3)
            assert {line["device"] for line in lines} == {"filler-plc"}
            tags = {tag for line in lines for tag in line.get("v", {line.get("tag"): None})}
            assert tags == {"tank-level"}
        site.password("viewer").write_text("wrong\n")

        code, output = await dinrail("tags", "--dir", str(site.folder))

    assert code == 2
    assert "not authorized" in output.lower() or "password" in output.lower()


async def first_lines(command: tuple[str, ...], *, count: int) -> list[dict[str, object]]:
    """The first lines that the command prints, which is tried again while the site still starts."""
    lines: list[dict[str, object]] = []
    while len(lines) < count:
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        while len(lines) < count and (line := await process.stdout.readline()):
            lines.append(json.loads(line))
        if len(lines) == count:  # else it ends by itself, and a signal would take its exit code from asyncio
            process.send_signal(signal.SIGINT)
        await process.communicate()
        assert process.returncode in (0, 2)
    return lines


@pytest.mark.parametrize("command", ["tags", "watch"])
async def test_without_a_broker_that_is_said(site: Site, command: str) -> None:
    code, output = await dinrail(command, "--dir", str(site.folder))

    assert code == 2
    assert "does not answer" in output
