"""Passwords that users are given: typed twice, read from a file, or made; hashed here, so that none of them travels."""

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import typer

from services.cli.asking import NoAnswer
from services.cli.options import fail
from services.identity.password import PERSON_ITERATIONS, QUICK_ITERATIONS, SALT_BYTES, hash_password

SHORTEST = 12
LONGEST = 1000
FEWEST_KINDS = 5
"""Different characters, at least."""
MADE_BYTES = 32
STDIN = "-"


@dataclass(frozen=True, slots=True)
class NewPassword:
    """made: by us, of 32 random bytes, and not thought of by a person."""

    text: str
    made: bool

    def hashed(self) -> str:
        """As the broker keeps it."""
        iterations = QUICK_ITERATIONS if self.made else PERSON_ITERATIONS
        return hash_password(self.text, salt=secrets.token_bytes(SALT_BYTES), iterations=iterations)


def new_password(user: str, *, file: Path | None, generate: bool) -> NewPassword:
    """Of this user; ends the program if it is too weak. file: where it stands, `-` for the standard input."""
    if generate:
        if file is not None:
            fail("--generate makes a password: leave out --password-file")
        return NewPassword(secrets.token_urlsafe(MADE_BYTES), made=True)
    text = _typed(user) if file is None else _read(file)
    if fault := fault_of_password(text, user=user):
        fail(f"{fault}; --generate makes one")
    return NewPassword(text, made=False)


def fault_of_password(text: str, *, user: str) -> str | None:
    """Why nobody should be let in by this password."""
    if not text:
        return "the password is empty"
    if any(ord(letter) < ord(" ") for letter in text):
        return "the password has more than one line, or characters that nobody can type"
    if not SHORTEST <= len(text) <= LONGEST:
        return f"the password must have {SHORTEST} to {LONGEST} characters"
    if len(set(text)) < FEWEST_KINDS or user in text.lower():
        return f"the password is weak: use at least {FEWEST_KINDS} different characters, and not the user's name"
    return None


@contextmanager
def kept(path: Path, password: NewPassword, *, keep: bool) -> Iterator[None]:
    """Keeps the password in the file, mode 0600, if what is done inside succeeds. keep: else nothing is kept.

    It is written before: what could not be kept shall not become anybody's password. Where nobody knows whether it has
    become that, it stays beside the file. Raises OSError.
    """
    if not keep:
        yield
        return
    partial = path.with_name(path.name + ".new")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(password.text + "\n")
        file.flush()
        os.fsync(file.fileno())
    unknown = False
    try:
        yield
        partial.replace(path)
    except NoAnswer:
        unknown = True
        typer.echo(f"{partial}: the new password, if it was set after all", err=True)
        raise
    finally:
        if not unknown:
            partial.unlink(missing_ok=True)


def _typed(user: str) -> str:
    if not sys.stdin.isatty():
        fail("no terminal to ask for the password at: give --password-file FILE (- reads it here), or --generate")
    return str(typer.prompt(f"Password of {user}", hide_input=True, confirmation_prompt="Once more", err=True))


def _read(file: Path) -> str:
    try:
        return (sys.stdin.read() if str(file) == STDIN else file.read_text(encoding="utf-8")).rstrip("\r\n")
    except OSError as error:
        fail(f"{file}: {error.strerror}")
    except UnicodeDecodeError:
        fail(f"{file}: not UTF-8")
