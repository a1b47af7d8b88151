"""Names from outside: none becomes a path outside its folder, or a topic outside its class; each is refused plainly."""

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from contracts.acl import access_file
from contracts.topic import TopicError, check_level
from contracts.user_access import UserAccount
from contracts.v1.definition import Definition
from contracts.v1.message import Level
from contracts.v1.policy import Rights, Role
from contracts.v1.topics import TOPICS
from plugins.api.document import DocumentError
from plugins.api.manifest import parse_manifest
from plugins.api.registry import Registry
from services.cli.site import Ports, Site, make_site
from services.cli.tag_files import import_tags
from services.gateway.device_file import parse_device
from services.gateway.settings import SHIPPED_DRIVERS, GatewaySettings
from services.identity.roster import fault_of_name
from services.identity.user_file import parse_users
from services.runtime.settings import load_settings

GRAMMAR = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}\Z")
WORST = (
    *("", ".", "..", "../x", "../../etc/passwd", "/etc/passwd", "a/b", "a/../b", "./a", "a\\b", "..\\x", "C:\\x"),
    *("+", "#", "a+", "a#", "$SYS", "$share", "$CONTROL", "%u", "%c", "a b", " a", "a ", "a\n", "\na", "a\r\nb", "a\0"),
    *("\0", "a\tb", "-a", "_a", "A", "Plc", "а", "plс", "ｐlc", "ı", "İ", "ß", "ﬁ", "\u202ea", "a\u200b", "\ufeffa"),
    *(
        "CON",
        "nul.yaml",
        "aux.",
        "a.",
        ".a",
        "a.yaml",
        "~",
        "~root",
        "-rf",
        "--help",
        "a;b",
        "$(x)",
        "`x`",
        "a'b",
        'a"b',
    ),
    *("a" * 64, "a" * 5000, "é", "e\u0301", "١", "a\ud800"),
)
"""Traversals, wildcards, ends of lines, look-alikes, what a shell or Windows takes for something else, too long."""
names = (
    st.sampled_from(WORST)
    | st.text(st.sampled_from("aA0-_./\\+#$%\0\n\r\t ~а\u202e\u200bＡ٠"), max_size=70)
    | st.text(max_size=8)
)
DRIVERS = Registry([SHIPPED_DRIVERS], kind="driver")
DEVICE = {
    "device": "plc",
    "driver": "modbus",
    "connection": {"host": "127.0.0.1", "port": 1, "unit_id": 1},
    "groups": {"fast": {"interval": "1s", "tags": {"level": {"address": "holding:0", "type": "float32"}}}},
}
HASH = "$7$1000$" + "A" * 16 + "$" + "A" * 86 + "=="


@given(names)
def test_a_level_is_what_the_grammar_says_wherever_one_is_checked(name):
    fits = GRAMMAR.match(name) is not None

    for check in (lambda: check_level("x", name), lambda: TypeAdapter(Level).validate_python(name)):
        if fits:
            assert check() == name
        else:
            with pytest.raises((TopicError, ValidationError)) as refused:
                check()
            assert len(str(refused.value).splitlines()) <= 4


@given(st.sampled_from(TOPICS), names, st.data())
def test_no_name_makes_a_topic_or_a_filter_of_another_class(topic, name, data):
    hostile = data.draw(st.sampled_from(topic.levels))
    levels = {level: name if level == hostile else "x" for level in topic.levels}
    if GRAMMAR.match(name):
        assert topic.parse(topic.build(**levels)) == levels
        return
    for make in (lambda: topic.build(**levels), lambda: topic.filter(**{hostile: name})):
        with pytest.raises(TopicError, match=hostile):
            make()


def site_of(folder: Path) -> Site:
    """A site with one device, in a folder of its own beside which nothing may appear."""
    site = Site(folder / "in" / "site")
    if not site.devices.exists():
        site.devices.mkdir(parents=True)
        (site.devices / "plc.yaml").write_text(yaml.safe_dump(DEVICE))
        site.settings_file.write_text("site: test\n")
    return site


def device_file(place: str, name: str, _: Path) -> None:
    """A device file with this name in this place."""
    content = yaml.safe_load(yaml.safe_dump(DEVICE))
    fast = content["groups"]["fast"]
    if place == "device":
        content["device"] = name
    elif place == "group":
        content["groups"] = {name: fast}
    else:
        fast["tags"] = {name: fast["tags"]["level"]}
    parse_device(yaml.safe_dump(content), source="plc.yaml", drivers=DRIVERS)


def table_of_tags(place: str, name: str, folder: Path) -> None:
    """A table with this name in this place."""
    site = site_of(folder)
    row = {"device": "plc", "group": "fast", "tag": "level", "address": "holding:0", "type": "float32"} | {place: name}
    with (folder / "in" / "table.csv").open("w", newline="", encoding="utf-8", errors="replace") as file:
        table = csv.DictWriter(file, row)
        table.writeheader()
        table.writerow(row)
    import_tags(site, folder / "in" / "table.csv", device=None)


def settings_file(section: str, name: str, folder: Path) -> None:
    """Settings with this name of an instance, or of the site."""
    path = folder / "in" / "dinrail.yaml"
    path.parent.mkdir(exist_ok=True)
    content = {"site": "test", "gateway": {"instance": "gateway"}}
    content |= {"site": name} if section == "site" else {"gateway": {"instance": name}}
    path.write_text(yaml.safe_dump(content))
    load_settings("gateway", GatewaySettings, path=path, environ={})


