from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from services.cli.main import app
from services.cli.site import TREE

PLANT = TREE / "examples/plant"
AXIS = """\
device: axis
driver: mock_servo
groups:
  motion:
    interval: 100ms
    tags:
      position: {signal: position, type: float64}
"""


def dinrail(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_demo_plant_has_no_faults_and_its_size_is_told() -> None:
    result = dinrail("check", PLANT)

    assert result.exit_code == 0, result.output
    assert "4 devices" in result.output
    assert "no faults" in result.output


def test_one_file_can_be_checked_alone(tmp_path: Path) -> None:
    (tmp_path / "axis.yaml").write_text(AXIS)

    result = dinrail("check", tmp_path / "axis.yaml")

    assert result.exit_code == 0, result.output
    assert "1 device, 1 group, 1 tag" in result.output


@pytest.mark.parametrize("target", ["folder", "file"])
def test_a_fault_is_told_with_file_line_field_and_mend(tmp_path: Path, target: str) -> None:
    path = tmp_path / "axis.yaml"
    path.write_text(AXIS.replace("100ms", "100"))

    result = dinrail("check", path if target == "file" else tmp_path)

    assert result.exit_code == 1
    assert f"{path}:5: groups.motion.interval: " in result.output
    assert "write 100s or 100ms" in result.output


def test_the_settings_of_a_site_are_checked_with_its_devices(tmp_path: Path) -> None:
    site = tmp_path / "site"
    assert dinrail("init", "--dir", site).exit_code == 0
    (site / "devices/axis.yaml").write_text(AXIS.replace("mock_servo", "mock_serv"))
    settings = site / "dinrail.yaml"
    settings.write_text(settings.read_text().replace("  http_port:", "  http_prot:", 1))

    result = dinrail("check", site)

    assert result.exit_code == 1
    assert "gateway.http_prot: unknown key" in result.output
    assert "axis.yaml:2: driver: no driver 'mock_serv'" in result.output


def test_a_missing_path_is_a_fault_not_a_crash(tmp_path: Path) -> None:
    result = dinrail("check", tmp_path / "nothing")

    assert result.exit_code == 1
    assert "no such folder" in result.output


def test_an_unknown_example_is_said_with_those_there_are(tmp_path: Path) -> None:
    result = dinrail("init", "--dir", tmp_path / "site", "--example", "plan")

    assert result.exit_code == 2
    assert "there are: plant" in result.output


def test_a_second_init_says_that_nothing_changed(tmp_path: Path) -> None:
    dinrail("init", "--dir", tmp_path / "site")

    result = dinrail("init", "--dir", tmp_path / "site")

    assert result.exit_code == 0
    assert "nothing changed" in result.output
