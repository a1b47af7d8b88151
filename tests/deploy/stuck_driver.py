"""A driver whose read never comes back, for gateways in containers: they have its folder, and nothing else of ours."""

import shutil
from pathlib import Path

from tests import plain_driver

DRIVER = """\
import threading
from pathlib import Path

from plugins.api.driver import DeviceError

from .plain_driver import Fields, PlainDevice, PlainDriver


class Connection(Fields):
    once: Path | None = None


class Device(PlainDevice):
    async def read(self, group):
        once = self._spec.connection.once
        if once is not None:
            try:
                once.touch(exist_ok=False)
            except FileExistsError:
                raise DeviceError("it was stuck before") from None
        threading.Event().wait()


class Driver(PlainDriver):
    connection = Connection
    device = Device


DRIVER = Driver()
"""


def lay(folder: Path) -> None:
    """Makes the folder, with the plugin in it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plugin.yaml").write_text(plain_driver.manifest("stuck"))
    (folder / "driver.py").write_text(DRIVER)
    shutil.copy(plain_driver.__file__, folder / "plain_driver.py")


def device(*, once: str | None = None) -> str:
    """The file of a device that gets stuck. once: a file that is made then, and keeps it from getting stuck again."""
    connection = "" if once is None else f"connection: {{once: {once}}}\n"
    groups = "groups: {all: {interval: 1s, tags: {level: {type: float64}}}}\n"
    return f"device: stuck\ndriver: stuck\n{connection}{groups}"