def manifest(_: str, name: str, __: Path) -> None:
    """A plugin of this name."""
    told = {"id": name, "version": "1.0.0", "kind": "driver", "title": "T", "description": "D", "entry": "driver:D"}
    parse_manifest(yaml.safe_dump(told), source="plugin.yaml")


def users_file(place: str, name: str, _: Path) -> None:
    """A user of this name, or one whose rights have it."""
    user: dict[str, object] = {"role": "admin", "password": HASH}
    boss = dict(user)
    if place != "user":
        user[place] = [f"{name}/x"] if place == "writes" else [name]
    parse_users(yaml.safe_dump({"users": {"boss": boss, name if place == "user" else "anna": user}}), source="users")


def definition(place: str, name: str, _: Path) -> None:
    """A pipeline with a node of this name, or a trigger that listens to it."""
    node = {"type": "delay", "duration": "1s"}
    content: dict[str, object] = {"pipeline": "p", "title": "T", "nodes": {"n": node}}
    content |= {"pipeline": name} if place == "pipeline" else {"nodes": {name: node}}
    Definition.model_validate_json(json.dumps(content))


def password_of(_: str, name: str, folder: Path) -> None:
    """The path of an account's password."""
    path = site_of(folder).password(name)
    assert path.parent == site_of(folder).folder / "secrets"


def new_site(_: str, name: str, folder: Path) -> None:
    """A site of this name."""
    make_site(Site(folder / "in" / "new"), name=name, example=None, ports=Ports())


DOORS: dict[str, Callable[[str, str, Path], None]] = {
    **dict.fromkeys(("device", "group", "tag"), device_file),
    **dict.fromkeys(("device of a row", "group of a row", "tag of a row"), table_of_tags),
    **dict.fromkeys(("site", "instance"), settings_file),
    **dict.fromkeys(("user", "devices", "writes", "workspaces"), users_file),
    **dict.fromkeys(("pipeline", "node"), definition),
    "plugin": manifest,
    "password": password_of,
    "new site": new_site,
}
WORST_OF_A_ROW = ("../x", "/etc/passwd", "a/b", "+", "$SYS", "a\0", "Plc", "\u202ea", "CON", "a" * 64)
REFUSED = (DocumentError, TopicError, ValidationError)
LONGEST_ERROR = 12_000


@pytest.mark.parametrize("door", DOORS)
def test_a_name_outside_the_grammar_is_refused_in_one_error_and_touches_nothing(door: str, tmp_path: Path) -> None:
    tried = [name for name in WORST if not GRAMMAR.match(name)]
    outside = set(tmp_path.iterdir()) | {tmp_path / "in"}

    for name in tried:
        if door == "plugin" and name == "_a":
            continue  # a template's id
        if door.endswith("of a row") and name not in WORST_OF_A_ROW:
            continue  # each reads the whole site; and blanks around a cell are nobody's
        with pytest.raises(REFUSED) as refused:
            DOORS[door](door.split(maxsplit=1)[0], name, tmp_path)
        assert 0 < len(str(refused.value)) <= LONGEST_ERROR, name[:20]

    assert set(tmp_path.iterdir()) <= outside
    assert not (tmp_path / "in" / "new").exists()


def test_a_good_name_passes_every_door(tmp_path: Path) -> None:
    for door, passes in DOORS.items():
        if not door.endswith("of a row") and door != "new site":  # a table needs more columns; it would make a site
            passes(door.split()[0], "a-1_b", tmp_path)


@pytest.mark.parametrize("name", ["plant", "all", "gateway", "recorder", "identity", "users", "health", "Anna", "a/b"])
def test_no_user_has_the_name_of_a_service_or_of_a_word_of_the_topics(name: str) -> None:
    assert fault_of_name(name)


patterns = st.lists(st.text(st.sampled_from("ab*?-_/+#$\n А"), min_size=1, max_size=8), max_size=3)


@given(patterns, patterns, patterns)
def test_whatever_rights_are_taken_the_brokers_lines_stay_in_their_classes(devices, writes, workspaces):
    try:
        rights = Rights(role=Role.ENGINEER, devices=devices, writes=writes, workspaces=workspaces)
    except ValidationError:
        return
    lines = access_file("test", [UserAccount("anna", rights)]).splitlines()

    assert lines[1:3] == ["", "user anna"]
    for line in lines[3:]:
        kind, access, topic = line.split(" ")
        assert (kind, access in {"read", "write"}) == ("topic", True)
        levels = topic.split("/")
        assert levels[:3] == ["dinrail", "v1", "test"]
        assert all(level == "+" or GRAMMAR.match(level) for level in levels)
        assert access == "read" or levels[3:5] == ["cmd", "anna"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["users", "passwd", "../../loot", "--generate"],
        ["users", "remove", "../loot"],
        ["--as", "../loot", "read", "plc"],
        ["init", "--name", "a/../b"],
    ],
)
def test_the_command_line_says_in_one_line_what_is_wrong_with_a_name(arguments: list[str], tmp_path: Path) -> None:
    site = site_of(tmp_path)
    make_site(site, name="test", example=None, ports=Ports())
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}

    done = subprocess.run(
        [sys.executable, "-m", "services.cli.main", *arguments, "--dir", str(site.folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "300"},
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )

    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "cannot stand in a topic" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
