"""Passwords of the broker's accounts: made once, kept in files that only their owner reads, hashed for mosquitto."""

import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

from services.identity.password import SALT_BYTES, hash_password, is_hash_of
from services.runtime.file_lock import held_file
from services.runtime.mqtt.delivery import KEPT_CHARACTERS
from services.runtime.site_file import replace_file

PASSWORD_BYTES = 32


class PasswordUnreadable(Exception):
    """A file holds no password; the message says which, and what to do."""


def has_password(path: Path) -> bool:
    """Whether the file is there and not empty, as a full disk or a power cut may have left it. Raises OSError."""
    return path.exists() and bool(path.read_bytes().strip())


def has_lost_password(path: Path) -> bool:
    """Whether the file is there, and holds nothing that could be a password. Raises OSError."""
    try:
        return path.exists() and not path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        return True


def keep_password(path: Path) -> str:
    """The password in the file; made of 32 random bytes, mode 0600, if there is none yet.

    Raises PasswordUnreadable, OSError.
    """
    if not has_password(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _put(path, secrets.token_urlsafe(PASSWORD_BYTES) + "\n")
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise PasswordUnreadable(f"{path}: not UTF-8 text; remove it, and `dinrail init` makes another") from None


def renew_passwords(paths: Iterable[Path]) -> list[str]:
    """Puts other passwords into files of services; a line for each. Raises OSError."""
    renewed = list(paths)
    for path in renewed:
        _renew_password(path)
    return [f"{path}: renewed" for path in renewed]


def password_file(passwords: Mapping[str, str], *, present: str) -> str:
    """The text of mosquitto's password_file for these accounts.

    present: the text of the file as it is. A line that still fits its password stays, so that the same passwords give
    the same file.
    """
    known = dict(line.split(":", 1) for line in present.splitlines() if ":" in line)
    lines = []
    for account, password in passwords.items():
        hashed = known.get(account, "")
        if not is_hash_of(hashed, password):
            hashed = hash_password(password, salt=secrets.token_bytes(SALT_BYTES))
        lines.append(f"{account}:{hashed}\n")
    return "".join(lines)


def _put(path: Path, text: str) -> None:
    """A new file, or one in the place of an empty one: on the disk before it has its name. Raises OSError."""
    with held_file(path):  # of two at once the second finds the password of the first by now, and leaves it
        if not has_password(path):
            replace_file(path, text.encode(), mode=0o600)


def _renew_password(path: Path) -> None:
    """Puts another password into a service's file, which running services and containers hold open by its inode.

    It is as long as the one before and goes to the disk in one piece, so that nobody reads half of it. The first
    characters stay: its owner's sessions at the broker are named after them. Raises OSError.
    """
    before = keep_password(path)
    new = secrets.token_urlsafe(PASSWORD_BYTES)
    if len(before) == len(new):
        new = before[:KEPT_CHARACTERS] + new[KEPT_CHARACTERS:]
    descriptor = os.open(path, os.O_WRONLY)
    try:
        text = f"{new}\n".encode()
        os.pwrite(descriptor, text, 0)
        os.ftruncate(descriptor, len(text))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
