"""`dinrail users` against a running identity service."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from contracts.v1.policy import Rights, Role
from services.cli.main import app
from services.cli.site_users import lost_passwords
from services.identity.password import PERSON_ITERATIONS, QUICK_ITERATIONS, is_hash_of
from tests.account_client import AccountClient
from tests.integration.identity_site import IdentitySite, identity_at_work, identity_site, is_in

PASSWORD = "correct horse battery"


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[IdentitySite]:
    async with identity_site(tmp_path / "site") as site, identity_at_work(site):
        yield site


async def dinrail(running: IdentitySite, *words: str, typed: str = "") -> Any:
    """The command's outcome; typed: its standard input."""
    folder = ["--dir", str(running.site.folder)]
    return await asyncio.to_thread(CliRunner().invoke, app, [*words, *folder], input=typed)


async def test_a_user_is_added_shown_changed_and_removed(running: IdentitySite) -> None:
    added = await dinrail(
        running, "users", "add", "anna", "operator", "--device", "plc", "--writes", "plc/level-*",
        "--workspace", "main", "--password-file", "-", typed=f"{PASSWORD}\n",
    )  # fmt: skip
    assert added.exit_code == 0, added.output
    assert "added anna: operator; devices: plc; writes: plc/level-*; workspaces: main" in added.output
    assert "there is no device plc" in added.output
    await running.let_in("anna", PASSWORD)

    changed = await dinrail(running, "users", "role", "anna", "engineer")
    assert changed.exit_code == 0, changed.output
    listed = await dinrail(running, "users", "list")
    assert ["anna", "engineer", "all", "all", "all"] in [line.split() for line in listed.output.splitlines()]

    removed = await dinrail(running, "users", "remove", "anna")
    assert removed.exit_code == 0, removed.output
    assert "anna" not in running.users


async def test_a_password_neither_travels_nor_stands_in_what_is_printed(running: IdentitySite) -> None:
    watcher = await running.login("identity")
    await asyncio.to_thread(watcher.subscribe, "#")

    added = await dinrail(running, "users", "add", "anna", "viewer", "--password-file", "-", typed=f"{PASSWORD}\n")

    assert PASSWORD not in added.output
    assert PASSWORD not in running.site.users_file.read_text()
    hashed = running.users["anna"].password
    assert is_hash_of(hashed, PASSWORD)
    assert hashed.split("$")[2] == str(PERSON_ITERATIONS)
    seen = await asyncio.to_thread(_until_added, watcher)
    assert b"$7$" in seen[-1]
    assert not any(PASSWORD.encode() in payload for payload in seen)


def _until_added(watcher: AccountClient) -> list[bytes]:
    """What the identity service's account gets, the command that adds anna last."""
    payloads = []
    while True:
        message = watcher.received.get(timeout=30)
        payloads.append(message.payload)
        if message.topic.endswith("/anna/add/all"):
            return payloads


async def test_a_generated_password_is_kept_where_the_command_line_finds_it(running: IdentitySite) -> None:
    added = await dinrail(running, "users", "add", "anna", "operator", "--generate")

    assert added.exit_code == 0, added.output
    file = running.site.password("anna")
    assert str(file) in added.output
    assert file.stat().st_mode & 0o777 == 0o600
    password = file.read_text().strip()
    assert password not in added.output
    assert running.users["anna"].password.split("$")[2] == str(QUICK_ITERATIONS)
    await running.let_in("anna", password)

    refused = await dinrail(running, "--as", "anna", "users", "list")
    assert refused.exit_code != 0
    assert "takes the role admin" in refused.output
    assert "Traceback" not in refused.output


async def test_an_admin_with_an_account_of_his_own_manages_users(running: IdentitySite, tmp_path: Path) -> None:
    file = tmp_path / "zoe"
    file.write_text(PASSWORD)
    await dinrail(running, "users", "add", "zoe", "admin", "--password-file", str(file))
    await running.let_in("zoe", PASSWORD)

    listed = await dinrail(running, "--as", "zoe", "--password-file", str(file), "users", "list", "--json")

    assert listed.exit_code == 0, listed.output
    assert '"zoe": {"role": "admin"}' in listed.output
    typed = await dinrail(running, "--as", "zoe", "users", "list", "--json", typed=f"{PASSWORD}\n")
    assert typed.exit_code == 0, typed.output


async def test_a_new_password_of_a_users_that_the_command_line_uses_is_kept_for_it(running: IdentitySite) -> None:
    before = running.site.password("operator").read_text()

    changed = await dinrail(running, "users", "passwd", "operator", "--password-file", "-", typed=f"{PASSWORD}\n")

    assert changed.exit_code == 0, changed.output
    assert running.site.password("operator").read_text() == f"{PASSWORD}\n" != before
    await running.let_in("operator", PASSWORD)


