"""`dinrail restore`: a site out of an archive that `dinrail backup` has made."""

import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from services.cli.archive import ArchiveError, Manifest, read_archive
from services.cli.options import HERE, Folder, fail


def restore(
    file: Annotated[Path, typer.Argument(help="The archive that `dinrail backup` has made.")],
    folder: Folder = HERE,
    verify: Annotated[bool, typer.Option("--verify", help="Only check the archive; nothing is written.")] = False,
) -> None:
    """Make a site of an archive, in a folder that is empty or not there yet; every file is checked on the way.

    Example: dinrail restore plant-2026-11-22.tar.gz --dir site
    """
    try:
        manifest = read_archive(file, into=None) if verify else bring_back(file, folder)
    except ArchiveError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or file}: {error.strerror or error}")
    when = f"{manifest.taken:%Y-%m-%d %H:%M:%S} UTC"
    done = "is whole" if verify else f"is now in {folder}"
    typer.echo(f"site {manifest.site} of {when}, {len(manifest.members)} files, made by {manifest.dinrail}: {done}")
    if manifest.dinrail != (own := version("dinrail")):
        typer.echo(f"this is dinrail {own}: read docs/upgrade.md before you start it")
    if not verify and not manifest.secrets:
        typer.echo("it has no passwords and keys: see docs/backup.md")


def bring_back(file: Path, folder: Path) -> Manifest:
    """Leaves all of it in the folder or nothing. Raises ArchiveError, OSError."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ArchiveError(f"{folder} is there and not empty; name a new folder with --dir, or move that one away")
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    whole = False
    try:
        manifest = read_archive(file, into=folder)
        whole = True
        return manifest
    finally:
        if not whole:
            for path in folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            if new:
                folder.rmdir()
