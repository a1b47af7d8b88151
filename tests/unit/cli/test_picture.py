from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.v1.device import DeviceStatus, tag_hash
from contracts.v1.frame import BAD, GOOD, UNCERTAIN
from contracts.v1.service import ServiceStatus
from services.cli.picture import Picture, matches, quality_word
from tests.unit.cli.conftest import info, presence, state, value


def test_a_picture_with_every_announced_tag_is_whole(picture: Picture) -> None:
    assert picture.missing() == []
    assert [(row.tag, row.value, row.unit, row.q) for row in picture.rows()] == [
        ("level", 1.5, "bar", GOOD),
        ("speed", 2.5, "bar", GOOD),
    ]


def test_a_tag_without_a_value_is_named_as_missing_and_stands_in_the_rows_as_bad(picture: Picture) -> None:
    del picture.values["plc", "speed"]

    assert picture.missing() == ["plc: 1 of 2 tags have no value (speed)"]
    assert [(row.tag, row.q, row.cause, row.ts) for row in picture.rows("speed")] == [("speed", BAD, "missing", None)]


def test_a_state_without_a_description_is_missing_one(picture: Picture) -> None:
    picture.states["third"] = state(DeviceStatus.ONLINE)

    assert [line.partition(":")[0] for line in picture.missing()] == ["third"]


def test_a_tag_that_a_pipeline_derives_has_no_device_and_is_not_missing_one(picture: Picture) -> None:
    picture.values["line", "oee"] = value()

    assert picture.missing() == []
    assert [row.q for row in picture.rows("line/oee")] == [GOOD]


@pytest.mark.parametrize("changes", [{"tag_count": 3}, {"tag_hash": tag_hash(["level", "other"])}])
def test_a_description_that_is_not_whole_is_missing_something(picture: Picture, changes: dict[str, Any]) -> None:
    picture.devices["plc"] = info("level", "speed", **changes)

    assert any("description" in line for line in picture.missing())


@pytest.mark.parametrize("status", [DeviceStatus.OFFLINE, DeviceStatus.DISABLED])
def test_no_tag_reads_good_while_its_device_is_away(picture: Picture, status: DeviceStatus) -> None:
    picture.states["plc"] = state(status)

    assert {(row.q, row.cause) for row in picture.rows()} == {(BAD, str(status))}


def test_no_tag_reads_good_while_its_gateway_is_away(picture: Picture) -> None:
    picture.services["gateway", "gateway"] = presence(ServiceStatus.OFFLINE)

    assert {(row.q, row.cause) for row in picture.rows()} == {(BAD, "gateway_lost")}


def test_another_gateways_death_says_nothing_of_this_device(picture: Picture) -> None:
    picture.services["gateway", "second"] = presence(ServiceStatus.OFFLINE)

    assert {row.q for row in picture.rows()} == {GOOD}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*", True),
        ("plc", True),
        ("tank-level", True),
        ("plc/tank-*", True),
        ("pl?", True),
        ("*/tank-level", True),
        ("plc/*", True),
        ("tank", False),
        ("other/*", False),
        ("plc/speed", False),
        ("tank-level/plc", False),
    ],
)
def test_a_pattern_means_a_device_a_tag_or_both(pattern: str, expected: bool) -> None:
    assert matches(pattern, "plc", "tank-level") is expected


@given(st.integers(0, 255))
def test_every_quality_has_one_word(q: int) -> None:
    word = quality_word(q)

    assert word == ("good" if q >= GOOD else "uncertain" if q >= UNCERTAIN else "bad")
