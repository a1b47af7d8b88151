"""Where a generated password is kept, by what became of the command that set it."""

from pathlib import Path

import pytest
import typer

from services.cli.asking import NoAnswer
from services.cli.new_password import NewPassword, kept


@pytest.mark.parametrize(
    ("end", "left"), [(None, {"anna.password"}), (NoAnswer(1), {"anna.password.new"}), (typer.Exit(1), set())]
)
def test_a_password_stays_where_it_was_set_and_beside_where_that_is_unknown(
    tmp_path: Path, end: typer.Exit | None, left: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    def set_password() -> None:
        with kept(tmp_path / "anna.password", NewPassword(text="correct horse", made=True), keep=True):
            if end is not None:
                raise end

    if end is None:
        set_password()
    else:
        with pytest.raises(type(end)):
            set_password()

    assert {path.name for path in tmp_path.iterdir()} == left
    assert all(path.read_text() == "correct horse\n" for path in tmp_path.iterdir())
    assert ("anna.password.new" in capsys.readouterr().err) == ("anna.password.new" in left)
