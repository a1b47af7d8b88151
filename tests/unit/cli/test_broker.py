import os
import shutil
import subprocess
from pathlib import Path

import pytest

from services.cli import broker
from services.cli.broker import BrokerMissing, fetch_mosquitto, find_mosquitto


@pytest.fixture
def no_system_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without mosquitto, which lies in /usr/sbin where there is one."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(broker, "SYSTEM_FOLDERS", ())


def unpack(tools: Path) -> Path:
    """What a fetch leaves: a program and a library beside it."""
    program = tools / "mosquitto/usr/sbin/mosquitto"
    library = tools / "mosquitto/usr/lib/some-linux-gnu/libmosquitto.so.1"
    for path in (program, library):
        path.parent.mkdir(parents=True)
        path.touch()
    return program


@pytest.mark.usefixtures("no_system_broker")
def test_without_a_broker_the_message_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(BrokerMissing, match=r"python -m services\.cli\.broker"):
        find_mosquitto(tmp_path / "tools")


@pytest.mark.usefixtures("no_system_broker")
def test_a_fetched_broker_is_found_with_its_own_libraries_before_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = unpack(tmp_path / "tools")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/ours")

    found = find_mosquitto(tmp_path / "tools")

    assert found.program == program
    assert found.environment == {
        "LD_LIBRARY_PATH": f"{tmp_path / 'tools/mosquitto/usr/lib/some-linux-gnu'}{os.pathsep}/ours"
    }


def test_the_systems_broker_comes_before_a_fetched_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unpack(tmp_path / "tools")
    system = tmp_path / "bin/mosquitto"
    system.parent.mkdir()
    system.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(system.parent))

    found = find_mosquitto(tmp_path / "tools")

    assert found.program == system
    assert found.environment == {}


def test_without_apt_the_message_asks_for_an_installed_broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(BrokerMissing, match="install mosquitto"):
        fetch_mosquitto(tmp_path / "tools")


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="needs Debian's apt-get")
@pytest.mark.usefixtures("no_system_broker")
def test_a_fetched_broker_runs_and_only_its_own_folder_is_touched(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    lists = {path: path.stat().st_mtime_ns for path in Path("/var/lib/apt/lists").iterdir()}

    try:
        fetched = fetch_mosquitto(tools)
    except BrokerMissing as error:
        pytest.skip(f"no package could be had: {error}")

    shown = subprocess.run(
        [str(fetched.program), "-h"],
        env={**os.environ, **fetched.environment},
        capture_output=True,
        text=True,
        check=False,  # its help ends with 3
    )
    assert shown.stdout.startswith("mosquitto version 2")
    assert [path.name for path in tools.iterdir()] == ["mosquitto"]
    assert {path: path.stat().st_mtime_ns for path in Path("/var/lib/apt/lists").iterdir()} == lists


@pytest.mark.usefixtures("no_system_broker")
def test_a_failed_fetch_says_which_step_failed_and_leaves_nothing_that_looks_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    for name in ("apt-get", "dpkg-deb"):
        (folder / name).write_text("#!/bin/sh\necho 'no network' >&2\nexit 100\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    with pytest.raises(BrokerMissing, match=r"update\nno network"):
        fetch_mosquitto(tmp_path / "tools")

    with pytest.raises(BrokerMissing):
        find_mosquitto(tmp_path / "tools")
