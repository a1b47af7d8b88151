import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.credentials import keep_password, password_file
from services.identity.password import hash_password, is_hash_of


def test_a_password_file_is_made_once_and_read_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "viewer.password"

    made = keep_password(path)

    assert keep_password(path) == made
    assert len(made) >= 40
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("left", [None, b""])
def test_whoever_asks_at_the_same_moment_gets_the_same_password(tmp_path: Path, left: bytes | None) -> None:
    paths = [tmp_path / f"{number}.password" for number in range(30)]
    together = Barrier(3)

    def ask() -> list[str]:
        found = []
        for path in paths:
            if left is not None and together.wait(30) == 0:
                path.write_bytes(left)  # as a full disk has left it
            together.wait(30)
            found.append(keep_password(path))
        return found

    with ThreadPoolExecutor(3) as people:
        asked = [people.submit(ask) for _ in range(3)]
        answers = [one.result(30) for one in asked]

    assert answers == [[path.read_text().rstrip("\n") for path in paths]] * 3
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in paths}


def test_two_accounts_never_get_the_same_password(tmp_path: Path) -> None:
    assert keep_password(tmp_path / "a") != keep_password(tmp_path / "b")


def test_the_hash_is_the_one_that_mosquitto_passwd_writes() -> None:
    # Written by mosquitto_passwd 2.0.11 for the password "secret".
    theirs = (
        "$7$101$ISoRZTboQoRfONOY$"
        "p14sQv66239q3DVWQL7rSig9Y9dTi8OfZpyiXYD0QmgiM/3wrCZMr9Xm89Q7ynuRIfrBvGZZjaSM3bz9knRPIw=="
    )

    assert is_hash_of(theirs, "secret")
    assert not is_hash_of(theirs, "Secret")


@given(password=st.text(min_size=1), other=st.text(min_size=1), salt=st.binary(min_size=12, max_size=12))
def test_a_hash_fits_its_own_password_only(password: str, other: str, salt: bytes) -> None:
    hashed = hash_password(password, salt=salt)

    assert is_hash_of(hashed, password)
    assert is_hash_of(hashed, other) == (password == other)


def test_a_line_in_an_unknown_form_fits_no_password() -> None:
    assert not is_hash_of("", "x")
    assert not is_hash_of("$6$abc$def", "x")
    assert not is_hash_of("$7$101$%%%$x", "x")


def test_the_same_passwords_give_the_same_file() -> None:
    first = password_file({"a": "1", "b": "2"}, present="")

    assert password_file({"a": "1", "b": "2"}, present=first) == first


def test_a_changed_password_changes_its_own_line_only_and_a_removed_account_goes() -> None:
    first = password_file({"a": "1", "b": "2", "c": "3"}, present="").splitlines()

    second = password_file({"a": "1", "b": "other"}, present="\n".join(first)).splitlines()

    assert second[0] == first[0]
    assert second[1] != first[1]
    assert len(second) == 2
