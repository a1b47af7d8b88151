"""Marks say the same as a set of sequence numbers would."""

from hypothesis import given
from hypothesis import strategies as st

from contracts.codec import encode
from contracts.v1.frame_codec import HeaderStruct, PreviousStruct
from services.recorder.spool.marks import EpochMarks, Missing, arrive, recalled, stored

seqs = st.lists(st.integers(1, 40), max_size=60)


def arrived(headers):
    """The marks after these headers, and the arrivals."""
    marks, arrivals = {}, []
    for header in headers:
        arrival = arrive(marks, header)
        marks |= {one.epoch: one for one in arrival.changed}
        arrivals.append(arrival)
    return marks, arrivals


@given(seqs)
def test_marks_have_exactly_the_frames_that_came_in_ranges_that_ascend_and_do_not_touch(order):
    marks, arrivals = arrived(HeaderStruct(epoch=7, seq=seq) for seq in order)
    had = set()
    for seq, arrival in zip(order, arrivals, strict=True):
        assert arrival.duplicate == (seq in had)
        had.add(seq)

    one = marks.get(7, EpochMarks(7))

    assert {seq for first, last in one.have for seq in range(first, last + 1)} == had
    assert all(last + 1 < first for (_, last), (first, _) in zip(one.have, one.have[1:], strict=False))
    assert all(one.has(seq) == (seq in had) for seq in range(45))


@given(seqs)
def test_each_missing_frame_is_noticed_once_and_only_if_it_had_not_come_when_a_later_one_did(order):
    _, arrivals = arrived(HeaderStruct(epoch=7, seq=seq) for seq in order)
    noticed = [seq for arrival in arrivals for _, first, last in arrival.missing for seq in range(first, last + 1)]
    late, had = set(), set()
    for seq in order:
        late |= set(range(1, seq)) - had
        had.add(seq)

    assert len(noticed) == len(set(noticed))
    assert set(noticed) == late


def test_the_first_frame_of_an_epoch_tells_which_of_the_epoch_before_are_missing():
    marks, arrivals = arrived(
        [
            HeaderStruct(epoch=1, seq=1),
            HeaderStruct(epoch=1, seq=2),
            HeaderStruct(epoch=5, seq=1, prev=PreviousStruct(epoch=1, last_seq=4)),
        ]
    )

    assert arrivals[-1].missing == (Missing(1, 3, 4),)
    assert marks[1].last == 4
    assert not marks[1].complete


def test_an_epoch_of_which_nothing_came_is_missing_as_a_whole():
    marks, arrivals = arrived([HeaderStruct(epoch=5, seq=1, prev=PreviousStruct(epoch=1, last_seq=3))])

    assert arrivals[-1].missing == (Missing(1, 1, 3),)
    assert marks[1].have == ()


def test_an_epoch_without_a_frame_is_complete():
    marks, arrivals = arrived([HeaderStruct(epoch=5, seq=1, prev=PreviousStruct(epoch=1, last_seq=0))])

    assert arrivals[-1].missing == ()
    assert marks[1].complete


def test_a_closed_stream_whose_frames_all_came_is_complete_in_any_order():
    marks, _ = arrived([HeaderStruct(epoch=1, seq=3, closed=True), *(HeaderStruct(epoch=1, seq=s) for s in (2, 1))])

    assert marks[1].complete


def test_a_repeated_first_frame_does_not_report_the_epoch_before_again():
    again = HeaderStruct(epoch=5, seq=1, prev=PreviousStruct(epoch=1, last_seq=3))
    _, arrivals = arrived([again, again])

    assert arrivals[1].duplicate
    assert arrivals[1].missing == ()


def test_stored_names_the_newest_epochs_and_every_incomplete_one():
    marks = {epoch: EpochMarks(epoch, ((1, 9),), 9) for epoch in range(1, 41)}
    marks[3] = EpochMarks(3, ((1, 4), (6, 9)), 9)

    message = stored(marks, store="s", keep=4)

    assert [one.epoch for one in message.epochs] == [3, 37, 38, 39, 40]
    assert message.epochs[0].have == [(1, 4), (6, 9)]
    assert message.epochs[-1].closed
    assert [one.epoch for one in stored(marks, store="s", news={9}, keep=4).epochs] == [3, 9, 37, 38, 39, 40]


