"""libmodbus for tests: the system's, or unpacked from Debian's package into the user's cache the first time."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from services.cli.broker import private_apt
from tests.fetched import kept

PACKAGE = "libmodbus5"
SONAME = "libmodbus.so.5"
FETCH_S = 60


def library_path() -> str:
    """What to load. Skips the test, with the reason, where it cannot be had."""
    try:
        ctypes.CDLL(SONAME)
    except OSError:
        return str(_unpacked())
    return SONAME


def _unpacked() -> Path:
    with kept(PACKAGE) as folder:
        if not list(folder.rglob(SONAME)):
            if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
                pytest.skip(f"{SONAME} is not installed, and there is no apt-get to fetch {PACKAGE} with")
            apt = private_apt(folder)
            _run(*apt, "-qq", "update", folder=folder)
            _run(*apt, "-qq", "download", PACKAGE, folder=folder)
            shutil.rmtree(folder / "apt")
            _run("dpkg-deb", "-x", str(next(folder.glob("*.deb"))), ".", folder=folder)
        return next(iter(folder.rglob(SONAME)))


def _run(*command: str, folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=FETCH_S, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{PACKAGE} was not fetched within {FETCH_S} s")
    if done.returncode:
        pytest.skip(f"{PACKAGE} cannot be fetched: {done.stderr.strip().splitlines()[-1:]}")
