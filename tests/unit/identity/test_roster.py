"""What may be done to the users of a site, and the two texts that are made of them."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.acl import OWN_ACCOUNTS
from contracts.topic import LEVEL_PATTERN
from contracts.user_access import ROLES, UserAccount
from contracts.v1.command import ErrorCode
from contracts.v1.policy import Rights, Role
from contracts.v1.topics import TOPICS
from plugins.api.document import DocumentError
from services.cli.site import Site
from services.identity.broker_files import access_text, is_whole_access, passwords_text
from services.identity.password import hash_password
from services.identity.roster import (
    User,
    UserRefused,
    Users,
    added,
    fault_of_name,
    fault_of_users,
    removed,
    with_password,
    with_rights,
)
from services.identity.user_file import parse_users, users_of, users_text

HASH = hash_password("something", salt=b"x" * 12)
ADMIN = User(Rights(role=Role.ADMIN), HASH)
SITE: Users = {"admin": ADMIN}
ROOT = "dinrail/v1/plant/"

names = st.from_regex(rf"\A{LEVEL_PATTERN}\Z").filter(lambda name: fault_of_name(name) is None)
levels = st.from_regex(r"\A[a-z0-9][a-z0-9_-]{0,6}\Z")
patterns = st.from_regex(r"\A[a-z0-9*?][a-z0-9_*?-]{0,4}/[a-z0-9*?][a-z0-9_*?-]{0,4}\Z")
some = st.none() | st.lists(levels, max_size=3)
rights = st.builds(
    Rights,
    role=st.sampled_from(Role),
    devices=some,
    writes=st.none() | st.lists(patterns, max_size=3),
    workspaces=st.none() | st.lists(st.just("plant") | levels, max_size=3),
)
rosters = st.dictionaries(names, st.builds(User, rights, st.just(HASH)), max_size=6).map(lambda some: {**some, **SITE})


@settings(max_examples=30)
@given(rosters)
def test_no_user_is_given_a_line_outside_his_own_commands_and_answers(users: Users) -> None:
    user = ""
    for line in access_text("plant", users).splitlines():
        if line.startswith("user "):
            user = line.removeprefix("user ")
            continue
        if user not in users or not line.startswith("topic "):
            continue
        _, access, name = line.split(" ")
        assert name.startswith(ROOT)
        assert access in {"read", "write"}
        class_, own = name.removeprefix(ROOT).split("/")[:2]
        if access == "write":
            assert (class_, own) == ("cmd", user)
        else:
            assert class_ not in {"cmd", "task"}
            assert (class_ != "reply") or own == user
            assert (class_ != "policy") or users[user].rights.role is Role.ADMIN


@settings(max_examples=30)
@given(rosters)
def test_what_is_written_is_whole_and_denies_nothing(users: Users) -> None:
    text = access_text("plant", users)

    assert is_whole_access(text)
    assert "deny" not in text
    assert "pattern" not in text
    assert [line for line in text.splitlines() if line.startswith("user ")] == [
        f"user {name}" for name in [*(account.name for account in OWN_ACCOUNTS), *sorted(users)]
    ]


@settings(max_examples=30)
@given(rosters)
def test_the_file_of_users_holds_all_of_them(users: Users) -> None:
    assert parse_users(users_text(users), source="users.yaml") == users


@settings(max_examples=50)
@given(rights)
def test_narrower_rights_give_no_line_that_the_role_has_not(given_rights: Rights) -> None:
    """Each filter of a narrowed user matches nothing that the role's filters do not."""
    whole = [rule.filter.split("/") for rule in UserAccount("anna", Rights(role=given_rights.role)).rules("plant")]

    for rule in UserAccount("anna", given_rights).rules("plant"):
        own = rule.filter.split("/")
        assert any(
            len(own) == len(other) and all(theirs in ("+", ours) for ours, theirs in zip(own, other, strict=True))
            for other in whole
        )


@pytest.mark.parametrize("role", list(Role))
def test_a_user_named_as_his_role_has_the_roles_lines(role: Role) -> None:
    assert set(UserAccount(role.value, Rights(role=role)).rules("plant")) == set(ROLES[role].rules("plant"))


def test_devices_and_workspaces_narrow_what_is_read() -> None:
    narrow = Rights(role=Role.VIEWER, devices=["plc"], workspaces=["main"])

    read = {
        rule.filter.removeprefix(ROOT) for rule in UserAccount("anna", narrow).rules("plant") if rule.access == "read"
    }

    assert {"tag/plc/+", "frame/plc/+", "event/main/+/+", "event/plant/device/plc", "run/main/+/+"} <= read
    assert not {"tag/+/+", "frame/+/+", "event/+/+/+", "event/plant/+/+", "backfill/+/+/+", "run/+/+/+"} & read


@pytest.mark.parametrize("name", [account.name for account in OWN_ACCOUNTS])
def test_no_user_has_the_name_of_a_services_account(name: str) -> None:
    with pytest.raises(UserRefused, match="name of a service"):
        added(SITE, name, ADMIN, taken=())


@pytest.mark.parametrize("name", sorted({writer for topic in TOPICS for writer in topic.writers} | {"plant", "all"}))
def test_no_user_has_a_name_that_the_contracts_let_write(name: str) -> None:
    assert fault_of_name(name) is not None


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Anna",
        "an na",
        "anna/x",
        "+",
        "#",
        "$SYS",
        "a\nuser admin",
        "a" * 64,
        "аnna",
        "../x",
        "a\0b",
        "-anna",
        "anna:x",
    ],
)
def test_a_name_outside_the_grammar_is_refused(name: str) -> None:
    with pytest.raises(UserRefused, match="cannot stand in a topic") as refused:
        added(SITE, name, ADMIN, taken=())
    assert refused.value.code is ErrorCode.INVALID


