from pathlib import Path

from services.cli.log_file import LogFile


def test_a_log_never_takes_more_than_its_files_times_their_size(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "logs" / "a.log", most_bytes=100, files=3)

    for number in range(200):
        log.write(f"line {number}\n".encode())
    log.close()

    files = sorted(path.name for path in log.path.parent.iterdir())
    assert files == ["a.log", "a.log.1", "a.log.2"]
    assert all(path.stat().st_size <= 100 for path in log.path.parent.iterdir())


def test_the_newest_lines_are_the_ones_that_stay(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log", most_bytes=100, files=2)

    for number in range(50):
        log.write(f"line {number}\n".encode())
    log.close()

    kept = (tmp_path / "a.log.1").read_text() + (tmp_path / "a.log").read_text()
    numbers = [int(line.split()[1]) for line in kept.splitlines()]
    assert numbers == list(range(numbers[0], 50))


def test_a_log_goes_on_where_it_was(tmp_path: Path) -> None:
    for text in (b"one\n", b"two\n"):
        log = LogFile(tmp_path / "a.log")
        log.write(text)
        log.close()

    assert (tmp_path / "a.log").read_text() == "one\ntwo\n"
