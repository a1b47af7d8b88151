"""Archives of sites: what was cut off, changed or made by somebody else is refused and leaves nothing behind."""

import gzip
import hashlib
import io
import os
import sqlite3
import stat
import tarfile
import tracemalloc
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from services.cli import backup as backup_module
from services.cli.archive import ArchiveError, ArchiveWriter, Manifest, Member, read_archive
from services.cli.backup import CannotBackUp, back_up
from services.cli.held_journal import HeldJournal
from services.cli.main import app
from services.cli.restore import bring_back
from services.cli.site import Ports, Site, make_site
from services.runtime.journal import Journal
from services.runtime.journal.ledger import Ledger
from services.runtime.metrics import Metrics
from tests.unit.runtime.journal.test_journal import NAME, fill, seqs, stored
from tests.unit.runtime.manual_clock import ManualClock

NOW = datetime(2026, 11, 22, 6, 30, tzinfo=UTC)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site that has never run, but for a database that somebody writes."""
    made = Site(tmp_path / "site")
    make_site(made, name="plant", example="plant", ports=Ports())
    folder = made.data / "recorder"
    folder.mkdir(parents=True)
    with closing(sqlite3.connect(folder / "recorder.db", isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE value (v INTEGER)")
        database.execute("INSERT INTO value VALUES (1)")
    return made


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Mode and content of every file, but for databases, and for the lock that each init makes anew."""
    files = (path for path in folder.rglob("*") if path.is_file() and "data" not in path.relative_to(folder).parts)
    return {
        path.relative_to(folder).as_posix(): (stat.S_IMODE(path.stat().st_mode), path.read_bytes())
        for path in files
        if path.name != "init.lock"
    }


def test_every_file_comes_back_with_its_content_and_its_mode(site: Site, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    commands = site.data / "recorder" / "commands"
    commands.mkdir()
    commands.chmod(0o750)
    (commands / "page").touch()
    (commands / "page").chmod(0o640)
    back_up(site, archive, secrets=True, now=NOW)

    manifest = bring_back(archive, tmp_path / "back")

    assert tree(tmp_path / "back") == tree(site.folder)
    assert (manifest.site, manifest.taken, manifest.secrets) == ("plant", NOW, True)
    assert (tmp_path / "back" / "certs" / "trusted").is_dir()
    commands = tmp_path / "back" / "data" / "recorder" / "commands"  # the service makes files there
    assert stat.S_IMODE(commands.stat().st_mode) == 0o750
    assert stat.S_IMODE((commands / "page").stat().st_mode) == 0o640
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir() if "backup" in path.name or "partial" in path.name] == []


def test_a_database_is_copied_as_of_one_moment_while_another_connection_writes(site: Site, tmp_path: Path) -> None:
    path = site.data / "recorder" / "recorder.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("INSERT INTO value VALUES (2)")  # in the write-ahead log alone
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO value VALUES (3)")  # not committed yet
        back_up(site, tmp_path / "a.tar.gz", secrets=True, now=NOW)
        writer.execute("COMMIT")
    bring_back(tmp_path / "a.tar.gz", tmp_path / "back")

    with closing(sqlite3.connect(tmp_path / "back" / "data" / "recorder" / "recorder.db")) as copy:
        assert copy.execute("SELECT v FROM value ORDER BY v").fetchall() == [(1,), (2,)]


def test_without_secrets_no_password_and_no_key_is_in_it_and_that_is_said(site: Site, tmp_path: Path) -> None:
    (site.folder / "certs" / "client-key.pem").write_text("-----BEGIN PRIVATE KEY-----\n")

    taken = back_up(site, tmp_path / "a.tar.gz", secrets=False, now=NOW)

    paths = [member.path for member in taken.manifest.members]
    assert [path for path in paths if path.startswith(("secrets", "broker/")) or "key" in path] == []
    assert "users/users.yaml" in paths
    assert any("passwords and keys" in line for line in taken.left_out)


def test_what_a_journal_lets_go_of_while_the_database_is_copied_is_in_its_copy(tmp_path: Path) -> None:
    clock, metrics = ManualClock(), Metrics(CollectorRegistry())
    folder, copy = tmp_path / "journal", tmp_path / "copy"
    journal = Journal.open(folder, segment_bytes=1000, clock=clock, metrics=metrics)
    stream = journal.open_stream(*NAME)
    fill(journal, stream, 12)
    with ExitStack() as stack:
        held = HeldJournal(folder, held=stack)
        journal.stored("recorder", *NAME, stored(stream.epoch, (1, 10)))
        journal.close()
        assert Ledger.load(folder / "ledger.json").gone
        journal = Journal.open(folder, segment_bytes=1000, clock=clock, metrics=metrics)
        other = journal.open_stream("frame", "pump", "slow")
        journal.close()
        captured = held.capture()
        copy.mkdir()
        (copy / "ledger.json").write_bytes(held.ledger())
        for segment in captured:
            (copy / segment.name).write_bytes(segment.file.read(segment.status.st_size))

    with_all = Journal.open(copy, segment_bytes=1000, clock=clock, metrics=metrics)
    assert seqs(with_all, stream.epoch) == list(range(1, 13))
    assert ("frame", "pump", "slow") in with_all.streams
    assert with_all.usage.lost == {}
    assert other.epoch > 0
    with_all.close()


