"""`dinrail users`: who may do what on a site."""

import json
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from contracts.acl import ADMIN
from contracts.topic import TopicError, check_level
from contracts.v1.policy import Rights, Role
from contracts.v1.user import (
    ADD_USER,
    ALL_USERS,
    LIST_USERS,
    REMOVE_USER,
    SET_OWN_PASSWORD,
    SET_PASSWORD,
    SET_ROLE,
    AddUser,
    ListUsers,
    RemoveUser,
    SetPassword,
    SetRole,
)
from services.cli import asking, completion
from services.cli.new_password import kept, new_password
from services.cli.options import HERE, AsJson, Folder, fail
from services.cli.person import current_person
from services.cli.site import Site
from services.cli.table import console

ask = partial(asking.ask, account=ADMIN.name, hint="is the identity service running? `dinrail up` starts it")

users_app = typer.Typer(no_args_is_help=True, help="Add, change and remove the people who may use a site.")


def _checked(name: str) -> str:
    """The name, which is part of a topic and of a file's name."""
    try:
        return check_level("user", name)
    except TopicError as error:
        fail(str(error))


Name = Annotated[
    str,
    typer.Argument(
        help="The user: a-z 0-9 _ -, and no service's name.", callback=_checked, autocompletion=completion.users
    ),
]
RoleName = Annotated[Role, typer.Argument(help="What he may do.")]
Devices = Annotated[list[str] | None, typer.Option("--device", help="Sees and commands this device only; repeat it.")]
Writes = Annotated[
    list[str] | None, typer.Option("--writes", help="Writes only DEVICE/TAG, with * and ? as in file names; repeat it.")
]
Workspaces = Annotated[list[str] | None, typer.Option("--workspace", help="Only this workspace's; repeat it.")]
PasswordFile = Annotated[Path | None, typer.Option(help="Read the password there; - reads the standard input.")]
Generate = Annotated[bool, typer.Option("--generate", help="Make a password, kept in the site's secrets/.")]


@users_app.command()
def add(
    name: Name,
    role: RoleName,
    device: Devices = None,
    writes: Writes = None,
    workspace: Workspaces = None,
    password_file: PasswordFile = None,
    generate: Generate = False,
    folder: Folder = HERE,
) -> None:
    """Add a user. He can log in at once; nothing is restarted."""
    password = new_password(name, file=password_file, generate=generate)
    rights = {"role": role, "devices": device, "writes": writes, "workspaces": workspace}
    asked = asking.question(AddUser, {**rights, "password": password.hashed()})
    file = Site(folder).password(name)
    try:
        with kept(file, password, keep=generate):
            change = ask(folder, ADD_USER, asked, id=name)
    except OSError as error:
        fail(f"{error.filename or file}: {error.strerror}")
    typer.echo(f"added {name}: {_rights_text(change.rights)}")
    if generate:
        typer.echo(f"{file}: the password")
    _warn(folder, device or (), writes or ())


@users_app.command()
def passwd(name: Name, password_file: PasswordFile = None, generate: Generate = False, folder: Folder = HERE) -> None:
    """Give a user another password, or yourself: `dinrail --as NAME users passwd NAME`.

    Who is connected with the old one is disconnected.
    """
    password = new_password(name, file=password_file, generate=generate)
    file = Site(folder).password(name)
    person = current_person()
    command = SET_OWN_PASSWORD if person is not None and person.name == name else SET_PASSWORD
    keep = generate or file.exists()  # the site's own users: the command line logs in by what stands there
    try:
        with kept(file, password, keep=keep):
            ask(folder, command, SetPassword(password=password.hashed()), id=name)
    except OSError as error:
        fail(f"{error.filename or file}: {error.strerror}")
    typer.echo(f"{name} has a new password{f', kept in {file}' if keep else ''}")


@users_app.command()
def role(
    name: Name,
    role: RoleName,
    device: Devices = None,
    writes: Writes = None,
    workspace: Workspaces = None,
    folder: Folder = HERE,
) -> None:
    """Give a user these rights, in place of those that he has. They hold at once, for open connections too."""
    rights = {"role": role, "devices": device, "writes": writes, "workspaces": workspace}
    change = ask(folder, SET_ROLE, asking.question(SetRole, rights), id=name)
    typer.echo(f"{name}: {_rights_text(change.rights)}")
    _warn(folder, device or (), writes or ())


@users_app.command()
def remove(name: Name, folder: Folder = HERE) -> None:
    """Remove a user. His open connections end."""
    ask(folder, REMOVE_USER, RemoveUser(), id=name)
    file = Site(folder).password(name)
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        typer.echo(f"{file} is of no use any more, and stays: {error.strerror}", err=True)
    typer.echo(f"removed {name}")


@users_app.command("list")
def list_users(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Show every user, his role, and what narrows it."""
    users = ask(folder, LIST_USERS, ListUsers(), id=ALL_USERS).users
    if as_json:
        told = {name: rights.model_dump(mode="json") for name, rights in users.items()}
        typer.echo(json.dumps(told, ensure_ascii=False))
        return
    table = Table("user", "role", "devices", "writes", "workspaces", box=None)
    for name, rights in users.items():
        narrowed = (_names(one) for one in (rights.devices, rights.writes, rights.workspaces))
        table.add_row(name, rights.role.value, *narrowed)
    console().print(table)


def _names(names: Sequence[str] | None) -> str:
    return "all" if names is None else ", ".join(names) or "none"


def _rights_text(rights: Rights | None) -> str:
    assert rights is not None
    narrowed = (("devices", rights.devices), ("writes", rights.writes), ("workspaces", rights.workspaces))
    return "; ".join(
        [rights.role.value, *(f"{what}: {_names(names)}" for what, names in narrowed if names is not None)]
    )


def _warn(folder: Path, devices: Sequence[str], writes: Sequence[str]) -> None:
    """A device may come later, or be misspelt."""
    known = [path.stem for path in Site(folder).devices.glob("*.yaml")]
    for pattern in [*devices, *(one.partition("/")[0] for one in writes)]:
        if not any(fnmatchcase(device, pattern) for device in known):
            typer.echo(f"there is no device {pattern} in {Site(folder).devices} so far", err=True)
