"""What a device file claims, read from its lines alone, so that a broken file still names its device. Pure."""

import re
from dataclasses import dataclass

from contracts.topic import LEVEL_PATTERN
from services.gateway.device_fields import DEFAULT_GATEWAY


@dataclass(frozen=True, slots=True)
class Claim:
    """The device that a file names and the gateway that it gives it to, and on which line."""

    device: str
    gateway: str
    line: int


def claim_of(text: str) -> Claim | None:
    """What the file claims, as far as it can be read when the file has faults; None where it names no device."""
    device = _DEVICE_LINE.search(text)
    if device is None:
        return None
    gateway = _GATEWAY_LINE.search(text)
    return Claim(device[1], gateway[1] if gateway else DEFAULT_GATEWAY, text.count("\n", 0, device.start(1)) + 1)


_DEVICE_LINE, _GATEWAY_LINE = (
    re.compile(rf"^\ufeff?{key}:[ \t]+[\"']?({LEVEL_PATTERN})[\"']?[ \t]*(?:#.*)?\r?$", re.MULTILINE)
    for key in ("device", "gateway")
)