def changed(archive: Path, change: str) -> Path:
    """The archive with another content: a file more, a file less, a file that was edited, a path that leaves it."""
    other = archive.with_name("other.tar.gz")
    with tarfile.open(archive) as old, tarfile.open(other, "w:gz") as new:
        for info in old:
            data = old.extractfile(info)
            content = data.read() if data else b""
            if info.name == "dinrail.yaml" and change == "less":
                continue
            if info.name == "dinrail.yaml" and change == "edited":
                content = content.replace(b"plant", b"pLant")
            if info.name == "manifest.json" and change in ("../more", "/more", "more"):
                extra = tarfile.TarInfo(change)
                extra.size = 1
                new.addfile(extra, io.BytesIO(b"x"))
            if info.name == "dinrail.yaml" and change == "link":
                info.type, info.linkname, content = tarfile.SYMTYPE, "/etc/passwd", b""
            info.size = len(content)
            new.addfile(info, io.BytesIO(content))
    return other


@pytest.mark.parametrize("change", ["less", "edited", "more", "../more", "/more", "link"])
def test_an_archive_that_was_changed_is_refused_and_leaves_nothing(site: Site, tmp_path: Path, change: str) -> None:
    archive = tmp_path / "a.tar.gz"
    back_up(site, archive, secrets=True, now=NOW)
    before = {path.name for path in tmp_path.iterdir()}
    other = changed(archive, change)

    with pytest.raises(ArchiveError, match=r"more|dinrail\.yaml"):
        bring_back(other, tmp_path / "back")

    assert {path.name for path in tmp_path.iterdir()} == before | {other.name}


def forged(archive: Path, *infos: tarfile.TarInfo) -> Path:
    """An archive of these files of one byte, and of settings, all of them in its manifest."""
    settings = tarfile.TarInfo("dinrail.yaml")
    settings.size = 1
    members = [
        Member(path=info.name, size=1, sha256=hashlib.sha256(b"x").hexdigest())
        for info in {info.name: info for info in (settings, *infos)}.values()
    ]
    made = Manifest(dinrail="0", site="plant", taken=NOW, secrets=True, members=members)
    with tarfile.open(archive, "w:gz", format=tarfile.PAX_FORMAT) as tar:
        for info in (settings, *infos):
            info.size = 1
            tar.addfile(info, io.BytesIO(b"x"))
        ArchiveWriter(tar).close(made)
    return archive


@pytest.mark.parametrize(
    "name", ["a\0b", "./manifest.json", "a//b", ".dinrail.yaml.restored", "twice", "owner", "sparse"]
)
def test_an_archive_that_this_program_would_not_make_is_refused_in_words(tmp_path: Path, name: str) -> None:
    info = tarfile.TarInfo(name)
    infos = [info]
    if "/" in name or "\0" in name:
        info.pax_headers = {"path": name}
    if name == "twice":
        infos.append(tarfile.TarInfo(name))
    if name == "owner":
        info.uid = 1 << 40
    if name == "sparse":  # a petabyte of nothing
        info.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.map": "0,0", "GNU.sparse.size": str(1 << 50)}
    archive = forged(tmp_path / "a.tar.gz", *infos)
    if name == "owner" and os.geteuid() != 0:
        pytest.skip("only root gives files to others")

    with pytest.raises(ArchiveError, match=r"site|twice|owner|neither"):
        bring_back(archive, tmp_path / "back")

    assert not (tmp_path / "back").exists()


def endless(kind: bytes) -> bytes:
    """A header of a tar that goes on for 64 MB: a name, further headers, or the map of a sparse file."""
    info = tarfile.TarInfo("a")
    info.type, info.size = kind, 64 << 20
    if kind == b"map":
        info.type = tarfile.REGTYPE
        info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "a"}
        return info.tobuf(tarfile.PAX_FORMAT) + b"9" * 9 + b"\n" + (b"1".rjust(511, b"0") + b"\n") * (64 << 11)
    if kind == tarfile.GNUTYPE_SPARSE:
        head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        head[257:265], head[482] = b"ustar  \0", 1
        head[148:156] = b" " * 8
        head[148:156] = b"%06o\0 " % sum(head)
        return bytes(head) + (b"1".rjust(12, b"0") * 42 + b"\1" * 8) * (64 << 11)
    return info.tobuf(tarfile.GNU_FORMAT) + bytes(64 << 20)


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
        tarfile.GNUTYPE_SPARSE,
        b"map",
    ],
)
def test_a_header_without_end_is_refused_before_it_has_filled_the_memory(tmp_path: Path, kind: bytes) -> None:
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(gzip.compress(endless(kind), compresslevel=1))

    tracemalloc.start()
    try:
        with pytest.raises(ArchiveError, match="a header of more than 1 MiB"):
            bring_back(archive, tmp_path / "back")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 16 << 20
    assert not (tmp_path / "back").exists()


