"""No secret of a site stands anywhere but in its own file: no log, command line, environment, output or image."""

import subprocess
import sys
from pathlib import Path

import pytest

from services.cli.site import TREE, Site, make_site
from tests.ports import site_ports

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


def test_no_key_or_password_is_in_the_source_tree_and_images_take_named_folders_of_it_alone() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=TREE, capture_output=True, text=True, check=True).stdout.split()
    ignored = (TREE / ".dockerignore").read_text().split()

    assert [name for name in tracked if name.endswith((".password", ".token", ".key", ".pem"))] == []
    assert ignored[0] == "*"
    assert {line[1:] for line in ignored if line.startswith("!")} == {
        *("constraints.txt", "pyproject.toml", "README.md", "contracts", "plugins", "services", "examples")
    }
