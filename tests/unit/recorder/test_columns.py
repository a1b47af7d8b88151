"""Frames turned into columns and packed: nothing is lost, added or mixed up, whatever the frames look like."""

from hypothesis import example, given
from hypothesis import strategies as st

from contracts.v1.frame_codec import QualityStruct, SampleStruct
from services.recorder.embedded.chunk import decode
from services.recorder.embedded.columns import LONGEST_US, Packer, columns, ordered
from tests.unit.recorder.test_chunk import BIG, FLOATS, INT64, TEXT, exact

tags = st.sampled_from(["a", "b", "c", "d"])
values = st.none() | st.booleans() | INT64 | BIG | FLOATS | TEXT | st.lists(INT64, max_size=3)
quality = st.builds(QualityStruct, q=st.sampled_from([0, 64]), cause=st.just("comm"))


@st.composite
def sample(draw):
    v = draw(st.dictionaries(tags, values, max_size=4))
    names = st.sampled_from(sorted(v)) if v else st.nothing()
    q = draw(st.none() | st.dictionaries(names, quality, max_size=2)) if v else None
    dt = draw(st.none() | st.dictionaries(names, st.integers(-500, 500), max_size=2)) if v else None
    return SampleStruct(t=draw(st.integers(1000, 3 * LONGEST_US)), v=v, q=q, dt=dt)


def expected(samples):
    found = {}
    for one in samples:
        for tag, value in one.v.items():
            said = (one.q or {}).get(tag)
            q = said.q if said else 0 if value is None else 192
            t = one.t + (one.dt or {}).get(tag, 0)
            found.setdefault(tag, {})[t] = (t, exact(value), q)
    return {tag: sorted(points.values(), key=repr) for tag, points in found.items()}


OTHER_TAGS_IN_BETWEEN = [SampleStruct(t=1000, v=v) for v in ({"a": 1, "b": 1}, {"a": 2}, {"a": 3, "b": 3})]


@given(st.lists(sample(), max_size=12), st.integers(1, 5))
@example(OTHER_TAGS_IN_BETWEEN, 1)
def test_packed_columns_hold_the_last_written_value_of_each_time_once(samples, most):
    packer = Packer(most=most)
    chunks = {tag: list(packer.pack(ordered(column))) for tag, column in columns(samples).items()}

    found = {
        tag: sorted(((t, exact(value), q) for one in packed for t, value, q in decode(one.body, one.times)), key=repr)
        for tag, packed in chunks.items()
    }

    assert found == expected(samples)


@given(st.lists(sample(), max_size=12), st.integers(1, 5))
def test_a_chunk_is_ordered_bounded_and_says_truly_what_it_holds(samples, most):
    packer = Packer(most=most)
    for column in columns(samples).values():
        for one in packer.pack(ordered(column)):
            times = [t for t, _, _ in decode(one.body, one.times)]

            assert times == sorted(set(times))
            assert (one.t0, one.t1, one.n) == (times[0], times[-1], len(times))
            assert one.n <= most
            assert one.t1 - one.t0 <= LONGEST_US


def test_frames_of_one_group_give_one_chunk_per_tag_with_the_times_packed_once():
    samples = [SampleStruct(t=at, v={"a": float(at), "b": at, "c": at % 2 == 0}) for at in range(100)]
    packer = Packer(most=1000)

    found = columns(samples)

    assert {tag: len(list(packer.pack(column))) for tag, column in found.items()} == {"a": 1, "b": 1, "c": 1}
    assert len({column.axis for column in found.values()}) == 1
    assert len(found["a"].axis._packed) == 1


def test_a_tag_whose_type_changes_gets_a_chunk_per_type_and_its_gaps_stay_with_the_first():
    samples = [SampleStruct(t=at, v={"a": value}) for at, value in enumerate([None, 1, 2.0, 3, None])]

    (column,) = columns(samples).values()
    chunks = [decode(one.body, one.times) for one in Packer(most=10).pack(column)]

    assert chunks == [[(0, None, 0), (1, 1, 192), (3, 3, 192), (4, None, 0)], [(2, 2.0, 192)]]
    assert [type(chunks[0][1][1]), type(chunks[1][0][1])] == [int, float]


def test_a_tag_that_never_had_a_value_keeps_its_qualities():
    samples = [SampleStruct(t=at, v={"a": None}, q={"a": QualityStruct(q=0, cause="comm")}) for at in range(3)]

    (column,) = columns(samples).values()
    (chunk,) = Packer(most=10).pack(column)

    assert decode(chunk.body, chunk.times) == [(0, None, 0), (1, None, 0), (2, None, 0)]