def test_what_a_restore_leaves_that_is_killed_is_no_site(site: Site, tmp_path: Path) -> None:
    whole, short, back = tmp_path / "a.tar.gz", tmp_path / "b.tar.gz", tmp_path / "back"
    back_up(site, whole, secrets=True, now=NOW)
    plain = gzip.decompress(whole.read_bytes())
    short.write_bytes(gzip.compress(plain[: plain.rindex(b"manifest.json")]))

    with pytest.raises(ArchiveError, match="cut off"):
        read_archive(short, into=back)  # which leaves what it has

    assert (back / "users").is_dir()
    assert not (back / "dinrail.yaml").exists()


def test_a_file_that_goes_while_the_copy_is_made_does_not_end_it(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = site.data / "recorder" / "page"
    page.touch()
    draft = site.folder / "devices" / "draft.yaml"
    draft.touch()
    kept = backup_module._entries

    def entries(folder: Path) -> list[Path]:
        """What a folder had a moment ago."""
        found = kept(folder)
        for path in {page, draft} & set(found):
            path.unlink()
        return found

    monkeypatch.setattr(backup_module, "_entries", entries)
    monkeypatch.setattr(Path, "is_file", lambda path: not path.is_dir())
    taken = back_up(site, tmp_path / "a.tar.gz", secrets=False, now=NOW)

    paths = {member.path for member in taken.manifest.members}
    assert paths.isdisjoint({"devices/draft.yaml", "data/recorder/page"})
    assert "dinrail.yaml" in paths


def test_an_archive_within_the_site_and_a_name_that_cannot_be_written_are_refused(site: Site, tmp_path: Path) -> None:
    with pytest.raises(CannotBackUp, match="inside"):
        back_up(site, site.folder / "a.tar.gz", secrets=True, now=NOW)
    Path(os.fsdecode(os.fsencode(site.folder) + b"/devices/\xff.txt")).touch()
    with pytest.raises(CannotBackUp, match="not UTF-8"):
        back_up(site, tmp_path / "a.tar.gz", secrets=True, now=NOW)
    assert not (tmp_path / "a.tar.gz").exists()


def test_an_archive_that_was_cut_off_is_refused(site: Site, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    back_up(site, archive, secrets=True, now=NOW)
    whole = archive.read_bytes()
    plain = gzip.decompress(whole)
    for cut in (whole[:-100], whole[: len(whole) // 2], gzip.compress(plain[: plain.index(b"manifest.json")])):
        archive.write_bytes(cut)
        with pytest.raises(ArchiveError, match="cut off"):
            read_archive(archive, into=None)


def test_nothing_that_is_there_is_written_over(site: Site, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    back_up(site, archive, secrets=True, now=NOW)

    with pytest.raises(CannotBackUp, match="there already"):
        back_up(site, archive, secrets=True, now=NOW)
    with pytest.raises(ArchiveError, match="not empty"):
        bring_back(archive, site.folder)

    assert site.settings_file.exists()


def test_a_data_folder_outside_of_the_site_is_named_and_not_forgotten(site: Site, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    text = site.settings_file.read_text().replace("data: data/gateway", f"data: {tmp_path / 'far'}")
    site.settings_file.write_text(text)

    with pytest.raises(CannotBackUp, match=r"gateway\.data is .*far"):
        back_up(site, tmp_path / "a.tar.gz", secrets=True, now=NOW)
    assert not (tmp_path / "a.tar.gz").exists()


def test_the_commands_say_what_was_done_and_end_with_2_when_it_cannot_be(site: Site, tmp_path: Path) -> None:
    archive, back = str(tmp_path / "a.tar.gz"), str(tmp_path / "back")

    def dinrail(*words: str) -> tuple[int, str]:
        """Exit code, and all that is printed."""
        result = CliRunner(env={"COLUMNS": "200"}).invoke(app, list(words))
        return result.exit_code, result.output

    made = dinrail("backup", archive, "--no-secrets", "--dir", str(site.folder))
    again = dinrail("backup", archive, "--dir", str(site.folder))
    nowhere = dinrail("backup", str(tmp_path / "b.tar.gz"), "--dir", str(tmp_path / "none"))
    unwritable = dinrail("backup", str(tmp_path / "no" / "b.tar.gz"), "--dir", str(site.folder))
    checked = dinrail("restore", archive, "--verify", "--dir", back)
    absent = dinrail("restore", str(tmp_path / "none.tar.gz"), "--dir", back)
    restored = dinrail("restore", archive, "--dir", back)
    twice = dinrail("restore", archive, "--dir", back)

    assert made[0] == 0
    assert "not in it: passwords and keys" in made[1]
    assert (again[0], "is there already" in again[1]) == (2, True)
    assert (nowhere[0], "name the site's folder with --dir" in nowhere[1]) == (2, True)
    assert (unwritable[0], "No such file or directory" in unwritable[1]) == (2, True)
    assert (checked[0], "is whole" in checked[1]) == (0, True)
    assert (absent[0], "No such file or directory" in absent[1]) == (2, True)
    assert (restored[0], "it has no passwords and keys" in restored[1]) == (0, True)
    assert (twice[0], "not empty" in twice[1]) == (2, True)
