"""libmodbus for tests: the system's, or unpacked from Debian's package into the user's cache the first time."""

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import pytest

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
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "dinrail" / PACKAGE
    if not list(cache.rglob(SONAME)):
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            pytest.skip(f"{SONAME} is not installed, and there is no apt-get to fetch {PACKAGE} with")
        cache.mkdir(parents=True, exist_ok=True)
        _run("apt-get", "download", "-q", PACKAGE, folder=cache)
        _run("dpkg-deb", "-x", str(next(cache.glob("*.deb"))), ".", folder=cache)
    return next(iter(cache.rglob(SONAME)))


def _run(*command: str, folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=FETCH_S, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{PACKAGE} was not fetched within {FETCH_S} s")
    if done.returncode:
        pytest.skip(f"{PACKAGE} cannot be fetched: {done.stderr.strip().splitlines()[-1:]}")