def test_a_name_that_an_instance_or_another_user_has_is_refused() -> None:
    with pytest.raises(UserRefused, match="instances"):
        added(SITE, "press", ADMIN, taken={"press"})
    with pytest.raises(UserRefused, match="already") as refused:
        added(SITE, "admin", ADMIN, taken=())
    assert refused.value.code is ErrorCode.CONFLICT


@pytest.mark.parametrize("name", ["compute-2", "gateway-10", "recorder-007"])
def test_nobody_new_has_the_name_of_an_instance_that_may_come_yet(name: str) -> None:
    with pytest.raises(UserRefused, match="instances"):
        added(SITE, name, ADMIN, taken=())
    assert fault_of_name(name) is None, "who has it already keeps it"


def test_nobody_new_has_a_name_whose_password_would_lie_where_the_site_keeps_another_programs(tmp_path: Path) -> None:
    site = Site(tmp_path)
    passwords = [file for file in site.container_secrets if file.suffix == ".password"]

    assert passwords
    for file in passwords:
        assert site.password(file.stem) == file
        with pytest.raises(UserRefused, match=f"secrets/{file.name} is the site's own.*take another name"):
            added(SITE, file.stem, ADMIN, taken=())


@pytest.mark.parametrize("name", ["grafana", "compute-line", "gateway2", "2"])
def test_a_name_that_only_looks_like_a_services_is_taken(name: str) -> None:
    assert name in added(SITE, name, ADMIN, taken=())


def test_the_last_admin_stays_and_stays_whole() -> None:
    for rights in (Rights(role=Role.ENGINEER), Rights(role=Role.ADMIN, devices=["plc"])):
        with pytest.raises(UserRefused, match="must be an admin"):
            with_rights(SITE, "admin", rights)
    with pytest.raises(UserRefused, match="must be an admin"):
        removed(SITE, "admin")

    two = added(SITE, "zoe", ADMIN, taken=())
    assert removed(two, "admin") == {"zoe": ADMIN}


def test_what_is_no_user_cannot_be_changed() -> None:
    for change in (
        lambda: removed(SITE, "bob"),
        lambda: with_rights(SITE, "bob", ADMIN.rights),
        lambda: with_password(SITE, "bob", HASH),
    ):
        with pytest.raises(UserRefused, match="no user 'bob'") as refused:
            change()
        assert refused.value.code is ErrorCode.NOT_FOUND


@pytest.mark.parametrize(
    ("line", "place", "said"),
    [
        ("  anna: {role: boss, password: %s}", "users.anna.role", "boss"),
        ("  anna: {role: viewer}", "users.anna.password", "is missing"),
        ("  anna: {role: viewer, password: secret}", "users.anna.password", "pattern"),
        ("  anna: {role: viewer, device: [a], password: %s}", "users.anna.device", "did you mean 'devices'"),
        ("  anna: {role: viewer, devices: [A], password: %s}", "users.anna.devices[0]", "a-z"),
        ("  recorder: {role: viewer, password: %s}", "users.recorder", "name of a service"),
        ("  Anna: {role: viewer, password: %s}", "users.Anna", "cannot stand in a topic"),
    ],
)
def test_a_fault_in_the_file_is_told_with_its_line_and_never_with_a_password(line: str, place: str, said: str) -> None:
    text = users_text(SITE) + (line % HASH if "%s" in line else line) + "\n"

    with pytest.raises(DocumentError) as refused:
        parse_users(text, source="users.yaml")

    told = str(refused.value)
    assert f"users.yaml:{len(text.splitlines())}: {place}" in told
    assert said in told
    assert "secret" not in told
    assert HASH not in told


def test_a_file_without_an_admin_is_refused() -> None:
    text = users_text({"anna": User(Rights(role=Role.ENGINEER), HASH)})

    with pytest.raises(DocumentError, match="must be an admin"):
        parse_users(text, source="users.yaml")


def test_services_keep_their_passwords_and_nobody_else_keeps_a_line() -> None:
    present = "gateway:$7$a\nrecorder:$7$b\nold-user:$7$c\nadmin:$7$d\n"

    text = passwords_text(SITE, present=present, renewed={"recorder": "$7$e"})

    assert dict(line.split(":", 1) for line in text.splitlines()) == {
        "admin": HASH,
        "gateway": "$7$a",
        "recorder": "$7$e",
    }


@pytest.mark.parametrize(
    "text",
    ["", "\n", "# nothing\n", "topic read #\n", "user a\ntopic read x\nnonsense\n", "user a\ntopic read dinrai", "us"],
)
def test_what_is_not_whole_is_told_from_what_is(text: str) -> None:
    assert not is_whole_access(text)


def test_a_file_of_users_in_another_encoding_is_a_fault_with_its_line() -> None:
    """As an editor leaves it that saves Latin 1: nobody is taken up, and nothing crashes."""
    with pytest.raises(DocumentError) as raised:
        users_of(b"users:\n  # f\xfcr Anna\n  anna: {role: viewer}\n", source="users.yaml")
    assert [(fault.line, fault.mend) for fault in raised.value.faults] == [(2, "save it as UTF-8")]


def test_rights_that_would_hold_up_the_broker_are_refused() -> None:
    narrow = User(Rights(role=Role.OPERATOR, devices=[f"plc-{number}" for number in range(500)]), HASH)
    users: Users = {**SITE, **{f"user-{number}": narrow for number in range(6)}}

    assert fault_of_users(users) is None
    with pytest.raises(UserRefused, match="name 3001 devices, tags and workspaces, 3000 at the most"):
        added(users, "one-more", User(Rights(role=Role.VIEWER, workspaces=["main"]), HASH), taken=())
