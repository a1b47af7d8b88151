"""A backlog sends what is owed in order, in turns, once, and again only if it has to."""

from hypothesis import given
from hypothesis import strategies as st

from services.runtime.backlog import MOST_ANNOUNCED, Backlog, Piece
from services.runtime.ranges import Ranges

FAST, SLOW = ("frame", "pump", "fast"), ("frame", "pump", "slow")


def numbers(piece: Piece) -> list[int]:
    return list(range(piece.first, piece.last + 1))


def drain(backlog: Backlog, most: int = 7, **how: bool) -> list[tuple[tuple[str, str, str], int, int]]:
    """Sends until there is nothing to send; the order in which it went."""
    order = []
    while piece := backlog.next(most, **how):
        for seq in numbers(piece):
            backlog.sent(piece.name, piece.epoch, seq)
            order.append((piece.name, piece.epoch, seq))
    return order


def nothing(epoch: int, ranges: Ranges) -> Ranges:
    return Ranges()


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(0, 9), st.booleans()), max_size=12),
    st.integers(1, 9),
)
def test_all_that_is_owed_or_asked_goes_out_once_in_ascending_order(
    given_: list[tuple[int, int, int, bool]], most: int
) -> None:
    backlog = Backlog()
    wanted = set()
    for epoch, first, length, asked in given_:
        (backlog.ask if asked else backlog.owe)(FAST, epoch, first, first + length)
        wanted |= {(epoch, seq) for seq in range(first, first + length + 1)}

    sent = [(epoch, seq) for _, epoch, seq in drain(backlog, most)]

    assert sent == sorted(wanted)


def test_streams_take_turns() -> None:
    backlog = Backlog()
    backlog.owe(FAST, 1, 1, 100)
    backlog.owe(SLOW, 1, 1, 10)

    names = [name for name, _, _ in drain(backlog, 10)]

    assert names == [FAST] * 10 + [SLOW] * 10 + [FAST] * 90


def test_what_was_sent_stays_owed_until_it_is_stored_and_is_sent_again_only_when_told() -> None:
    backlog = Backlog()
    backlog.owe(FAST, 1, 1, 10)
    drain(backlog)

    assert (backlog.pending(FAST), backlog.waiting, backlog.next(10)) == (10, True, None)
    backlog.confirm(FAST, lambda _, ranges: Ranges(ranges.within(4, 10)))
    assert list(backlog.owed(FAST)) == [(1, Ranges([(4, 10)]))]
    backlog.again()
    assert [seq for _, _, seq in drain(backlog)] == [4, 5, 6, 7, 8, 9, 10]
    backlog.confirm(FAST, nothing)
    assert (bool(backlog), backlog.waiting, backlog.total) == (False, False, 0)


def test_nothing_waits_once_all_that_was_sent_is_stored() -> None:
    backlog = Backlog()
    backlog.owe(FAST, 1, 1, 10)
    for seq in range(1, 6):
        backlog.sent(FAST, 1, seq)

    backlog.confirm(FAST, lambda _, ranges: Ranges(ranges.within(6, 10)))

    assert not backlog.waiting
    assert backlog.pending(FAST) == 5


def test_what_was_asked_for_is_sent_though_it_is_stored_and_while_the_rest_waits() -> None:
    backlog = Backlog()
    backlog.owe(FAST, 1, 1, 10)
    backlog.ask(FAST, 1, 4, 5)

    assert [seq for _, _, seq in drain(backlog, only_asked=True)] == [4, 5]
    assert backlog.pending(FAST) == 10
    assert [seq for _, _, seq in drain(backlog)] == [1, 2, 3, 6, 7, 8, 9, 10]


def test_what_the_journal_has_lost_is_owed_no_more() -> None:
    backlog = Backlog()
    backlog.owe(FAST, 1, 1, 10)
    backlog.forget(FAST, 1, 1, 9)

    assert drain(backlog) == [(FAST, 1, 10)]


def test_what_is_announced_is_what_is_still_to_come_and_bounded() -> None:
    backlog = Backlog()
    assert backlog.announced(FAST) is None
    backlog.owe(FAST, 2, 5, 9)
    backlog.owe(FAST, 1, 1, 3)
    backlog.ask(FAST, 2, 10, 12)
    backlog.owe(SLOW, 1, 1, 1)

    assert backlog.announced(FAST) == [(1, 1, 3), (2, 5, 12)]
    for seq in range(100, 400, 2):
        backlog.owe(FAST, 2, seq, seq)
    assert len(backlog.announced(FAST) or ()) == MOST_ANNOUNCED
