"""The identity service at a real broker: users come, change and go without a restart of anything."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contracts.v1.command import ErrorCode
from contracts.v1.policy import POLICY, Policy, Rights, Role
from contracts.v1.user import LIST_USERS, REMOVE_USER, SET_PASSWORD, SET_ROLE
from services.identity.composition import Identity
from tests.integration.identity_site import (
    LOST_S,
    ROOT,
    IdentitySite,
    hashed,
    identity_at_work,
    identity_site,
    is_in,
    taken,
)
from tests.polling import until
from tests.real_bus import Inbox

WRITE_LEVEL = "device/plant/plc/write/level"


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[IdentitySite]:
    async with identity_site(tmp_path / "site") as site:
        yield site


@pytest.fixture
async def identity(running: IdentitySite) -> AsyncIterator[Identity]:
    async with identity_at_work(running) as service:
        yield service


async def test_a_user_who_is_added_does_his_roles_things_and_no_others(
    running: IdentitySite, identity: Identity
) -> None:
    password = await running.add("anna", Role.OPERATOR, devices=["plc"], writes=["plc/level"], workspaces=["main"])

    anna = await running.login("anna", password)
    may = {
        "cmd/anna/device/plant/plc/write/level",
        "cmd/anna/device/plant/plc/read/all",
        "cmd/anna/pipeline/main/oee/run/all",
        "cmd/anna/alarm/main/high/ack/all",
    }
    may_not = {
        "cmd/anna/device/plant/plc/write/speed",
        "cmd/anna/device/plant/other/read/all",
        "cmd/anna/device/plant/plc/disable/all",
        "cmd/anna/pipeline/other/oee/run/all",
        "cmd/anna/user/plant/anna/role/all",
        "cmd/admin/device/plant/plc/write/level",
        "reply/anna/x",
        "tag/plc/level",
        "policy/main",
    }
    assert await taken(anna, *may, *may_not) == may


async def test_a_removed_users_connection_ends_and_he_is_not_let_in_again(
    running: IdentitySite, identity: Identity
) -> None:
    password = await running.add("mallory", Role.ENGINEER)
    mallory = await running.login("mallory", password)
    assert await is_in(mallory)

    outcome = await running.ask(REMOVE_USER, "mallory")

    assert outcome.error is None
    assert await asyncio.to_thread(mallory.ended.wait, LOST_S)
    assert not await is_in(await running.login("mallory", password))


async def test_a_downgraded_users_connection_loses_its_rights_and_its_standing_subscriptions(
    running: IdentitySite, identity: Identity
) -> None:
    password = await running.add("bob", Role.ENGINEER)
    bob = await running.login("bob", password)
    await asyncio.to_thread(bob.subscribe, f"{ROOT}/#")
    assert await taken(bob, f"cmd/bob/{WRITE_LEVEL}") == {f"cmd/bob/{WRITE_LEVEL}"}

    await running.ask(SET_ROLE, "bob", role=Role.VIEWER, devices=["other"])

    async def is_refused() -> bool:
        """He may not write any more."""
        return not await taken(bob, f"cmd/bob/{WRITE_LEVEL}")

    await until(is_refused, LOST_S, what="bob's write is refused")
    gateway = await running.login("gateway")
    while not bob.received.empty():
        bob.received.get()
    await taken(gateway, "frame/plc/fast", "frame/other/fast")
    assert [topic for topic, _ in await asyncio.to_thread(bob.receive_until, f"{ROOT}/frame/other/fast")] == []
    assert not bob.ended.is_set()


async def test_who_is_connected_with_an_old_password_is_thrown_out(running: IdentitySite, identity: Identity) -> None:
    old = await running.add("carol", Role.VIEWER)
    carol = await running.login("carol", old)
    assert await is_in(carol)
    new = secrets.token_urlsafe()

    await running.ask(SET_PASSWORD, "carol", password=hashed(new))

    assert await asyncio.to_thread(carol.ended.wait, LOST_S)
    assert not await is_in(await running.login("carol", old))
    assert await is_in(await running.login("carol", new))


async def test_others_stay_connected_while_users_come_and_go(running: IdentitySite, identity: Identity) -> None:
    gateway, viewer = await running.login("gateway"), await running.login("viewer")

    await running.add("anna", Role.VIEWER)
    await running.ask(REMOVE_USER, "anna")

    assert await taken(gateway, "frame/plc/fast") == {"frame/plc/fast"}
    assert not gateway.ended.is_set()
    assert not viewer.ended.is_set()


async def test_every_change_is_an_event_with_who_did_it_and_never_a_password(
    running: IdentitySite, identity: Identity
) -> None:
    viewer = await running.login("viewer")
    await asyncio.to_thread(viewer.subscribe, f"{ROOT}/event/plant/user/+")

    password = await running.add("anna", Role.OPERATOR, devices=["plc"])
    await running.ask(SET_ROLE, "anna", role=Role.ENGINEER)
    await running.ask(SET_PASSWORD, "anna", password=hashed(password + "x"))
    await running.ask(REMOVE_USER, "anna")

    told = []
    while len(told) < 4:
        topic, payload = await asyncio.to_thread(viewer.received.get, timeout=30)
        if topic.endswith("/anna"):
            assert b"$7$" not in payload
            told += [(event.type, event.user) for event in _events(payload)]
    assert told == [
        ("added", "admin"),
        ("rights.changed", "admin"),
        ("password.changed", "admin"),
        ("removed", "admin"),
    ]


def _events(payload: bytes):
    from contracts.v1.event_codec import decode_events

    return decode_events(payload, topic="event").events


async def test_the_policy_names_every_user_and_follows_each_change(running: IdentitySite, identity: Identity) -> None:
    seen = Inbox()
    assert running.admin is not None
    running.admin.subscribe(POLICY, seen.handle)
    await until(lambda: bool(seen), 30, what="the policy")
    assert set(seen.payloads[-1].users) == {"viewer", "operator", "engineer", "admin"}

    await running.add("anna", Role.OPERATOR, workspaces=["main"])

    await until(lambda: "anna" in seen.payloads[-1].users, 30, what="the policy names her")
    policy: Policy = seen.payloads[-1]
    assert policy.users["anna"] == Rights(role=Role.OPERATOR, workspaces=["main"])
    listed = await running.ask(LIST_USERS, "all")
    assert listed.result is not None
    assert listed.result.users == policy.users


async def test_a_change_of_the_file_by_hand_is_taken_up(running: IdentitySite, identity: Identity) -> None:
    password = await running.add("anna", Role.ENGINEER)
    anna = await running.login("anna", password)
    text = running.site.users_file.read_text()

    running.site.users_file.write_text(text.replace("anna: {role: engineer", "anna: {role: viewer"))

    async def is_refused() -> bool:
        return not await taken(anna, f"cmd/anna/{WRITE_LEVEL}")

    await until(is_refused, LOST_S, what="anna's write is refused")


async def test_a_fault_in_the_file_changes_nothing_and_is_told_with_its_place(
    running: IdentitySite, identity: Identity
) -> None:
    text = running.site.users_file.read_text()
    before = (running.site.broker / "acl").read_text()
    await until(lambda: _known(identity), 30, what="the file is read")

    running.site.users_file.write_text(text.replace("role: operator", "role: boss"))

    await until(lambda: identity.register.problem, 30, what="the fault is told")
    assert identity.register.problem is not None
    assert "users.yaml:" in identity.register.problem
    assert "operator.role" in identity.register.problem
    assert (running.site.broker / "acl").read_text() == before
    assert await is_in(await running.login("operator"))
    outcome = await running.ask(REMOVE_USER, "viewer")
    assert outcome.error is not None
    assert outcome.error.code is ErrorCode.CONFLICT
    assert running.site.users_file.read_text() == text.replace("role: operator", "role: boss")

    running.site.users_file.write_text(text)
    await until(lambda: identity.register.problem is None, 30, what="it is mended")


def _known(identity: Identity) -> bool:
    from services.identity.roster import UserRefused

    try:
        return bool(identity.register.users)
    except UserRefused:
        return False
