"""Who may do what on a site: the roles and rights of its users, as every service checks them once more.

The broker holds what a topic can express (contracts/acl.py); this is the whole of it. A service that knows no policy
refuses the commands of users.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from contracts.topic import Topic
from contracts.v1.message import Level, Message, Micros, is_absent

MOST_USERS = 1000
MOST_NAMES = 500
"""Devices, patterns or workspaces of one user."""

TAG_PATTERN = r"^[a-z0-9*?][a-z0-9_*?-]{0,62}/[a-z0-9*?][a-z0-9_*?-]{0,62}$"
TagPattern = Annotated[str, Field(pattern=TAG_PATTERN)]
"""DEVICE/TAG, each with * and ? as in file names."""
Devices = Annotated[list[Level], Field(max_length=MOST_NAMES)]
TagPatterns = Annotated[list[TagPattern], Field(max_length=MOST_NAMES)]
Workspaces = Annotated[list[Level], Field(max_length=MOST_NAMES)]


class Role(StrEnum):
    """What a user is on the site; each may do all that those before it may.

    viewer: looks. operator: writes tags, calls functions, runs pipelines, handles alarms. engineer: changes devices and
    pipelines. admin: manages users.
    """

    VIEWER = "viewer"
    OPERATOR = "operator"
    ENGINEER = "engineer"
    ADMIN = "admin"

    def includes(self, other: "Role") -> bool:
        """Whether who has this role may do all that those of the other may."""
        ranks = tuple(Role)
        return ranks.index(self) >= ranks.index(other)


class Rights(Message):
    """What one user may do: his role, and where it holds; a field that is absent narrows nothing.

    devices: which devices he sees and commands. writes: which tags, of those devices, he may write. workspaces: whose
    pipelines, runs, alarms and events he sees and commands.
    """

    role: Role
    devices: Devices | None = Field(default=None, exclude_if=is_absent)
    writes: TagPatterns | None = Field(default=None, exclude_if=is_absent)
    workspaces: Workspaces | None = Field(default=None, exclude_if=is_absent)


class Policy(Message):
    """The rights of every user by name; who is not named may do nothing. t: when it was made.

    since: when a name was given to who has it now, so that nobody inherits what another of that name has left behind;
    a name that is not there has had one owner for as long as there is a file of users.
    """

    t: Micros
    users: Annotated[dict[Level, Rights], Field(max_length=MOST_USERS)]
    since: Annotated[dict[Level, Micros], Field(max_length=MOST_USERS)] | None = Field(
        default=None, exclude_if=is_absent
    )


POLICY = Topic(
    name="POLICY",
    pattern="policy/main",
    payload=Policy,
    retain=True,
    writers=("identity",),
    about="Roles and rights of the site's users; checked again by each service that executes a command.",
)
