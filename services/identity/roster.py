"""The users of a site and what may be done to them. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from contracts.acl import OWN_ACCOUNTS
from contracts.policy import is_whole
from contracts.topic import TopicError, check_level
from contracts.v1.command import PLANT, ErrorCode
from contracts.v1.policy import MOST_USERS, Policy, Rights, Role
from contracts.v1.topics import TOPICS
from contracts.v1.user import ALL_USERS

MOST_NAMED = 3000
"""Devices, tags and workspaces in the rights of all users together. Each is about a dozen lines of the broker's, which
reads all of them at each change and serves nobody meanwhile: some 40,000 take it a second or two."""

RESERVED = frozenset(
    {
        PLANT,
        ALL_USERS,
        *(account.name for account in OWN_ACCOUNTS),
        *(name for topic in TOPICS for name in topic.writers),
    }
)
"""Names that no user has: accounts of services, who the contracts say writes a topic, and words of the topics."""
OTHERS = frozenset({"influxdb"})
"""Programs of others whose password the site keeps where that of a user of their name would be kept."""
_NUMBERED = frozenset(f"{account.name}-" for account in OWN_ACCOUNTS)
"""So instances are called of which there are more, such as compute-2: they come and go."""
_TAKEN = "{!r} is the name of a service or of one of its instances, or a word of the topics; take another"


@dataclass(frozen=True, slots=True)
class User:
    """rights: what he may do. password: hashed, see contracts.v1.user.PasswordHash. since: see Policy."""

    rights: Rights
    password: str
    since: int | None = None


Users = Mapping[str, User]
"""The users of a site by name."""


class UserRefused(Exception):
    """It cannot be done to the users; says why. code: for a program."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def fault_of_name(name: str) -> str | None:
    """What is wrong with the name of a user."""
    try:
        check_level("user", name)
    except TopicError as error:
        return str(error)
    return _TAKEN.format(name) if name in RESERVED else None


def fault_of_new_name(name: str, *, taken: Collection[str]) -> str | None:
    """What is wrong with a name that somebody is to be given. taken: names of services and their instances."""
    if fault := fault_of_name(name):
        return fault
    if name in taken or (name.rstrip("0123456789") in _NUMBERED and name[-1].isdigit()):
        return _TAKEN.format(name)
    if name in OTHERS:
        return f"secrets/{name}.password is the site's own, for {name}; take another name, such as {name}-reader"
    return None


def fault_of_users(users: Users) -> str | None:
    """What is wrong with these users as a whole."""
    if not any(user.rights.role is Role.ADMIN and is_whole(user.rights) for user in users.values()):
        return "there must be an admin whose rights nothing narrows: nobody else can manage users"
    if len(users) > MOST_USERS:
        return f"more than {MOST_USERS} users"
    if (named := sum(map(_named, users.values()))) > MOST_NAMED:
        return (
            f"the rights of all users name {named} devices, tags and workspaces, {MOST_NAMED} at the most: the broker "
            "would stand still while it reads them; narrow fewer users, or by workspace instead of by device"
        )
    return None


def policy_of(users: Users, *, t_us: int) -> Policy:
    """What every service is told of them. t_us: microseconds since 1970 UTC."""
    since = {name: user.since for name, user in sorted(users.items()) if user.since is not None}
    return Policy(t=t_us, users={name: user.rights for name, user in sorted(users.items())}, since=since or None)


def dated(users: Users, *, before: Users, now_us: int) -> Users:
    """With the times of those who were there before, and now for who has come: a file changed by hand has none.

    Of the first users that there ever were nothing is known.
    """
    new = now_us if before else None
    times = {name: before[name].since if name in before else new for name in users}
    return {name: user if user.since is not None else replace(user, since=times[name]) for name, user in users.items()}


def added(users: Users, name: str, user: User, *, taken: Collection[str]) -> Users:
    """With this user. taken: see fault_of_new_name(). Raises UserRefused."""
    if fault := fault_of_new_name(name, taken=taken):
        raise UserRefused(ErrorCode.INVALID, fault)
    if name in users:
        raise UserRefused(ErrorCode.CONFLICT, f"there is a user {name!r} already")
    return _checked({**users, name: user})


def removed(users: Users, name: str) -> Users:
    """Without this user. Raises UserRefused."""
    _known(users, name)
    return _checked({other: user for other, user in users.items() if other != name})


def with_rights(users: Users, name: str, rights: Rights) -> Users:
    """With other rights of this user. Raises UserRefused."""
    return _checked({**users, name: replace(_known(users, name), rights=rights)})


def with_password(users: Users, name: str, password: str) -> Users:
    """With another password of this user. Raises UserRefused."""
    return {**users, name: replace(_known(users, name), password=password)}


def _named(user: User) -> int:
    rights = user.rights
    return sum(len(names or ()) for names in (rights.devices, rights.writes, rights.workspaces))


def _known(users: Users, name: str) -> User:
    if name not in users:
        raise UserRefused(ErrorCode.NOT_FOUND, f"there is no user {name!r}")
    return users[name]


def _checked(users: Users) -> Users:
    if fault := fault_of_users(users):
        raise UserRefused(ErrorCode.CONFLICT, f"not done: {fault}")
    return users
