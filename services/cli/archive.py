"""The archive of a backup: a tar.gz whose last member says what each of the others is.

The manifest stands last since it holds the hashes of what is read only once; an archive without it was cut off.
"""

import gzip
import hashlib
import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, Literal, Protocol, cast

from pydantic import BaseModel, ConfigDict, ValidationError

MANIFEST: Final = "manifest.json"
LAST: Final = "dinrail.yaml"
"""Without it a folder is no site: it gets its name once all else has been found to be right."""
_WITHHELD = ".dinrail.yaml.restored"
_MANIFEST_BYTES = 64 << 20
_HEADER_BYTES = 1 << 20
"""Of what stands before a file's content, such as a long path: a tar says itself how much that is, and it is kept."""
_NOBODYS = 2**32 - 1
"""Of users and groups, the first number that no file can have."""
_LEVEL = 3
"""Of gzip: the history is packed already, and what a higher level wins elsewhere is little and slow."""


class ArchiveError(Exception):
    """It is no archive of a backup, or not as it was made; the message says where."""


class Member(BaseModel):
    """A file of the archive. size: in bytes. sha256: of its content, in hexadecimal."""

    model_config = ConfigDict(frozen=True)

    path: str
    size: int
    sha256: str


class Manifest(BaseModel):
    """What the archive holds, and of what it is a copy. dinrail: the version that has made it."""

    model_config = ConfigDict(frozen=True)

    form: Literal[1] = 1
    dinrail: str
    site: str
    taken: datetime
    secrets: bool
    members: list[Member]


class _Source(Protocol):
    def read(self, length: int = -1, /) -> bytes:
        """The next `length` bytes at most; -1: all that follow."""
        ...


class _Hashed:
    """A file that is read, and hashed meanwhile."""

    def __init__(self, source: _Source) -> None:
        self._source = source
        self.hash = hashlib.sha256()

    def read(self, length: int = -1, /) -> bytes:
        """The next bytes."""
        data = self._source.read(length)
        self.hash.update(data)
        return data


class _Unpacked:
    """What is in the file, with no more of it between the contents of two members than a header takes."""

    def __init__(self, path: Path, packed: _Source) -> None:
        self._path = path
        self._packed = packed
        self._left = _HEADER_BYTES

    def expect(self, size: int) -> None:
        """So much of a content comes before the next header."""
        self._left = _HEADER_BYTES + size

    def read(self, length: int = -1, /) -> bytes:
        """The next bytes. Raises ArchiveError."""
        data = self._packed.read(length)
        self._left -= len(data)
        if self._left < 0:
            raise ArchiveError(f"{self._path}: a header of more than {_HEADER_BYTES >> 20} MiB; no backup has one")
        return data


class ArchiveWriter:
    """Puts files in, one after the other. members: what is in it so far."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self.members: list[Member] = []

    def put(self, path: str, source: BinaryIO, status: os.stat_result, *, size: int | None = None) -> None:
        """Adds a file with the mode and owner of `status`, and its first `size` bytes. Raises OSError."""
        info = tarfile.TarInfo(path)
        info.size = status.st_size if size is None else size
        info.mode, info.uid, info.gid, info.mtime = (
            status.st_mode & 0o777,
            status.st_uid,
            status.st_gid,
            status.st_mtime,
        )
        hashed = _Hashed(source)
        self._tar.addfile(info, hashed)
        self.members.append(Member(path=path, size=info.size, sha256=hashed.hash.hexdigest()))

    def put_folder(self, path: str, status: os.stat_result) -> None:
        """Adds a folder, which may be empty."""
        info = tarfile.TarInfo(path)
        info.type = tarfile.DIRTYPE
        info.mode, info.uid, info.gid = status.st_mode & 0o777, status.st_uid, status.st_gid
        self._tar.addfile(info)

    def close(self, manifest: Manifest) -> None:
        """The last member."""
        data = manifest.model_dump_json(indent=1).encode()
        info = tarfile.TarInfo(MANIFEST)
        info.size, info.mode = len(data), 0o600
        self._tar.addfile(info, BytesIO(data))


@contextmanager
def writing(path: Path) -> Iterator[ArchiveWriter]:
    """A new archive that nobody else may read; it gets its name once it is whole and on the disk.

    Raises FileExistsError, OSError.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with (
            os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file,
            gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=_LEVEL) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            yield ArchiveWriter(tar)
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        os.link(partial, path)  # unlike a renaming, this takes nobody's place
    finally:
        partial.unlink(missing_ok=True)


