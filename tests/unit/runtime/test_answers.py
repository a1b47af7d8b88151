"""The answers of commands: known for ten minutes at least, and within bounds."""

import pytest

from services.runtime.commands.answers import KEEP_S, Answers, Key, KeyTaken

NOW_S = 1000.0


def key(name: str) -> Key:
    return ("cmd", "reply", name.encode())


def make_answers(*, most: int = 10, most_bytes: int = 1000) -> tuple[Answers, list[None]]:
    evictions: list[None] = []
    return Answers(on_evict=lambda: evictions.append(None), most=most, most_bytes=most_bytes), evictions


def test_a_command_is_new_once_and_has_an_answer_when_it_is_done() -> None:
    answers, _ = make_answers()

    assert answers.begin(key("a"), b"{}", now_s=NOW_S, deadline_s=NOW_S + 5)
    assert not answers.begin(key("a"), b"{}", now_s=NOW_S, deadline_s=NOW_S + 5)
    assert answers.answer(key("a"), b"{}") is None
    answers.finish(key("a"), b"done")
    assert answers.answer(key("a"), b"{}") == b"done"


def test_another_command_under_the_same_key_is_told_from_the_first() -> None:
    answers, _ = make_answers()
    answers.begin(key("a"), b"1", now_s=NOW_S, deadline_s=NOW_S + 5)

    assert not answers.begin(key("a"), b"2", now_s=NOW_S, deadline_s=NOW_S + 5)
    with pytest.raises(KeyTaken):
        answers.answer(key("a"), b"2")


def test_each_part_of_the_key_makes_another_command() -> None:
    answers, _ = make_answers()

    for other in (("cmd", "reply", b"1"), ("CMD", "reply", b"1"), ("cmd", "REPLY", b"1"), ("cmd", "reply", b"2")):
        assert answers.begin(other, b"{}", now_s=NOW_S, deadline_s=NOW_S)


def test_an_answer_is_kept_for_ten_minutes_or_until_a_later_deadline() -> None:
    answers, evictions = make_answers()
    answers.begin(key("early"), b"{}", now_s=NOW_S, deadline_s=NOW_S + 5)
    answers.begin(key("late"), b"{}", now_s=NOW_S, deadline_s=NOW_S + 2 * KEEP_S)

    assert not answers.begin(key("early"), b"{}", now_s=NOW_S + KEEP_S, deadline_s=0)
    assert answers.begin(key("early"), b"{}", now_s=NOW_S + KEEP_S + 1, deadline_s=0)
    assert not answers.begin(key("late"), b"{}", now_s=NOW_S + KEEP_S + 1, deadline_s=0)
    assert not evictions


def test_beyond_the_number_the_oldest_goes_and_is_counted() -> None:
    answers, evictions = make_answers(most=2)

    for name in "abc":
        answers.begin(key(name), b"{}", now_s=NOW_S, deadline_s=NOW_S)

    assert len(evictions) == 1
    assert not answers.begin(key("b"), b"{}", now_s=NOW_S, deadline_s=NOW_S)
    assert answers.begin(key("a"), b"{}", now_s=NOW_S, deadline_s=NOW_S)


def test_beyond_the_bytes_the_oldest_answers_go() -> None:
    answers, evictions = make_answers(most_bytes=37)
    for name in "abc":
        answers.begin(key(name), b"{}", now_s=NOW_S, deadline_s=NOW_S)
        answers.finish(key(name), b"12345")

    assert len(evictions) == 1
    assert [answers.answer(key(name), b"{}") for name in "abc"] == [None, b"12345", b"12345"]


def test_the_room_of_what_went_is_free_again() -> None:
    answers, evictions = make_answers(most_bytes=20)

    for number in range(20):
        now_s = NOW_S + number * (KEEP_S + 1)
        answers.begin(key(str(number)), b"{}", now_s=now_s, deadline_s=now_s)
        answers.finish(key(str(number)), b"1234567890")

    assert not evictions


def test_what_the_sender_chooses_of_a_key_counts_too() -> None:
    answers, evictions = make_answers(most_bytes=1000)

    for number in range(10):
        answers.begin(key(f"{number:0400}"), b"{}", now_s=NOW_S, deadline_s=NOW_S)

    assert len(evictions) == 8
    for number in range(10):
        answers.begin(key(str(number)), b"{}", now_s=NOW_S + KEEP_S + 1, deadline_s=NOW_S)
    assert len(evictions) == 8
