"""Which functions are refused, since they kill their workers."""

from services.compute.quarantine import Quarantine


def test_a_version_is_refused_after_three_deaths_within_ten_minutes() -> None:
    quarantine = Quarantine()

    assert [quarantine.death("f", "1", why="SIGSEGV", now_s=now_s) for now_s in (0, 300, 600, 601)] == [
        False,
        False,
        True,
        False,
    ]
    assert "f has killed 3 workers within 600 s, the last so: SIGSEGV" in (quarantine.refusal("f", "1") or "")


def test_deaths_that_are_far_apart_and_those_of_others_do_not_count() -> None:
    quarantine = Quarantine()
    for now_s in (0, 301, 602, 903):
        assert not quarantine.death("f", "1", why="", now_s=now_s)
        assert not quarantine.death(f"g{now_s}", "1", why="", now_s=now_s)

    assert quarantine.refusal("f", "1") is None


def test_another_version_begins_anew_and_one_that_is_gone_is_forgotten() -> None:
    quarantine = Quarantine()
    for _ in range(3):
        quarantine.death("f", "1", why="", now_s=0)
        quarantine.death("g", "2", why="", now_s=0)

    assert quarantine.refusal("f", "2") is None
    quarantine.keep_only({"2"})

    assert quarantine.refusal("f", "1") is None
    assert quarantine.refusal("g", "2") is not None
    assert not quarantine.death("f", "1", why="", now_s=1)
