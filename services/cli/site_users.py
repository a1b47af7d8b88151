"""The users of a site's folder: the first ones, made by `dinrail init`, and all of them in the broker's files."""

import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

from contracts.acl import OWN_ACCOUNTS
from contracts.v1.policy import Rights, Role
from plugins.api.document import DocumentError
from services.cli.credentials import has_lost_password, has_password, keep_password, password_file
from services.identity.broker_files import ACCESS, PASSWORDS, write_broker_access
from services.identity.password import SALT_BYTES, hash_password
from services.identity.roster import User, Users
from services.identity.user_file import users_of, users_text
from services.runtime.site_file import replace_file

FIRST_USERS: Mapping[str, Role] = {role.value: role for role in Role}
"""Named as their roles; the command line uses them."""


PasswordFile = Callable[[str], Path]
"""The file with the password of an account."""


def make_users(file: Path, *, password: PasswordFile) -> list[str]:
    """Makes the file of users, unless there is one; gives a line per thing made. Raises OSError."""
    if file.exists():
        return []
    users = {}
    made = []
    for name, role in FIRST_USERS.items():
        path = password(name)
        if not has_password(path):
            made.append(f"{path}: generated secret")
        hashed = hash_password(keep_password(path), salt=secrets.token_bytes(SALT_BYTES))
        users[name] = User(Rights(role=role), hashed)
    file.parent.mkdir(exist_ok=True, mode=0o700)
    replace_file(file, users_text(users).encode(), mode=0o600)
    return [*made, f"{file}: the users {', '.join(users)}; `dinrail users` adds others"]


def lost_passwords(*, password: PasswordFile) -> list[str]:
    """A line, with the mend, for each first user whose file holds no password any more. Raises OSError.

    Only its hash is left, so that no other can be made here. A file that is not there is not needed.
    """
    lost = {name: password(name) for name in FIRST_USERS if has_lost_password(password(name))}
    return [f"{path}: holds no password any more; {_mend(name)}" for name, path in lost.items()]


def read_users(file: Path) -> Users:
    """Those in the file. Raises DocumentError with every fault, OSError."""
    return users_of(file.read_bytes(), source=str(file))


def write_access(broker: Path, *, site: str, users_file: Path, password: PasswordFile) -> list[str]:
    """Brings the broker's passwords and access rules up to date; gives a line per file that changed.

    Where the file of users has a fault, the broker keeps the users that it has, and the line says so. Raises
    DocumentError if it has none yet, OSError.
    """
    passwords = broker / PASSWORDS
    present = passwords.read_text(encoding="utf-8") if passwords.exists() else ""
    own = {account.name: keep_password(password(account.name)) for account in OWN_ACCOUNTS}
    hashed = dict(line.split(":", 1) for line in password_file(own, present=present).splitlines())
    try:
        users = read_users(users_file)
    except DocumentError as error:
        if not (passwords.exists() and (broker / ACCESS).exists()):
            raise
        return [f"{error}\n    until then the broker keeps the users that it has"]
    return [str(path) for path in write_broker_access(broker, site=site, users=users, renewed=hashed)]


def _mend(name: str) -> str:
    if name == Role.ADMIN.value:  # whose password the command line itself needs to set one
        return (
            "`dinrail --as NAME users passwd admin --generate` makes another, where NAME is one more admin of the "
            "running site; docs/users.md tells what to do if there is none"
        )
    return f"`dinrail users passwd {name} --generate` makes another while the site runs"
