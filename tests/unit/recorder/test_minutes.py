"""The minutes of a column are the summaries of its points, whatever its values are."""

from hypothesis import given
from hypothesis import strategies as st

from services.recorder.embedded.axis import MINUTE_US, Axis
from services.recorder.embedded.columns import Column
from services.recorder.embedded.minutes import minutes_of
from services.recorder.summary import Summary

kinds = st.sampled_from(
    [st.floats(-1e6, 1e6), st.integers(), st.booleans(), st.text(max_size=2), st.none(), st.none() | st.integers()]
)


@st.composite
def column(draw):
    times = sorted(draw(st.lists(st.integers(0, 4 * MINUTE_US), unique=True, min_size=1, max_size=12)))
    values = draw(st.lists(draw(kinds), min_size=len(times), max_size=len(times)))
    quality = draw(st.none() | st.lists(st.sampled_from([0, 64, 192]), min_size=len(times), max_size=len(times)))
    return Column(Axis(times), values, quality)


@given(column())
def test_each_minute_is_the_summary_of_its_points(given):
    quality = given.quality or [192] * len(given)
    by_minute: dict[int, list] = {}
    for point in zip(given.times, given.values, quality, strict=True):
        by_minute.setdefault(point[0] // MINUTE_US * MINUTE_US, []).append(point)

    assert minutes_of(given) == [(start, Summary.of(points)) for start, points in by_minute.items()]
