"""What a command cannot do as asked is told in one line with its place, and ends with 2."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.cli.main import app

LONG = "x" * 201


@pytest.mark.parametrize("command", ["show x --version 0", "rollback x 0", "delete x --expect-version 0"])
def test_versions_begin_with_one(command: str) -> None:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["pipeline", *command.split()])

    assert (result.exit_code, "greater than or equal to 1" in result.output) == (2, True)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("events verify --file absent.db", "absent.db: there is no such file; name a recorder.db"),
        ("events verify --anchors absent.txt", "absent.txt: No such file or directory"),
        ("events verify --anchors bytes.bin", "bytes.bin: not UTF-8; name the file of `recorder.anchors`"),
        ("certs list --dir absent", "absent: there is no such folder; name the site's with --dir"),
        ("certs trust bytes.bin --dir absent", "absent: there is no such folder; name the site's with --dir"),
        ("init --dir bytes.bin/site", "bytes.bin/site/broker: Not a directory"),
        ("read pump A/b", "group: 'A/b' cannot be a name; use 1 to 63 of a-z 0-9 _ - and begin with"),
        (f"alarm ack tank --comment {LONG}", "comment: String should have at most 200 characters"),
        (f"alarm shelve tank 1h --comment {LONG}", "comment: String should have at most 200 characters"),
        ("alarm shelve tank 8d", "8d: an alarm is put aside for 7d at the most"),
        ("alarm shelve tank 0s", "0s: an alarm is put aside for 7d at the most"),
        (f"pipeline cancel r1 --reason {LONG}", "reason: String should have at most 200 characters"),
        ("events list --type A/b", "type: String should match pattern"),
        ("recorder deadletters --reason A/b", "reason: "),
        ("--as A/b tags --dir site", "--as: user: 'A/b' cannot stand in a topic; use 1 to 63 of a-z 0-9 _ -"),
        ("modbus scan 127.0.0.1 --timeout 5", "timeout: a duration needs its unit; write 5s or 5ms"),
        ("device put bytes.bin", "bytes.bin: not UTF-8; save it as text"),
        ("device put bytes.bin/x", "bytes.bin/x: Not a directory"),
        ("events list --since 2h --until 3h", "--since is not before --until"),
        ("history level --every 0s", "--every 0s: not a length of time; write 10s, 1m, 1h or 1d"),
        ("history level --every 10000000000d", "--every 10000000000d: not a length of time"),
        ("recorder audit --since 2h --until 3h", "--since is not before --until"),
        ("tags export pump --dir absent", "absent/dinrail.yaml: cannot be read: No such file or directory"),
    ],
)
def test_what_cannot_be_done_is_told_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bytes.bin").write_bytes(b"\xff\xfe")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "dinrail.yaml").write_text("site: plant\nbroker: {host: 127.0.0.1, port: 1}\n")

    result = CliRunner().invoke(app, command.split())

    assert (result.exit_code, result.output.startswith(told)) == (2, True), result.output


def test_a_file_of_bytes_is_checked_without_the_words_of_python(tmp_path: Path) -> None:
    (path := tmp_path / "pump.yaml").write_bytes(b"\xff\xfe")

    result = CliRunner().invoke(app, ["check", str(path)])

    assert result.exit_code == 1
    assert f"{path}:1: cannot be read: not UTF-8\n    mend: save it as readable UTF-8 text\n" in result.output


def test_a_password_that_nobody_types_is_told_with_the_option_for_it(tmp_path: Path) -> None:
    (tmp_path / "dinrail.yaml").write_text("site: plant\nbroker: {host: 127.0.0.1, port: 1}\n")

    result = CliRunner().invoke(app, ["--as", "anna", "tags", "--dir", str(tmp_path)], input="")

    assert result.exit_code == 2
    assert "no password of anna was given: type it at a terminal, or name its --password-file" in result.output
