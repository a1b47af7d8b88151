"""`dinrail backup`: a copy of a site that can be taken while everything runs."""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from plugins.api.document import DocumentError
from services.cli.archive import ArchiveWriter, Manifest, writing
from services.cli.held_journal import LEDGER, HeldJournal
from services.cli.options import HERE, Folder, fail
from services.cli.settings import SiteSettings, read_settings
from services.cli.site import Site
from services.runtime.journal.faults import JournalBroken
from services.runtime.journal.segment import SUFFIX
from services.runtime.sqlite_file import one_moment

SERVICES = ("gateway", "orchestrator", "compute", "identity", "recorder")
_STORE = "recorder"
_PAGES = 1000
_LOCKS = frozenset({"lock", "init.lock"})
_OTHERWISE = (".lock", ".partial", ".new", "-wal", "-shm", ".index", SUFFIX, ".db")
"""Of a data folder: what is copied in its own way, or made anew by whoever reads it."""
_COPIES = "functions"
"""In compute's data folder: copies of plugins, made anew at every start."""
_SPARE_BYTES = 64 << 20


class CannotBackUp(Exception):
    """The message says what is in the way, and what to do."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What was taken. left_out: what people may miss, each with where it is."""

    manifest: Manifest
    left_out: list[str]


def backup(
    file: Annotated[Path, typer.Argument(help="The archive to make: NAME.tar.gz.")],
    folder: Folder = HERE,
    secrets: Annotated[
        bool,
        typer.Option("--secrets/--no-secrets", help="With passwords and keys: keep the archive as you keep these."),
    ] = True,
) -> None:
    """Copy a site into an archive, also while it runs: settings, devices, pipelines, users, journals and history.

    Example: dinrail backup /mnt/backup/plant-2026-11-22.tar.gz
    """
    try:
        taken = back_up(Site(folder), file, secrets=secrets, now=datetime.now(UTC))
    except (CannotBackUp, DocumentError, JournalBroken) as error:
        fail(str(error))
    except sqlite3.Error as error:
        fail(f"a database cannot be copied: {error}; `dinrail doctor` may tell more")
    except FileExistsError as error:
        fail(f"{error.filename2 or error.filename}: is there already; name another file")
    except OSError as error:
        fail(f"{error.filename or file}: {error.strerror or error}")
    size = sum(member.size for member in taken.manifest.members)
    packed = file.stat().st_size
    typer.echo(f"{file}: {len(taken.manifest.members)} files, {size / 1e6:.1f} MB, {packed / 1e6:.1f} MB packed")
    for line in taken.left_out:
        typer.echo(f"not in it: {line}")


def back_up(site: Site, file: Path, *, secrets: bool, now: datetime) -> Taken:
    """Writes the archive. Raises CannotBackUp, DocumentError, JournalBroken, sqlite3.Error, OSError."""
    if not site.settings_file.is_file():
        raise CannotBackUp(f"{site.settings_file} is not there; name the site's folder with --dir")
    if file.exists():
        raise CannotBackUp(f"{file} is there already; name another file")
    if file.resolve().is_relative_to(site.folder.resolve()):
        raise CannotBackUp(f"{file} is inside {site.folder}, and would be in the next copy; name a file elsewhere")
    settings = read_settings(site)
    data = _data_folders(site, settings)
    _check_room(file, data.values())
    with writing(file) as archive, ExitStack() as held:
        beside = Path(held.enter_context(tempfile.TemporaryDirectory(prefix=".dinrail-backup-", dir=file.parent)))
        copy = _SiteCopy(site, archive, beside)
        journals = {name: HeldJournal(path, held=held) for name, path in data.items() if (path / LEDGER).exists()}

        def look() -> None:
            """Between two pieces of the database."""
            for journal in journals.values():
                journal.look()

        # First what the others know to be stored: see held_journal.
        for name in sorted(data, key=lambda name: name != _STORE):
            copy.databases(data[name], look=look)
        for name, path in data.items():
            copy.data(path, journals.get(name), within=_COPIES if name == "compute" else None)
        copy.rest({*data.values(), site.data.resolve(), site.logs.resolve()}, secrets=secrets)
        made = Manifest(
            dinrail=version("dinrail"), site=settings.site, taken=now, secrets=secrets, members=archive.members
        )
        archive.close(made)
    return Taken(made, list(_left_out(site, settings, secrets=secrets)))


