"""The identity service at a real broker: users come, change and go without a restart of anything."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contracts.v1.command import ErrorCode, Failure
from contracts.v1.event_codec import EventStruct, decode_events
from contracts.v1.policy import POLICY, Policy, Rights, Role
from contracts.v1.user import ADD_USER, LIST_USERS, REMOVE_USER, SET_OWN_PASSWORD, SET_PASSWORD, SET_ROLE, SetPassword
from services.cli.connection import access_as, connected
from services.identity.composition import Identity
from services.identity.desk import OWN_PASSWORDS
from services.identity.roster import User, UserRefused
from services.identity.settings import SECTION
from services.identity.user_file import users_text
from services.runtime.file_lock import held_file
from tests.integration.identity_site import (
    LOST_S,
    ROOT,
    IdentitySite,
    admin_of,
    hashed,
    identity_at_work,
    identity_site,
    is_in,
    is_served,
    taken,
)
from tests.integration.service_process import service_process
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
    assert await asyncio.to_thread(bob.receive_until, f"{ROOT}/frame/other/fast") == []
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
        message = await asyncio.to_thread(viewer.received.get, timeout=30)
        if message.topic.endswith("/anna"):
            assert b"$7$" not in message.payload
            told += [(event.type, event.user) for event in _events(message.payload)]
    assert told == [
        ("added", "admin"),
        ("rights.changed", "admin"),
        ("password.changed", "admin"),
        ("removed", "admin"),
    ]


def _events(payload: bytes) -> list[EventStruct]:
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
        """She may not write any more."""
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
    try:
        return bool(identity.register.users)
    except UserRefused:
        return False


async def test_two_hostile_users_reach_nobody_elses_commands_answers_and_rights(
    running: IdentitySite, identity: Identity
) -> None:
    passwords = {
        "mallory": await running.add("mallory", Role.ENGINEER),
        "eve": await running.add("eve", Role.OPERATOR, devices=["plc"], workspaces=["main"]),
    }
    hostile = {name: await running.login(name, password) for name, password in passwords.items()}
    for client in hostile.values():
        await asyncio.to_thread(
            client.subscribe, "#", f"{ROOT}/cmd/#", f"{ROOT}/reply/#", f"{ROOT}/policy/main", "$SYS/#"
        )
    for name, client in hostile.items():
        forged = (
            *(f"cmd/{other}/{WRITE_LEVEL}" for other in ("admin", "operator", "orchestrator", "gateway", "users")),
            *(
                f"cmd/{who}/user/plant/{name}/{verb}/all"
                for who in (name, "admin")
                for verb in ("role", "add", "passwd")
            ),
            *("policy/main", f"reply/{name}/x", "reply/admin/x", "event/plant/user/eve", "service/identity/identity"),
            *("tag/plc/level", "frame/plc/fast", "stored/recorder/frame/plc/fast", "task/fft"),
        )
        assert await taken(client, *forged) == set()

    await running.ask(LIST_USERS, "all")
    gateway = await running.login("gateway")
    await taken(gateway, "frame/plc/end")

    for client in hostile.values():
        seen = {message.topic for message in await asyncio.to_thread(client.receive_until, f"{ROOT}/frame/plc/end")}
        assert not [topic for topic in seen if topic.split("/")[3] in {"cmd", "reply", "policy"} or "$" in topic]
    for name, client in hostile.items():
        await running.ask(REMOVE_USER, name)
        assert await asyncio.to_thread(client.ended.wait, LOST_S)


async def test_a_name_that_another_machines_service_has_is_refused(running: IdentitySite, identity: Identity) -> None:
    gateway = await running.login("gateway")
    state = {"state": "online", "sid": "1", "since": 1, "version": "1", "instance": "press"}
    await asyncio.to_thread(gateway.publish, [f"{ROOT}/service/gateway/press"], json.dumps(state).encode(), retain=True)

    async def is_refused() -> bool:
        """Once the identity service has seen it."""
        asked = {"role": Role.VIEWER, "password": hashed("x")}
        outcome = await running.ask(ADD_USER, "press", **asked)
        if outcome.error is None:
            await running.ask(REMOVE_USER, "press")
        return outcome.error is not None and outcome.error.code is ErrorCode.INVALID

    await until(is_refused, 30, what="the name is refused")


async def test_two_admins_at_once_lose_no_change_of_each_other(running: IdentitySite, identity: Identity) -> None:
    names = [f"user{number}" for number in range(12)]

    asked = {"role": Role.VIEWER, "password": hashed("x")}
    outcomes = await asyncio.gather(*(running.ask(ADD_USER, name, **asked) for name in names))

    assert [outcome.error for outcome in outcomes] == [None] * len(names)
    assert set(names) < set(running.users)


async def test_killed_between_the_file_and_the_broker_the_next_start_mends_it(
    running: IdentitySite, tmp_path: Path
) -> None:
    password = secrets.token_urlsafe()
    async with service_process(SECTION, running.site.settings_file) as process, admin_of(running):
        await until(lambda: is_served(running), 30, what="the service answers")
        with held_file(running.site.broker / "lock"):  # it waits here, with the file of users written
            asked = asyncio.create_task(running.ask(ADD_USER, "anna", role=Role.VIEWER, password=hashed(password)))
            await until(lambda: "anna" in running.users, 30, what="she stands in the file")
            process.kill()
            await process.wait()
        asked.cancel()
    assert not await is_in(await running.login("anna", password))

    async with identity_at_work(running):
        await running.let_in("anna", password)


async def test_a_user_added_to_the_file_while_the_service_rests_is_told_and_let_in(running: IdentitySite) -> None:
    async with identity_at_work(running) as service:
        await until(lambda: _known(service), 30, what="the file is read")
    viewer = await running.login("viewer")
    await asyncio.to_thread(viewer.subscribe, f"{ROOT}/event/plant/user/+")
    password = secrets.token_urlsafe()
    bob = User(Rights(role=Role.VIEWER), hashed(password))

    running.site.users_file.write_text(users_text({**running.users, "bob": bob}))

    async with identity_at_work(running):
        await running.let_in("bob", password)
        message = await asyncio.to_thread(viewer.received.get, timeout=30)
        assert message.topic == f"{ROOT}/event/plant/user/bob"
        (event,) = _events(message.payload)
        assert (event.type, event.user, event.cause) == ("added", None, "file")


async def test_nobody_keeps_the_broker_busy_with_passwords_of_his_own(
    running: IdentitySite, identity: Identity
) -> None:
    password = running.site.password("viewer").read_text().strip()
    costly = hashed(password).replace("$7$101$", "$7$99999$")  # 0.1 s of the broker's at each login and reload
    async with connected(access_as("viewer", running.site)) as viewer:

        async def ask(wanted: str) -> Failure | None:
            asked = SetPassword(password=wanted)
            outcome = await viewer.request(SET_OWN_PASSWORD, asked, timeout_s=20, user="viewer", id="viewer")
            return outcome.error

        told = [await ask(costly), *[await ask(hashed(password)) for _ in range(OWN_PASSWORDS.burst)]]

    codes = [error and error.code for error in told]
    assert codes == [ErrorCode.INVALID, *[None] * (OWN_PASSWORDS.burst - 1), ErrorCode.RATE_LIMITED]
    assert told[-1] is not None
    assert "viewer sends user own-passwd more than once in 60 s; try again in " in told[-1].message
    assert "$7$99999$" not in running.site.users_file.read_text()


async def test_a_broken_file_of_rules_is_not_given_to_the_broker(running: IdentitySite) -> None:
    viewer = await running.login("viewer")

    (running.site.broker / "acl").write_text("user viewer\nnonsense\n")

    await until(lambda: running.told, 30, what="it is told")
    assert "goes on with the access rules that it has" in running.told[0]
    assert await taken(viewer, "tag/plc/level") == set()
