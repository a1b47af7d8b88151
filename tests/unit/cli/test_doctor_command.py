"""`dinrail doctor` where it can look at nothing."""

from pathlib import Path

from typer.testing import CliRunner

from services.cli.main import app


def test_one_failure_is_counted_as_one(tmp_path: Path) -> None:
    (tmp_path / "dinrail.yaml").write_text("broker: [")

    result = CliRunner().invoke(app, ["doctor", "--dir", str(tmp_path)])

    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == f"{tmp_path}: 1 failure, 0 warnings, 0 are well"
