"""What of a site can be looked at on this machine alone: who may read its secrets, and whether its disks have room."""

import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from services.cli.doctor.finding import Finding, State
from services.cli.settings import SiteSettings
from services.cli.site import Site

LEAST_SHARE = 0.15
LEAST_BYTES = 1 << 30
FULL_SHARE = 0.05
FULL_BYTES = 200 << 20


@dataclass(frozen=True, slots=True)
class SecretFiles:
    """Whether others than their owner can get at the site's secrets."""

    name: ClassVar[str] = "secrets"

    site: Site

    def findings(self) -> Iterator[Finding]:
        """Each file and folder that is open to others."""
        folders = readable(self.site.folder / "secrets", self.site.broker, self.site.users_file.parent)
        paths = [path for folder in folders for path in (folder, *sorted(folder.iterdir()))]
        open_ones = [path for path in paths if stat.S_IMODE(path.stat().st_mode) & 0o077]
        for path in open_ones:
            mode = "u=rwx" if path.is_dir() else "u=rw"
            yield Finding(State.FAIL, f"{path}: others than its owner can get at it: chmod {mode},go= {path}")
        if not paths:
            yield Finding(State.WARN, f"{self.site.folder / 'secrets'}: no secrets here; `dinrail init` makes a site's")
        elif not open_ones:
            yield Finding(State.OK, f"{len(paths)} secret files and their folders are open to their owner only")


@dataclass(frozen=True, slots=True)
class Space:
    """What a disk has in all, and free for us, in bytes."""

    total: int
    free: int


def space_of(folder: Path) -> Space:
    """Of the disk that the folder is on. Raises OSError."""
    found = shutil.disk_usage(folder)
    return Space(found.total, found.free)


@dataclass(frozen=True, slots=True)
class Disk:
    """Whether the disks of the data folders have room. folders: those that are here.

    Below warn_share, or 1 GiB, it is time to make room; below 5 %, or 200 MiB, services are about to stop keeping data.
    """

    name: ClassVar[str] = "disk"

    folders: Sequence[Path]
    warn_share: float = LEAST_SHARE
    fail_share: float = FULL_SHARE
    space: Callable[[Path], Space] = space_of

    def findings(self) -> Iterator[Finding]:
        """One for each disk."""
        disks: dict[int, Path] = {}
        for folder in self.folders:
            if folder.is_dir():
                disks.setdefault(folder.stat().st_dev, folder)
        for folder in disks.values():
            try:
                space = self.space(folder)
            except OSError as error:
                yield Finding(State.FAIL, f"{folder}: its disk cannot be looked at: {error.strerror}")
                continue
            yield self._of(folder, space)

    def _of(self, folder: Path, space: Space) -> Finding:
        share = space.free / space.total if space.total else 0.0
        said = f"{folder}: {size(space.free)} of the disk are free ({share:.0%})"
        if share < self.fail_share or space.free < FULL_BYTES:
            state = State.FAIL
        elif share < self.warn_share or space.free < LEAST_BYTES:
            state = State.WARN
        else:
            return Finding(State.OK, said)
        mend = (
            "make room, or move the folder to a larger disk; less is kept with recorder.store.keep, "
            "recorder.events_keep, recorder.events_max_bytes and journal_cap_bytes"
        )
        return Finding(state, f"{said}: {mend}")


def data_folders(site: Site, settings: SiteSettings | None) -> list[Path]:
    """Where data of the site lie. settings: None if they cannot be read."""
    found = [site.data]
    if settings is not None:
        services = (settings.gateway, settings.orchestrator, settings.compute, settings.recorder, settings.identity)
        found += [one.data for one in services]
    return found


def size(count: int) -> str:
    """Bytes for people."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if value >= 10 or unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def readable(*folders: Path) -> list[Path]:
    """Those that are here and for us to read: in containers the broker's is its own."""
    return [folder for folder in folders if os.access(folder, os.R_OK | os.X_OK)]