class _SiteCopy:
    """Puts the parts of a site into an archive, under the paths that they have in the site's folder."""

    def __init__(self, site: Site, archive: ArchiveWriter, beside: Path) -> None:
        self._root = site.folder.resolve()
        self._archive = archive
        self._beside = beside

    def databases(self, folder: Path, *, look: Callable[[], None]) -> None:
        """A folder's databases, each as it was at one moment. look: is called every now and then."""
        for path in sorted(folder.glob("*.db")):
            copied = self._beside / path.name
            with one_moment(path) as source, closing(sqlite3.connect(copied)) as target:
                # The moment begins with what is read first. Within it, the source does not change for the copy, which
                # would else begin anew with each commit.
                source.execute("SELECT count(*) FROM sqlite_master").fetchone()
                source.backup(target, pages=_PAGES, progress=lambda *_: look())
                target.execute("PRAGMA journal_mode = DELETE")
            with copied.open("rb") as file:
                self._archive.put(self._name(path), file, path.stat(), size=copied.stat().st_size)
            copied.unlink()

    def data(self, folder: Path, journal: HeldJournal | None, *, within: str | None) -> None:
        """All else of a service: what belongs together is taken at about one moment, as a power cut would leave it.

        within: a folder of it that is left out.
        """
        # An event's version is written before the event: what comes later here may know more than what came before.
        left = set() if within is None else {folder / within}
        segments = journal.capture() if journal is not None else []
        small = []
        for path in _files(folder, but=left):
            if not path.name.endswith(_OTHERWISE) and path.name not in _LOCKS:
                with suppress(FileNotFoundError):  # gone meanwhile, as a command's page that is done
                    small.append((path, path.stat(), path.read_bytes()))
        ledger = journal.ledger() if journal is not None else b""
        for path in (folder, *_folders(folder, but=left)):  # with their owners: the service makes files in each
            self._folder(path)
        for path, status, content in small:
            text = ledger if path.name == LEDGER and journal is not None else content
            self._archive.put(self._name(path), BytesIO(text), status, size=len(text))
        for segment in segments:
            self._archive.put(self._name(folder / segment.name), segment.file, segment.status)

    def rest(self, but: set[Path], *, secrets: bool) -> None:
        """What people and `dinrail init` have put there. but: folders that are left out."""
        hidden = set() if secrets else {self._root / "secrets", self._root / "broker"}
        for path in _folders(self._root, but=but | hidden):
            self._folder(path)
        for path in _files(self._root, but=but | hidden):
            if path.name in _LOCKS or path.name.endswith(".partial"):
                continue
            with ExitStack() as opened:
                try:
                    file = opened.enter_context(path.open("rb"))
                except FileNotFoundError:  # a new version takes its place, or it was removed
                    continue
                if secrets or not _is_key(path, file):
                    self._archive.put(self._name(path), file, os.fstat(file.fileno()))

    def _folder(self, path: Path) -> None:
        with suppress(FileNotFoundError):
            self._archive.put_folder(self._name(path), path.stat())

    def _name(self, path: Path) -> str:
        name = path.relative_to(self._root).as_posix()
        try:
            name.encode()
        except UnicodeEncodeError:
            raise CannotBackUp(f"{name!r} in {self._root}: its name is not UTF-8; rename or remove it") from None
        return name


def _files(folder: Path, *, but: set[Path]) -> Iterator[Path]:
    """Every file below the folder, in order, but for those in `but`; links are not followed out of it."""
    for path in _entries(folder):
        if path in but or path.is_symlink():
            continue
        if path.is_dir():
            yield from _files(path, but=but)
        elif path.is_file():
            yield path


def _folders(folder: Path, *, but: set[Path]) -> Iterator[Path]:
    for path in _entries(folder):
        if path.is_dir() and not path.is_symlink() and path not in but:
            yield path
            yield from _folders(path, but=but)


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, in order; nothing if it has gone meanwhile."""
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []


def _is_key(path: Path, file: BinaryIO) -> bool:
    """The file is at its beginning afterwards."""
    beginning = file.read(65536)
    file.seek(0)
    return path.suffix == ".key" or b"PRIVATE KEY" in beginning


def _data_folders(site: Site, settings: SiteSettings) -> dict[str, Path]:
    """The data folder of each service that has one already. Raises CannotBackUp for one outside the site."""
    found = {}
    for name in SERVICES:
        path: Path = getattr(settings, name).data
        if not path.is_dir():
            continue
        if not path.resolve().is_relative_to(site.folder.resolve()):
            raise CannotBackUp(
                f"{name}.data is {path}, outside {site.folder}, and would be missing; "
                "move it there, or, for volumes of containers, see docs/backup.md"
            )
        found[name] = path.resolve()
    return found


def _check_room(file: Path, folders: Iterable[Path]) -> None:
    """For a copy of the databases beside the archive. Raises CannotBackUp, OSError."""
    databases = sum(path.stat().st_size for folder in folders for path in folder.glob("*.db"))
    needed, free = 2 * databases + _SPARE_BYTES, shutil.disk_usage(file.resolve().parent).free
    if free < needed:
        raise CannotBackUp(
            f"{file.parent} has {free / 1e6:.0f} MB free; up to {needed / 1e6:.0f} MB are needed while the copy is made"
        )


def _left_out(site: Site, settings: SiteSettings, *, secrets: bool) -> Iterator[str]:
    root = site.folder.resolve()
    store = settings.recorder.store
    if store.kind == "influxdb":
        yield f"the values in InfluxDB ({store.url}); back them up with `influx backup`"
    if not secrets:
        yield "passwords and keys (secrets, broker, keys in certs)"
    elif not site.certificates.authority_key.exists():
        yield f"{site.certificates.authority_key}: it is kept elsewhere"
    for name in SERVICES:
        for key, value in getattr(settings, name):
            for path in value if isinstance(value, (list, tuple)) else (value,):
                if isinstance(path, Path) and not path.resolve().is_relative_to(root):
                    yield f"{path} ({name}.{key})"
