"""Whether a reading keeps the promises of plugins.api.driver.Reading: assertions for the tests of drivers."""

import math
from collections.abc import Awaitable, Mapping

from contracts.v1.device import INTEGER_RANGE, ValueType
from contracts.v1.frame import BAD, GOOD
from plugins.api.driver import DeviceError, GroupSpec, Reading, TagSpec, Value


def fits(kind: ValueType, value: Value) -> bool:
    """Whether the value is of the Python type and in the range that a tag of this type promises."""
    if kind is ValueType.BOOL:
        return isinstance(value, bool)
    if kind in INTEGER_RANGE:
        low, high = INTEGER_RANGE[kind]
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    if kind in {ValueType.FLOAT32, ValueType.FLOAT64}:
        return isinstance(value, float) and math.isfinite(value)
    if kind is ValueType.STRING:
        return isinstance(value, str)
    return isinstance(value, list) and all(
        isinstance(item, int | float) and not isinstance(item, bool) and math.isfinite(item) for item in value
    )


def assert_sound(reading: Reading, tags: Mapping[str, TagSpec], *, whole: bool = True) -> None:
    """The reading keeps every promise of plugins.api.driver.Reading. whole: it must hold every one of the tags."""
    if whole:
        assert reading.values.keys() == tags.keys(), f"tags differ: {reading.values.keys() ^ tags.keys()}"
    assert reading.values.keys() <= tags.keys(), f"tags of no group: {reading.values.keys() - tags.keys()}"
    for name, value in reading.values.items():
        quality = reading.quality.get(name)
        if value is None:
            assert quality is not None, f"{name} has no value and no quality that says why"
            assert quality.q == BAD, f"{name} has no value, so its quality is {BAD}, not {quality.q}"
        else:
            assert fits(tags[name].type, value), f"{name}: {value!r} is no {tags[name].type}"
    for name, quality in reading.quality.items():
        assert name in reading.values, f"{name} has a quality and no entry among the values"
        assert quality.q != GOOD, f"{name} is good and must not stand in quality"
        assert quality.cause, f"{name} is not good, for no cause"
    assert isinstance(reading.t, int), f"the source time is an integer of microseconds, not {reading.t!r}"
    assert reading.dt.keys() <= reading.values.keys(), "an offset for a tag that has no entry"


def tags_of(group: GroupSpec) -> dict[str, TagSpec]:
    """The group's tags by name."""
    return {tag.name: tag for tag in group.tags}


async def expect_device_error(call: Awaitable[object]) -> DeviceError:
    """The DeviceError that the awaited call ends with. Anything else that it raises passes; a result fails."""
    try:
        result = await call
    except DeviceError as caught:
        error = caught
    else:
        raise AssertionError(f"no DeviceError but {result!r}")
    assert str(error), "a DeviceError says what happened"
    assert error.cause, "a DeviceError names a cause"
    return error
