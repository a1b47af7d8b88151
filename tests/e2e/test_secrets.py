"""No secret of a site stands anywhere but in its own file: no log, command line, environment, output or image."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from services.cli.settings import read_broker
from services.cli.site import TREE, Site, make_site
from tests.account_client import DEADLINE_S, AccountClient
from tests.e2e.test_up import START_S, dinrail, up
from tests.polling import until
from tests.ports import site_ports

ERRORS = (
    ["read", "no-such-device"],
    ["--as", "viewer", "--password-file", "wrong", "tags"],
    ["users", "add", "anna", "viewer", "--generate"],
    ["users", "passwd", "anna", "--password-file", "typed"],
)
TYPED = "Correct-Horse-7-Battery"


def secrets_of(site: Site) -> dict[str, bytes]:
    """What nobody may see: passwords, and a line out of each private key."""
    found = {"typed": TYPED.encode()}
    for path in (*(site.folder / "secrets").iterdir(), site.broker / "server.pem"):
        data = path.read_bytes().strip()
        if b"PRIVATE KEY" in data:
            data = data.partition(b"PRIVATE KEY-----\n")[2].splitlines()[1]
        found[path.name] = data
    assert all(len(secret) >= 16 for secret in found.values())
    return found


def leaks(secrets: dict[str, bytes], data: bytes, place: object) -> list[str]:
    """Which of them stand in the data."""
    return [f"{name} in {place}" for name, secret in secrets.items() if secret in data]


def processes_below(pid: int) -> Iterator[int]:
    """The process and all that it has started."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            yield from processes_below(int(child))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Made by `dinrail init`, with a umask that keeps nobody from anything."""
    site = Site(tmp_path / "site")
    made = subprocess.run(
        [sys.executable, "-m", "services.cli.main", "init", "--dir", str(site.folder)],
        umask=0,
        check=True,
        capture_output=True,
    )
    site.settings_file.unlink()  # made again, with ports that are free
    make_site(site, name="plant", example=None, ports=site_ports())
    assert leaks(secrets_of(site), made.stdout + made.stderr, "what init says") == []
    (tmp_path / "wrong").write_text("wrong")
    (tmp_path / "typed").write_text(TYPED)
    return site


def test_only_their_owner_reads_secrets_whatever_the_umask(site: Site) -> None:
    private = [*(site.folder / "secrets").iterdir(), site.users_file, site.broker / "passwords", site.broker / "acl"]

    assert {path.name: oct(path.stat().st_mode & 0o777) for path in private if path.stat().st_mode & 0o077} == {}
    assert (site.folder / "secrets").stat().st_mode & 0o777 == 0o700


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_no_secret_is_in_a_log_a_command_line_an_environment_or_an_output(site: Site, tmp_path: Path) -> None:
    found = []
    async with up(site, "--no-watch") as running:
        await until(lambda: all_are_connected(site), START_S)
        for account, password in (("viewer", "wrong"), ("nobody", "x")):
            client = AccountClient(read_broker(site)[1].port, account, password)
            client.connected.get(timeout=DEADLINE_S)
            client.close()
        for arguments in ERRORS:
            _, said = await dinrail(
                *arguments, *(() if "--help" in arguments else ("--dir", str(site.folder))), folder=tmp_path
            )
            found += leaks(secrets_of(site), said.encode(), arguments)
        secrets = secrets_of(site)
        crashed = next(pid for pid, command in running.children().items() if "services.gateway" in command)
        os.kill(crashed, signal.SIGSEGV)
        found += leaks_of_processes(secrets, running.process.pid)
    found += leaks(secrets, running.text.encode(), "what up says")

    assert found + leaks_of_files(secrets, site) == []


def leaks_of_processes(secrets: dict[str, bytes], pid: int) -> list[str]:
    """What stands in the command lines and environments of this process and those below it."""
    seen = [Path(f"/proc/{one}/{what}") for one in processes_below(pid) for what in ("cmdline", "environ")]
    found = []
    for path in seen:
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile, as who was killed just now
            found += leaks(secrets, path.read_bytes(), path)
    return found


def leaks_of_files(secrets: dict[str, bytes], site: Site) -> list[str]:
    """What stands in the site's files, logs and databases among them, but for those of the secrets."""
    own = [site.broker / "server.pem", *(site.folder / "secrets").iterdir()]
    files = [path for path in site.folder.rglob("*") if path.is_file() and path not in own]
    return [leak for path in files for leak in leaks(secrets, path.read_bytes(), path)]


def all_are_connected(site: Site) -> bool:
    """Whether all five services say so in their logs."""
    return sum("broker_connected" in path.read_text() for path in site.logs.glob("*.log")) >= 5


def test_no_key_or_password_is_in_the_source_tree_and_images_take_named_folders_of_it_alone() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=TREE, capture_output=True, text=True, check=True).stdout.split()
    ignored = (TREE / ".dockerignore").read_text().split()

    assert [name for name in tracked if name.endswith((".password", ".token", ".key", ".pem"))] == []
    assert ignored[0] == "*"
    assert {line[1:] for line in ignored if line.startswith("!")} == {
        *("constraints.txt", "pyproject.toml", "README.md", "contracts", "plugins", "services", "examples")
    }
