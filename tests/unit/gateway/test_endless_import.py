"""Drivers whose import does not end: refused with the place, and not imported once more as they are."""

import pytest

from plugins.api import importing
from plugins.api.registry import PluginError, Registry
from tests.plain_driver import manifest
from tests.polling import wait_until

MANIFEST = manifest("steady")
ENDLESS = """\
import time
from pathlib import Path

HERE = Path(__file__).parent
with (HERE / "begun").open("a") as file:
    file.write("x")
while not (HERE / "enough").exists():
    time.sleep(0.01)
"""
MENDED = """\
from tests.plain_driver import PlainDriver

DRIVER = PlainDriver()
"""


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "steady"
    folder.mkdir()
    (folder / "plugin.yaml").write_text(MANIFEST)
    (folder / "driver.py").write_text(ENDLESS)
    yield folder
    (folder / "enough").touch()


def test_an_import_that_does_not_end_is_refused_with_its_place_and_begun_anew_only_when_the_code_has_changed(
    folder, monkeypatch
):
    begun = folder / "begun"

    def out_of_patience(_thread, _seconds):
        wait_until(lambda: begun.exists() and begun.read_text(), 30, what="the beginning of the import")

    monkeypatch.setattr(importing._Import, "join", out_of_patience)
    drivers = Registry([folder.parent], kind="driver")
    told = []
    for _ in range(2):
        with pytest.raises(PluginError) as refused:
            drivers.load("steady")
        told.append(str(refused.value))
    monkeypatch.undo()
    begun_once = begun.read_text()
    (folder / "constant.py").write_text("CONSTANT = 1.0\n")
    (folder / "driver.py").write_text(MENDED)

    assert drivers.load("steady").manifest.id == "steady"
    assert told[0].startswith(f"{folder / 'driver.py'}:")
    assert "its import has not ended within 30 s" in told[0]
    assert told[1] == told[0]
    assert begun_once == "x"
