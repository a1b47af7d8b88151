"""What devices say about how they are served: each line once in the log."""

from plugins.api.driver import Device, Remarks
from services.runtime.logs import Log

_MOST = 1000
"""Lines remembered; more would be a driver that never says the same thing twice."""


class RemarkLog:
    """The remarks of one device over all its connections."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._told: set[str] = set()
        self._device: Remarks | None = None

    def follow(self, device: Device) -> None:
        """This connection is asked from now on."""
        self._device = device if isinstance(device, Remarks) else None

    def tell(self) -> None:
        """Logs what is new."""
        if self._device is None:
            return
        for line in self._device.remarks():
            if line not in self._told and len(self._told) < _MOST:
                self._told.add(line)
                self._log.warning("device_remark", remark=line)
