"""Times that no source can have meant: those before 2024, of a device whose own clock was never set. Pure."""

from contracts.v1.frame import UNCERTAIN
from contracts.v1.frame_codec import QualityStruct
from plugins.api.driver import Reading
from services.runtime.clock_watch import EARLIEST_US

CAUSE = "clock"


def dated(reading: Reading, now_us: int) -> Reading:
    """The reading, in which a value with a time before 2024 has the present one, and is uncertain, cause `clock`.

    The value is what the device says, only when it came to be is not known; what is not good stays as it is.
    """
    t, dt = reading.t, reading.dt
    if t >= EARLIEST_US and (not dt or t + min(dt.values()) >= EARLIEST_US):
        return reading
    refused = {tag for tag in reading.values if t + dt.get(tag, 0) < EARLIEST_US}
    at = now_us if t < EARLIEST_US else t
    offsets = {tag: (now_us if tag in refused else t + dt.get(tag, 0)) - at for tag in reading.values}
    quality = dict.fromkeys(refused, QualityStruct(UNCERTAIN, CAUSE, None)) | dict(reading.quality)
    return Reading(at, reading.values, quality, {tag: offset for tag, offset in offsets.items() if offset})
