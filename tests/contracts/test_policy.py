"""What rights allow: the check by the services says the same as the broker's lines, wherever a topic can say it."""

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.acl import ENGINEER, OPERATOR, VIEWER
from contracts.policy import filters, missing, missing_of_events, missing_of_file
from contracts.user_access import UserAccount
from contracts.v1.command import BROWSE, CALL, DISABLE, PUT, READ, RELOAD, WRITE, Command
from contracts.v1.event import EVENT
from contracts.v1.pipeline import LIST_PIPELINES, RUN_PIPELINE, SAVE_PIPELINE
from contracts.v1.policy import Rights, Role
from contracts.v1.topics import COMMANDS
from contracts.v1.user import SET_OWN_PASSWORD
from services.runtime.mqtt.properties import filter_matches

NAMES = ("a", "ab", "b")
SITE = {"site": "s", "user": "anna"}
names = st.lists(st.sampled_from(NAMES), unique=True) | st.none()
parts = st.sampled_from((*NAMES, "*", "a*", "?b", "**"))
patterns = st.lists(st.builds("{}/{}".format, parts, parts), max_size=3) | st.none()
literal = st.lists(
    st.builds("{}/{}".format, st.sampled_from((*NAMES, "*")), st.sampled_from((*NAMES, "*"))), max_size=3
)


def rights_with(writes: Any) -> st.SearchStrategy[Rights]:
    """Rights of any role, narrowed in any way."""
    return st.builds(Rights, role=st.sampled_from(Role), devices=names, writes=writes, workspaces=names)


def topics(command: Command[Any, Any]) -> list[dict[str, str]]:
    """The levels of some topics of the command, every name in every place."""
    free = [level for level in command.levels if level not in SITE]
    return [{**SITE, **dict(zip(free, chosen, strict=True))} for chosen in product(NAMES, repeat=len(free))]


def passes_broker(rights: Rights, command: Command[Any, Any], levels: dict[str, str]) -> bool:
    """Whether one of the user's lines lets the command through."""
    topic = command.build(**levels)
    return any(filter_matches(one, topic) for one in filters(rights, command, site="s", user="anna"))


@given(rights_with(literal | st.none()), st.sampled_from(COMMANDS))
def test_the_services_allow_exactly_what_the_broker_lets_through(rights: Rights, command: Command[Any, Any]) -> None:
    for levels in topics(command):
        assert (missing(rights, command, levels) is None) == passes_broker(rights, command, levels), levels


@given(rights_with(patterns), st.sampled_from(COMMANDS))
def test_the_broker_lets_through_all_that_the_services_allow(rights: Rights, command: Command[Any, Any]) -> None:
    for levels in topics(command):
        assert missing(rights, command, levels) is not None or passes_broker(rights, command, levels), levels


AGGREGATES = ("alarm", "device", "event-store", "gateway", "pipeline", "plugin", "recorder", "run", "service", "user")


@given(rights_with(patterns))
def test_the_broker_delivers_exactly_the_events_that_the_recorder_tells(rights: Rights) -> None:
    lines = [rule.filter for rule in UserAccount("anna", rights).rules("s") if rule.access == "read"]
    for scope, aggregate, name in product(("plant", "a", "b"), AGGREGATES, NAMES):
        if (scope == "plant") != (aggregate in PLANT_ONLY) and aggregate != "service":
            continue
        topic = EVENT.build(site="s", scope=scope, aggregate=aggregate, id=name)
        delivered = any(filter_matches(line, topic) for line in lines)
        assert delivered == (missing_of_events(rights, scope, aggregate, name) is None), topic


PLANT_ONLY = {"device", "event-store", "gateway", "plugin", "recorder", "user"}
"""Of services' events some are of a workspace: the commands to it that they have refused."""


def test_each_role_may_do_all_that_those_before_it_may() -> None:
    sends = [set(account.sends) for account in (VIEWER, OPERATOR, ENGINEER)]

    assert sends[0] < sends[1] < sends[2]
    assert [READ in sends[0], WRITE in sends[1] - sends[0], PUT in sends[2] - sends[1]] == [True] * 3


def of(role: Role = Role.ENGINEER, **narrowed: Any) -> Rights:
    return Rights(role=role, **narrowed)


@pytest.mark.parametrize(
    ("rights", "command", "levels", "told"),
    [
        (of(Role.VIEWER), WRITE, {"id": "plc", "arg": "level"}, "is a viewer; device write takes an operator"),
        (of(devices=["pump"]), READ, {"id": "plc"}, "has no right to the device 'plc'"),
        (of(devices=["plc"]), READ, {"id": "plc"}, None),
        (of(devices=[]), BROWSE, {"id": "plc"}, "has no right to the device 'plc'"),
        (of(writes=["plc/set*"]), WRITE, {"id": "plc", "arg": "setpoint"}, None),
        (of(writes=["plc/set*"]), WRITE, {"id": "plc", "arg": "mode"}, "has no right to write the tag plc/mode"),
        (of(devices=["pump"], writes=["*/*"]), WRITE, {"id": "plc", "arg": "mode"}, "has no right to the device 'plc'"),
        (of(writes=["plc/set*"]), READ, {"id": "plc"}, None),
        (of(writes=["plc/*"]), CALL, {"id": "plc"}, None),
        (of(writes=["plc/*"]), DISABLE, {"id": "plc"}, None),
        (of(workspaces=["north"]), RUN_PIPELINE, {"scope": "north", "id": "oee"}, None),
        (
            of(workspaces=["north"]),
            LIST_PIPELINES,
            {"scope": "south", "id": "all"},
            "has no right to the workspace 'south'",
        ),
        (of(Role.OPERATOR), SAVE_PIPELINE, {"scope": "main"}, "is an operator; pipeline save takes an engineer"),
        (of(writes=[]), RELOAD, {"id": "gw"}, "has rights to a part of the site; plugin reload concerns all of it"),
        (of(devices=["plc"]), PUT, {"id": "gateway"}, None),
        (of(Role.VIEWER, devices=[]), SET_OWN_PASSWORD, {"user": "anna", "id": "anna"}, None),
        (of(Role.ADMIN), SET_OWN_PASSWORD, {"user": "anna", "id": "bert"}, "may do that for nobody but himself"),
    ],
)
def test_what_is_missing_is_named(
    rights: Rights, command: Command[Any, Any], levels: dict[str, str], told: str | None
) -> None:
    assert missing(rights, command, levels) == told


def test_who_may_write_some_tags_may_not_call_what_could_move_the_others() -> None:
    told = missing(of(writes=["plc/set*", "pump/*"]), CALL, {"id": "plc"})

    assert told == "has no right to call functions of 'plc': that takes the right to write all of its tags, `plc/*`"


@pytest.mark.parametrize(
    ("rights", "told"),
    [
        (of(), None),
        (of(devices=["plc"]), None),
        (of(devices=["pump"]), "has no right to the device 'plc'"),
        (of(devices=["pump"], writes=["*/*"]), "has no right to the device 'plc'"),
        (of(writes=["plc/*"]), None),
        (
            of(writes=["plc/set*", "pump/*"]),
            "has no right to change the file of 'plc': that takes the right to write all of its tags, `plc/*`",
        ),
    ],
)
def test_who_may_write_some_tags_may_not_say_what_they_move(rights: Rights, told: str | None) -> None:
    assert missing_of_file(rights, "plc") == told