def test_very_many_ranges_are_told_in_turns_none_left_out_and_never_one_too_many():
    have = tuple((at, at) for at in range(1, 40_001, 4))
    lost = tuple((at + 1, at + 1, "cap_bytes") for at in range(1, 40_001, 4))
    marks = {
        7: EpochMarks(7, ((1, 3),), 3),
        8: EpochMarks(8, have, 40_000, lost),
        9: EpochMarks(9, ((1, 2), (4, 5))),
    }

    messages = [stored(marks, store="s" * 36, turn=turn) for turn in range(4)]

    assert messages[3] == messages[0] == stored(marks, store="s" * 36)
    assert all(len(encode(message, topic="t")) < 1 << 20 for message in messages)
    sizes = [sum(len(one.have) + len(one.lost) for one in message.epochs) for message in messages[:3]]
    assert sizes == [10_000, 10_000, 3]
    for place, epoch in enumerate(marks.values()):
        told = [message.epochs[place] for message in messages[:3]]
        assert [one for part in told for one in part.have] == list(epoch.have)
        assert [one for part in told for one in part.lost] == list(epoch.lost)


losses = st.lists(
    st.builds(
        lambda first, more, why: (first, first + more, why),
        st.integers(1, 40),
        st.integers(0, 9),
        st.sampled_from(["cap_bytes", "disk_full"]),
    ),
    max_size=6,
)


@given(seqs, losses, seqs)
def test_each_number_is_had_or_lost_or_a_hole_and_what_comes_is_lost_no_more(before, lost, after):
    marks = EpochMarks(7).ended_with(45)
    for seq in before:
        marks = marks.with_frame(seq)
    marks = marks.with_lost(lost)
    for seq in after:
        marks = marks.with_frame(seq)

    had = {seq for first, last in marks.have for seq in range(first, last + 1)}
    gone = [seq for first, last, _ in marks.lost for seq in range(first, last + 1)]
    holes = {seq for first, last in marks.holes for seq in range(first, last + 1)}

    said = {seq for first, last, _ in lost for seq in range(first, last + 1)}
    assert had == set(before) | set(after)
    assert set(gone) == said - had
    assert len(gone) == len(set(gone))
    assert holes == set(range(1, 46)) - had - set(gone)
    assert marks.complete == (not holes)


def test_a_long_loss_that_is_said_piece_by_piece_is_one_range():
    marks = EpochMarks(7, ((5, 5), (31, 40)))
    for first in (11, 21, 1):
        marks = marks.with_lost([(first, first + 9, "cap_bytes")])
    marks = marks.with_lost([(41, 50, "cap_age")])

    assert marks.lost == ((1, 4, "cap_bytes"), (6, 30, "cap_bytes"), (41, 50, "cap_age"))


def test_what_came_after_the_frame_that_said_it_was_the_last_is_missing_once_the_next_epoch_tells_of_it():
    closed = HeaderStruct(epoch=7, seq=3, closed=True)
    marks, arrivals = arrived(
        [HeaderStruct(epoch=7, seq=1), HeaderStruct(epoch=7, seq=2), closed, HeaderStruct(8, 1, PreviousStruct(7, 5))]
    )

    assert arrivals[-1].missing == (Missing(7, 4, 5),)
    assert marks[7].holes == ((4, 5),)


@given(seqs, st.lists(st.tuples(st.integers(1, 3), st.integers(1, 12)), max_size=40), st.booleans())
def test_what_a_whole_database_has_told_is_known_again_by_its_older_copy(lost, order, closed):
    """`lost` are numbers of epoch 2 that were booked after the copy was made."""
    older, _ = arrived(HeaderStruct(epoch=epoch, seq=seq) for epoch, seq in order[: len(order) // 2])
    whole, _ = arrived(HeaderStruct(epoch=epoch, seq=seq) for epoch, seq in order)
    if 2 in whole:
        top = whole[2].top
        whole[2] = whole[2].with_lost((seq, seq, "cap_bytes") for seq in lost if seq <= top)
    if closed and 3 in whole:
        whole[3] = whole[3].ended_with(whole[3].top)
    told = stored(whole, store="s")

    known = {**older, **recalled(older, told)}

    for epoch, one in whole.items():
        if epoch == max(whole) and not (closed and epoch == 3):
            assert known.get(epoch) == older.get(epoch), "its next frame tells of it"
        elif epoch in known or one.have:
            assert known[epoch].top >= one.top
            had = {seq for first, last in one.have for seq in range(first, last + 1)}
            assert {seq for first, last in known[epoch].have for seq in range(first, last + 1)} <= had
            assert {*known[epoch].lost} == {*one.lost}
            assert not recalled(known, told)