def read_archive(path: Path, *, into: Path | None) -> Manifest:
    """Reads it to its end and checks each file against the manifest. into: a folder that gets what is in it.

    Modes are given back, and to root the owners too. Nothing leaves the folder, and until all of it is right, what is
    in the folder is no site: who is killed meanwhile leaves none. Raises ArchiveError, OSError.
    """
    found: dict[str, Member] = {}
    manifest: Manifest | None = None
    try:
        with gzip.open(path) as packed, _tar(source := _Unpacked(path, packed)) as tar:
            for info in tar:
                source.expect(info.size if info.isreg() else 0)
                if manifest is not None:
                    raise ArchiveError(f"{path}: {info.name!r} stands behind the manifest")
                if info.name == MANIFEST:
                    manifest = _manifest(path, tar, info)
                elif info.isdir():
                    _make_folder(info, into, path)
                elif info.name in found:
                    raise ArchiveError(f"{path}: {info.name!r} is in it twice")
                else:
                    found[info.name] = _read(path, tar, info, into)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, ValueError) as error:
        raise ArchiveError(f"{path}: cut off or damaged: {error}") from None
    if manifest is None:
        raise ArchiveError(f"{path}: cut off: it has no manifest")
    wanted = {member.path: member for member in manifest.members}
    wrong = sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))
    if wrong:
        raise ArchiveError(f"{path}: {wrong[0]!r} is not as it was put in ({len(wrong)} such files)")
    if into is not None and LAST in found:
        os.sync()  # the folders too, of which this one's entry is to be the last
        (into / _WITHHELD).rename(into / LAST)
    return manifest


def _tar(source: _Source) -> tarfile.TarFile:
    return tarfile.open(fileobj=cast("BinaryIO", source), mode="r|")


def _manifest(path: Path, tar: tarfile.TarFile, info: tarfile.TarInfo) -> Manifest:
    source = tar.extractfile(info)
    if source is None or info.size > _MANIFEST_BYTES:
        raise ArchiveError(f"{path}: its {MANIFEST} is none")
    try:
        return Manifest.model_validate_json(source.read())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ArchiveError(f"{path}: {MANIFEST}: {where}: {first['msg']}; made by another version?") from None


def _read(path: Path, tar: tarfile.TarFile, info: tarfile.TarInfo, into: Path | None) -> Member:
    # A sparse file is as long as its header says, be it a million times the archive: we make none.
    source = tar.extractfile(info) if info.isreg() and not info.issparse() else None
    if source is None:
        raise ArchiveError(f"{path}: {info.name!r} is neither a file nor a folder")
    place = _place(path, info.name, into)
    hashed = _Hashed(source)
    if place is None:
        while hashed.read(1 << 20):
            pass
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        with os.fdopen(os.open(place, flags, 0o600), "wb") as file:
            while data := hashed.read(1 << 20):
                file.write(data)
            _give_back(file.fileno(), info)
            file.flush()
            os.fsync(file.fileno())
    return Member(path=info.name, size=info.size, sha256=hashed.hash.hexdigest())


def _make_folder(info: tarfile.TarInfo, into: Path | None, path: Path) -> None:
    place = _place(path, info.name, into)
    if place is not None:
        place.mkdir(parents=True, exist_ok=True)
        folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            _give_back(folder, info, least=0o700)
        finally:
            os.close(folder)


def _give_back(descriptor: int, info: tarfile.TarInfo, *, least: int = 0o400) -> None:
    if os.geteuid() == 0:
        if not (0 <= info.uid < _NOBODYS and 0 <= info.gid < _NOBODYS):
            raise ArchiveError(f"{info.name!r} has an owner that there cannot be")
        os.fchown(descriptor, info.uid, info.gid)
    os.fchmod(descriptor, (info.mode & 0o777) | least)


def _place(path: Path, name: str, into: Path | None) -> Path | None:
    parts = PurePosixPath(name).parts
    if name.startswith("/") or not parts or ".." in parts:
        raise ArchiveError(f"{path}: {name!r} would leave the folder")
    if "/".join(parts) != name or "\0" in name or name in (MANIFEST, _WITHHELD):
        raise ArchiveError(f"{path}: {name!r} is no name of a file of a site")
    if into is None:
        return None
    return into / _WITHHELD if name == LAST else into.joinpath(*parts)
