"""Users of a site, as admins add, change and remove them; the identity service executes it."""

from typing import Annotated, Any

from pydantic import Field

from contracts.v1.command import Command, command
from contracts.v1.message import CommandMessage, Level, Message, is_absent
from contracts.v1.policy import MOST_USERS, Devices, Rights, Role, TagPatterns, Workspaces

PasswordHash = Annotated[str, Field(pattern=r"^\$7\$[1-9][0-9]{0,4}\$[A-Za-z0-9+/]{16,88}={0,2}\$[A-Za-z0-9+/]{86}==$")]
"""As mosquitto_passwd(1) writes it: $7$iterations$salt$key, PBKDF2-HMAC-SHA512 with a key of 64 bytes.

The broker makes it anew at each login, and does nothing else meanwhile: at most 99999 iterations.
"""


class SetRole(CommandMessage):
    """Verb `role` of a user: these are his rights from now on, see Rights; what is absent narrows nothing."""

    role: Role
    devices: Devices | None = Field(default=None, exclude_if=is_absent)
    writes: TagPatterns | None = Field(default=None, exclude_if=is_absent)
    workspaces: Workspaces | None = Field(default=None, exclude_if=is_absent)


class AddUser(SetRole):
    """Verb `add` of a user. password: hashed by who asks; the password itself never travels."""

    password: PasswordHash


class SetPassword(CommandMessage):
    """Verb `passwd` of a user: who is connected with the one before is disconnected."""

    password: PasswordHash


class RemoveUser(CommandMessage):
    """Verb `remove` of a user: his connections end."""


class ListUsers(CommandMessage):
    """Verb `list` of users: all of them."""


class UserChange(Message):
    """What a user may do now; absent once he is removed."""

    user: Level
    rights: Rights | None = Field(default=None, exclude_if=is_absent)


class UserList(Message):
    """Every user's rights by his name."""

    users: Annotated[dict[Level, Rights], Field(max_length=MOST_USERS)]


ALL_USERS = "all"
"""The id of the command that lists them."""
ADD_USER = command(
    "add",
    AddUser,
    UserChange,
    target="user",
    role=Role.ADMIN,
    name="ADD_USER",
    about="Adds a user; `id` is his name.",
)
REMOVE_USER = command(
    "remove",
    RemoveUser,
    UserChange,
    target="user",
    role=Role.ADMIN,
    name="REMOVE_USER",
    about="Removes a user; `id` is his name.",
)
SET_ROLE = command(
    "role",
    SetRole,
    UserChange,
    target="user",
    role=Role.ADMIN,
    name="SET_ROLE",
    about="Sets a user's rights; `id` is his name.",
)
SET_PASSWORD = command(
    "passwd",
    SetPassword,
    UserChange,
    target="user",
    role=Role.ADMIN,
    name="SET_PASSWORD",
    about="Sets a user's password; `id` is his name.",
)
LIST_USERS = command(
    "list",
    ListUsers,
    UserList,
    target="user",
    role=Role.ADMIN,
    name="LIST_USERS",
    about="Lists the users; `id` is `all`.",
)
SET_OWN_PASSWORD = command(
    "own-passwd",
    SetPassword,
    UserChange,
    target="user",
    role=Role.VIEWER,
    own=True,
    name="SET_OWN_PASSWORD",
    about="Sets the password of who asks; `id` is his name.",
)
USER_COMMANDS: tuple[Command[Any, Any], ...] = (
    ADD_USER,
    REMOVE_USER,
    SET_ROLE,
    SET_PASSWORD,
    SET_OWN_PASSWORD,
    LIST_USERS,
)
