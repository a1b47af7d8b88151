"""The assertions that the suite of drivers stands on see each broken promise."""

import math
from collections.abc import Awaitable

import pytest

from contracts.v1.device import ValueType
from contracts.v1.frame_codec import QualityStruct
from plugins.api.driver import DeviceError, Reading, TagSpec, Value
from plugins.api.soundness import assert_sound, expect_device_error, fits

BAD = QualityStruct(0, "comm")
TAGS = {
    "level": TagSpec(name="level", type=ValueType.FLOAT32, source=None),
    "count": TagSpec(name="count", type=ValueType.INT16, source=None),
}


@pytest.mark.parametrize(
    "reading",
    [
        Reading(1, {"level": 1.5, "count": 7}),
        Reading(1, {"level": None, "count": 7}, {"level": BAD}),
        Reading(1, {"level": 1.5, "count": 7}, {"level": QualityStruct(64, "stale")}, {"level": -5}),
    ],
)
def test_a_sound_reading_passes(reading: Reading) -> None:
    assert_sound(reading, TAGS)


@pytest.mark.parametrize(
    "reading",
    [
        Reading(1, {"level": 1.5}),
        Reading(1, {"level": 1.5, "count": 7, "more": 1}),
        Reading(1, {"level": None, "count": 7}),
        Reading(1, {"level": None, "count": 7}, {"level": QualityStruct(64, "stale")}),
        Reading(1, {"level": 1.5, "count": 7}, {"level": QualityStruct(192, "good")}),
        Reading(1, {"level": 1.5, "count": 7}, {"more": BAD}),
        Reading(1, {"level": None, "count": 7}, {"level": QualityStruct(0, "")}),
        Reading(1, {"level": math.nan, "count": 7}),
        Reading(1, {"level": 1, "count": 7}),
        Reading(1, {"level": 1.5, "count": 40_000}),
        Reading(1.0, {"level": 1.5, "count": 7}),  # type: ignore[arg-type]
        Reading(1, {"level": 1.5, "count": 7}, {}, {"more": 1}),
    ],
)
def test_a_reading_that_breaks_a_promise_fails(reading: Reading) -> None:
    with pytest.raises(AssertionError):
        assert_sound(reading, TAGS)


def test_a_part_of_the_tags_is_sound_where_no_more_is_asked() -> None:
    assert_sound(Reading(1, {"level": 1.5}), TAGS, whole=False)
    with pytest.raises(AssertionError):
        assert_sound(Reading(1, {"more": 1.5}), TAGS, whole=False)


@pytest.mark.parametrize(
    ("kind", "value", "does"),
    [
        (ValueType.BOOL, True, True),
        (ValueType.BOOL, 1, False),
        (ValueType.UINT16, 65535, True),
        (ValueType.UINT16, 65536, False),
        (ValueType.UINT16, -1, False),
        (ValueType.INT16, True, False),
        (ValueType.INT64, 2**63, False),
        (ValueType.FLOAT64, math.inf, False),
        (ValueType.STRING, "", True),
        (ValueType.STRING, b"", False),
        (ValueType.ARRAY, [1, 2.5], True),
        (ValueType.ARRAY, [True], False),
        (ValueType.ARRAY, [math.nan], False),
        (ValueType.ARRAY, "12", False),
    ],
)
def test_a_value_fits_its_type_exactly(kind: ValueType, value: Value, does: bool) -> None:
    assert fits(kind, value) is does


async def test_only_a_device_error_with_words_and_cause_will_do() -> None:
    async def ends(error: Exception | None) -> str:
        if error:
            raise error
        return "a result"

    def expected(call: Awaitable[object]) -> Awaitable[DeviceError]:
        return expect_device_error(call)

    error = DeviceError("gone")
    assert await expected(ends(error)) is error
    for wrong in (None, DeviceError(""), DeviceError("gone", cause="")):
        with pytest.raises(AssertionError):
            await expected(ends(wrong))
    with pytest.raises(KeyError):
        await expected(ends(KeyError("bug")))
