"""Versions of aggregates go on where they were, whatever ended the process."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Event

import pytest

from services.runtime import versions
from services.runtime.versions import Versions

PUMP, SERVO = "plant/device/pump", "plant/device/servo"


def test_each_aggregate_counts_for_itself(tmp_path):
    with closing(Versions(tmp_path / "versions")) as counted:
        given = [counted.next(name) for name in (PUMP, PUMP, SERVO, PUMP)]

    assert given == [1, 2, 1, 3]


@pytest.mark.parametrize("clean", [True, False])
def test_counting_goes_on_after_an_end_and_after_a_kill(tmp_path, clean):
    first = Versions(tmp_path / "versions")
    for _ in range(3):
        first.next(PUMP)
    if clean:
        first.close()

    with closing(Versions(tmp_path / "versions")) as second:
        assert [second.next(PUMP), second.next(SERVO)] == [4, 1]
    first.close()


def test_a_line_that_a_crash_has_cut_off_does_not_count(tmp_path):
    (tmp_path / "versions").write_text(f"{PUMP} 12\n{PUMP} 1")

    with closing(Versions(tmp_path / "versions")) as counted:
        assert counted.next(PUMP) == 13


def test_the_file_stays_short_however_much_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(versions, "_MOST_LINES", 10)
    with closing(Versions(tmp_path / "versions")) as counted:
        for _ in range(1005):
            counted.next(PUMP)

    assert len((tmp_path / "versions").read_text().splitlines()) < 20
    with closing(Versions(tmp_path / "versions")) as counted:
        assert counted.next(PUMP) == 1006


def test_a_full_disk_stops_no_counting_and_the_file_is_whole_when_it_has_room_again(tmp_path):
    with closing(Versions(tmp_path / "versions")) as counted:
        counted.next(PUMP)
        room, counted._descriptor = counted._descriptor, os.open("/dev/full", os.O_WRONLY)
        blocked = tmp_path / "versions.partial"
        blocked.mkdir()  # the file cannot be written anew either
        during = [counted.next(PUMP), counted.next(SERVO)]
        blocked.rmdir()
        after = counted.next(PUMP)
        os.close(room)

    assert (during, after) == ([2, 1], 3)
    with closing(Versions(tmp_path / "versions")) as counted:
        assert [counted.next(PUMP), counted.next(SERVO)] == [4, 2]


def test_a_start_on_a_full_disk_counts_on_and_the_file_is_whole_when_it_has_room_again(tmp_path):
    with closing(Versions(tmp_path / "versions")) as counted:
        counted.next(PUMP)
    blocked = tmp_path / "versions.partial"
    blocked.mkdir()  # the file cannot be written anew

    with closing(Versions(tmp_path / "versions")) as counted:
        during = [counted.next(PUMP), counted.next(SERVO)]
        with pytest.raises(OSError, match=r"versions\.partial"):
            counted.sync()
        blocked.rmdir()

    with closing(Versions(tmp_path / "versions")) as counted:
        assert [*during, counted.next(PUMP), counted.next(SERVO)] == [2, 1, 3, 2]


def test_versions_are_given_while_the_file_is_written_anew(tmp_path):
    names = [f"plant/device/d{number}" for number in range(3000)]
    over = Event()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with closing(Versions(tmp_path / "versions")) as counted, ThreadPoolExecutor(1) as thread:

            def written() -> None:
                """As after a full disk, again and again."""
                while not over.is_set():
                    counted._behind = True
                    counted.sync()

            writing = thread.submit(written)
            try:
                given = [counted.next(name) for name in names]
            finally:
                over.set()
            writing.result(10)
    finally:
        sys.setswitchinterval(before)

    assert given == [1] * len(names)
    with closing(Versions(tmp_path / "versions")) as counted:
        assert {counted.last(name) for name in names} == {1}


def test_a_line_that_the_disk_has_not_kept_costs_itself_alone(tmp_path):
    (tmp_path / "versions").write_bytes(f"{PUMP} 3\n\xff\xfe 7\nplant-device-servo 9\n{SERVO} 2\n".encode("latin-1"))

    with closing(Versions(tmp_path / "versions")) as counted:
        assert [counted.next(PUMP), counted.next(SERVO)] == [4, 3]
        assert sorted(counted.open_of()) == [PUMP, SERVO]
