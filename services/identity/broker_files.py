"""The broker's files of passwords and access rules, made of the users and of the contracts."""

from collections.abc import Mapping
from pathlib import Path

from contracts.acl import OWN_ACCOUNTS, access_file
from contracts.user_access import UserAccount
from services.identity.roster import Users
from services.runtime.file_lock import held_file
from services.runtime.site_file import replace_file

PASSWORDS, ACCESS = "passwords", "acl"
LOCK = "lock"
MODE = 0o600


def passwords_text(users: Users, *, present: str, renewed: Mapping[str, str]) -> str:
    """The text of mosquitto's password_file.

    present: of the file as it is, which alone knows the services' passwords, hashed. renewed: of services, hashed, that
    take the place of those.
    """
    known = dict(line.split(":", 1) for line in present.splitlines() if ":" in line)
    own = {account.name: known[account.name] for account in OWN_ACCOUNTS if account.name in known}
    people = {name: user.password for name, user in sorted(users.items())}
    return "".join(f"{name}:{hashed}\n" for name, hashed in {**people, **own, **renewed}.items())


def access_text(site: str, users: Users) -> str:
    """The text of mosquitto's acl_file."""
    people = (UserAccount(name, user.rights) for name, user in sorted(users.items()))
    return access_file(site, (*OWN_ACCOUNTS, *people))


def write_broker_access(
    folder: Path, *, site: str, users: Users, renewed: Mapping[str, str] | None = None
) -> list[Path]:
    """Brings the broker's two files up to date, each as a whole; gives those that changed. renewed: see passwords_text.

    Whoever started the broker lets it read them again. Raises OSError, TopicError.
    """
    passwords, access = folder / PASSWORDS, folder / ACCESS
    with held_file(folder / LOCK):  # what `dinrail init` writes of services meanwhile is not written over
        present = passwords.read_text(encoding="utf-8") if passwords.exists() else ""
        wanted = {
            passwords: passwords_text(users, present=present, renewed=renewed or {}),
            access: access_text(site, users),
        }
        return [path for path, text in wanted.items() if replace_file(path, text.encode(), mode=MODE)]


def is_whole_access(text: str) -> bool:
    """Whether the text is an acl_file that the broker takes as a whole, and not a piece of one, or none of ours.

    mosquitto 2.0 lets everybody do everything once it has read one with a line that it does not understand again, or
    has found none.
    """
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return (
        text.endswith("\n")
        and bool(lines)
        and lines[0].startswith("user ")
        and all(line.startswith(("user ", "topic read ", "topic write ", "topic readwrite ")) for line in lines)
    )
