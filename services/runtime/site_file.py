"""Files of a site that others read while we write them."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

_AS_USUAL = 0o666
"""Of a new file, less what the umask takes away."""


def replace_file(path: Path, content: bytes, *, mode: int) -> bool:
    """Puts the content in the file's place, whole or not at all; False if it is there already. Raises OSError.

    A file that is there keeps its owner: root writes for those who read, as in a container. mode: of a new file.
    """
    owner = None
    if path.exists():
        if path.read_bytes() == content:
            return False
        owner = path.stat()
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        if owner is not None and os.geteuid() == 0:
            os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    return True


def fill_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Puts these files in the folder; makes it with all of them or not at all if it is not there. Raises OSError.

    One that is there stays the same folder: a container may have it mounted.
    """
    if path.is_dir():
        for name, content in files.items():
            replace_file(path / name, content, mode=_AS_USUAL)
        return
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for name, content in files.items():
        replace_file(partial / name, content, mode=_AS_USUAL)
    partial.rename(path)
