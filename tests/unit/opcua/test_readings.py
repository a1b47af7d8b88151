"""Readings of publications: no value lost, none out of order, none twice."""

from datetime import UTC, datetime, timedelta

from asyncua import ua
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.v1.device import ValueType
from contracts.v1.frame import BAD
from plugins.api.driver import TagSpec
from plugins.api.soundness import assert_sound
from plugins.drivers.opcua.readings import readings_of
from plugins.drivers.opcua.values import item_of
from plugins.drivers.opcua.wire import Item

# A busy machine may take its time for one example.
UNHURRIED = settings(deadline=None)

NOW = 1_700_000_000_000_000
START = datetime(2026, 1, 1, tzinfo=UTC)
TAGS = {name: TagSpec(name=name, type=ValueType.FLOAT64, source=None) for name in ("a", "b", "c", "d")}

HANDLES = dict(enumerate(TAGS.values()))
HANDLE_OF = {tag.name: handle for handle, tag in HANDLES.items()}

Given = tuple[str, float, int | None, bool]
ITEMS: st.SearchStrategy[list[Given]] = st.lists(
    st.tuples(
        st.sampled_from(sorted(TAGS)),
        st.floats(allow_nan=False, allow_infinity=False),
        st.none() | st.integers(0, 10**9),
        st.booleans(),
    ),
    max_size=20,
)


def published(item: Given) -> Item:
    name, value, time, good = item
    code = ua.StatusCodes.Good if good else ua.StatusCodes.BadSensorFailure
    data = ua.DataValue(
        ua.Variant(value, ua.VariantType.Double),
        ua.StatusCode(ua.UInt32(code)),
        SourceTimestamp=None if time is None else START + timedelta(microseconds=time),
    )
    return item_of(HANDLE_OF[name], data)


@UNHURRIED
@given(ITEMS)
def test_each_tag_has_all_its_values_in_order(items: list[Given]) -> None:
    readings = readings_of(map(published, items), HANDLES, now=NOW)

    for name in TAGS:
        came = [value if good else None for tag, value, _, good in items if tag == name]
        assert [reading.values[name] for reading in readings if name in reading.values] == came


@UNHURRIED
@given(ITEMS)
def test_there_are_as_many_readings_as_the_busiest_tag_has_values(items: list[Given]) -> None:
    names = [name for name, *_ in items]

    readings = readings_of(map(published, items), HANDLES, now=NOW)

    assert len(readings) == max((names.count(name) for name in names), default=0)
    assert {*readings[0].values} == {*names} if readings else not names


@UNHURRIED
@given(ITEMS)
def test_every_reading_keeps_the_promises_of_readings(items: list[Given]) -> None:
    for reading in readings_of(map(published, items), HANDLES, now=NOW):
        assert_sound(reading, TAGS, whole=False)
        assert all(reading.quality[name].q == BAD for name, value in reading.values.items() if value is None)


@UNHURRIED
@given(ITEMS)
def test_each_value_keeps_its_own_source_time(items: list[Given]) -> None:
    start = int(START.timestamp()) * 10**6
    readings = readings_of(map(published, items), HANDLES, now=NOW)

    for name in TAGS:
        times = [time for tag, _, time, _ in items if tag == name]
        own = [reading for reading in readings if name in reading.values]
        for time, reading in zip(times, own, strict=True):
            told = NOW if time is None else start + time
            assert reading.t + reading.dt.get(name, 0) == told


def test_values_without_any_time_are_of_now() -> None:
    (reading,) = readings_of([published(("a", 1.0, None, True))], HANDLES, now=NOW)

    assert reading.t == NOW
