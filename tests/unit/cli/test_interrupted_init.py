"""`dinrail init`, ended by SIGKILL, a full disk or a power cut at any moment: the next one makes a whole site of it."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier
from types import FrameType
from typing import Any

import pytest

from contracts.acl import OWN_ACCOUNTS
from plugins.api.certificates import read_certificates
from services.cli.authority import vouches_for
from services.cli.broker_certificates import Renewal
from services.cli.settings import read_settings
from services.cli.site import Ports, Site, make_site, write_broker_files
from services.cli.site_users import FIRST_USERS, read_users
from services.identity.password import is_hash_of

WRITERS = ("credentials", "site", "site_file", "site_users", "broker_certificates", "broker_files", "file_lock")
"""Modules that put something on the disk."""


def init(site: Site, *, renewal: Renewal = Renewal.DUE) -> list[str]:
    """As `dinrail init --example plant` does it."""
    made = make_site(site, name="plant", example="plant", ports=Ports())
    settings = read_settings(site)
    return made + write_broker_files(site, name=settings.site, broker=settings.broker, renewal=renewal)


def names(folder: Path) -> set[str]:
    """Every file and folder, but for what is made for a moment."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    return {name for name in found if ".partial" not in name}


@contextmanager
def kept_states(folder: Path, states: Path) -> Iterator[list[Path]]:
    """A copy of the folder as each line of ours left it on the disk that has changed something there."""
    copies: list[Path] = []
    known: Any = None

    def look() -> None:
        nonlocal known
        now = {(at, one.name, one.stat().st_mtime_ns) for at, *_ in os.walk(folder) for one in os.scandir(at)}
        if now != known:
            known = now
            copies.append(states / str(len(copies)))
            shutil.copytree(folder, copies[-1])

    def trace(frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        if Path(frame.f_code.co_filename).stem not in WRITERS:
            return None
        if folder.exists():
            look()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield copies
    finally:
        sys.settrace(before)


def assert_each_is_mended(states: list[Path], wanted: set[str]) -> None:
    """A next init makes a whole site of each of them."""
    for state in states:
        init(Site(state))
        assert_whole(Site(state), wanted)


def assert_whole(site: Site, wanted: set[str]) -> None:
    """What a site needs is there, and fits together."""
    assert names(site.folder) == wanted
    hashed = dict(line.split(":", 1) for line in (site.broker / "passwords").read_text().splitlines())
    for account in (*(one.name for one in OWN_ACCOUNTS), *FIRST_USERS):
        password = site.password(account).read_text().rstrip("\n")
        assert len(password) >= 40, account
        assert is_hash_of(hashed[account], password), account
    for secret in site.container_secrets:
        assert len(secret.read_text()) >= 40
    assert set(read_users(site.users_file)) == set(FIRST_USERS)
    authority, server = (read_certificates(path)[0] for path in (site.certificates.authority, site.certificates.server))
    assert vouches_for(authority, server)
    assert site.certificates.signing().belongs_together


@pytest.fixture(autouse=True)
def _unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of them would take most of the time, and no power is cut here."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def test_a_site_whose_init_was_killed_at_any_line_is_whole_after_the_next(tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    with kept_states(site.folder, tmp_path / "states") as states:
        init(site)
    wanted = names(site.folder)

    assert len(states) > len(wanted)
    assert_each_is_mended(states, wanted)


def test_a_site_whose_rotation_was_killed_at_any_line_is_whole_after_the_next_init(tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    init(site)
    wanted = names(site.folder)
    for path in site.folder.rglob("*"):
        os.utime(path, (0, 0))  # what is written in the same tick of the clock shows too
    with kept_states(site.folder, tmp_path / "states") as states:
        init(site, renewal=Renewal.SERVER)

    assert len(states) > len(OWN_ACCOUNTS)
    assert_each_is_mended(states, wanted)


def test_secrets_that_a_full_disk_has_left_empty_are_made_and_nobody_gets_in_without_a_password(tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    init(site)
    wanted = names(site.folder)
    for secret in (*(site.password(one.name) for one in OWN_ACCOUNTS), *site.container_secrets):
        secret.write_text("")

    told = init(site)

    assert f"{site.password('gateway')}: generated secret" in told
    assert_whole(site, wanted)


def test_of_inits_at_the_same_moment_one_makes_the_site_and_none_fails(tmp_path: Path) -> None:
    alone = Site(tmp_path / "alone")
    init(alone)
    wanted = names(alone.folder)
    site = Site(tmp_path / "site")
    together = Barrier(4)

    def begin(_: int) -> list[str]:
        together.wait(30)
        return init(site)

    with ThreadPoolExecutor(4) as people:
        told = [line for lines in people.map(begin, range(4)) for line in lines]

    assert sorted(told) == sorted(set(told))
    assert_whole(site, wanted)