async def test_who_has_lost_his_password_gets_another_by_the_commands_that_init_tells(running: IdentitySite) -> None:
    others = running.site.folder / "other-admin"
    others.write_text(PASSWORD)
    await dinrail(running, "users", "add", "second", "admin", "--password-file", str(others))
    await running.let_in("second", PASSWORD)
    for name in ("admin", "viewer"):
        running.site.password(name).write_bytes(b"\xff\xfe")

    for name, asker in (("admin", ("--as", "second", "--password-file", str(others))), ("viewer", ())):
        changed = await dinrail(running, *asker, "users", "passwd", name, "--generate")

        assert changed.exit_code == 0, changed.output
        await running.let_in(name, running.site.password(name).read_text().rstrip("\n"))
    assert lost_passwords(password=running.site.password) == []


WRONG: list[tuple[tuple[str, ...], str, str]] = [
    (("add", "gateway", "viewer", "--generate"), "", "name of a service"),
    (("add", "Anna", "viewer", "--generate"), "", "cannot stand in a topic"),
    (("add", "viewer", "viewer", "--generate"), "", "there is a user 'viewer' already"),
    (("add", "anna", "boss", "--generate"), "", "boss"),
    (("add", "anna", "viewer", "--password-file", "-"), "", "is empty"),
    (("add", "anna", "viewer", "--password-file", "-"), "short\n", "12 to 1000 characters"),
    (("add", "anna", "viewer", "--password-file", "-"), "anna-anna-anna-1\n", "weak"),
    (("add", "anna", "viewer", "--password-file", "/nowhere"), "", "No such file"),
    (("add", "anna", "viewer"), "", "no terminal"),
    (("add", "anna", "viewer", "--device", "a/b", "--generate"), "", "devices"),
    (("remove", "admin"), "", "there must be an admin"),
    (("role", "admin", "engineer"), "", "there must be an admin"),
    (("role", "admin", "admin", "--device", "plc"), "", "there must be an admin"),
    (("remove", "nobody"), "", "there is no user 'nobody'"),
]
"""What is given, what is typed, and what is said."""


async def test_what_cannot_be_done_says_why(running: IdentitySite) -> None:
    before = running.users
    kept = set((running.site.folder / "secrets").iterdir())

    for words, typed, said in WRONG:
        result = await dinrail(running, "users", *words, typed=typed)

        assert result.exit_code != 0, words
        assert said in result.output
        assert "Traceback" not in result.output

    assert running.users == before
    assert set((running.site.folder / "secrets").iterdir()) == kept


async def test_a_user_changes_his_own_password_and_nobody_elses(running: IdentitySite, tmp_path: Path) -> None:
    old = await running.add("anna", Role.VIEWER, devices=["plc"])
    (file := tmp_path / "anna").write_text(old)
    before = running.users["viewer"].password
    as_anna = ("--as", "anna", "--password-file", str(file), "users", "passwd")
    other = await dinrail(running, *as_anna, "viewer", "--password-file", "-", typed=f"{PASSWORD}\n")

    changed = await dinrail(running, *as_anna, "anna", "--password-file", "-", typed=f"{PASSWORD}\n")

    assert changed.exit_code == 0, changed.output
    assert "anna has a new password" in changed.output
    await running.let_in("anna", PASSWORD)
    assert is_hash_of(running.users["anna"].password, PASSWORD)
    assert running.users["anna"].rights == Rights(role=Role.VIEWER, devices=["plc"])
    assert not await is_in(await running.login("anna", old))
    assert other.exit_code != 0
    assert "takes the role admin" in other.output
    assert running.users["viewer"].password == before


async def test_who_may_not_is_told_which_role_it_takes_and_who_gives_it(running: IdentitySite) -> None:
    result = await dinrail(running, "--as", "viewer", "users", "list")

    assert result.exit_code != 0
    assert "forbidden: viewer may not do that: user list takes the role admin" in result.output
    assert "`dinrail users role viewer admin`" in result.output
    assert "cmd/" not in result.output


async def test_without_a_running_site_it_says_so(tmp_path: Path) -> None:
    folder = str(tmp_path / "site")
    made = await asyncio.to_thread(CliRunner().invoke, app, ["init", "--dir", folder, "--base-port", "64000"])
    assert made.exit_code == 0, made.output

    result = await asyncio.to_thread(CliRunner().invoke, app, ["users", "list", "--dir", folder])

    assert result.exit_code == 2
    assert "is it running (`dinrail up`)" in result.output
