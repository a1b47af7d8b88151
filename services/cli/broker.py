"""The mosquitto broker: where its program is, how it gets onto a machine without it, and what it is told.

`python -m services.cli.broker` finds or fetches the program and prints its path; `make up` and `make test` call it.
This module uses the standard library alone, so that it also works before anything is installed.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")
APT_DEADLINE_S = 300
_INSTALL_LINE = re.compile(r"^Inst (\S+)", re.MULTILINE)


class BrokerMissing(Exception):
    """There is no mosquitto here and it could not be fetched; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Mosquitto:
    """The broker's program. environment: variables that it needs beside the caller's own."""

    program: Path
    environment: Mapping[str, str] = field(default_factory=dict)


def tools_folder() -> Path:
    """Where fetched programs are kept: .dinrail in the source tree; for an installed package, the user's cache."""
    tree = Path(__file__).resolve().parents[2]
    return tree / ".dinrail" if (tree / "pyproject.toml").is_file() else Path.home() / ".cache" / "dinrail"


def find_mosquitto(tools: Path | None = None) -> Mosquitto:
    """The system's mosquitto, else the one fetched into `tools` (default: tools_folder()). Raises BrokerMissing."""
    path = os.pathsep.join([os.environ.get("PATH", ""), *SYSTEM_FOLDERS])
    if found := shutil.which("mosquitto", path=path):
        return Mosquitto(Path(found))
    root = (tools or tools_folder()) / "mosquitto"
    program = root / "usr/sbin/mosquitto"
    if not program.is_file():
        raise BrokerMissing(
            "mosquitto, the MQTT broker, is not on this machine; run `python -m services.cli.broker`, which unpacks "
            "Debian's package into a folder of its own, or install it with your system's package manager"
        )
    folders = sorted({str(library.parent) for library in root.rglob("*.so*")})
    present = os.environ.get("LD_LIBRARY_PATH", "")
    return Mosquitto(program, {"LD_LIBRARY_PATH": os.pathsep.join([*folders, present] if present else folders)})


def fetch_mosquitto(tools: Path | None = None) -> Mosquitto:
    """Unpacks Debian's mosquitto and the libraries that this machine lacks into `tools`; works with and without root.

    Nothing is installed, so Debian's own daemon never starts, and apt's lists are private to us. Raises BrokerMissing.
    """
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise BrokerMissing("there is no apt-get here to fetch mosquitto with; install mosquitto 2.0 or newer yourself")
    tools = tools or tools_folder()
    packages = tools / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    apt = private_apt(tools)
    _run([*apt, "-qq", "update"], cwd=packages)
    plan = _run([*apt, "-s", "install", "--no-install-recommends", "mosquitto"], cwd=packages)
    names = _INSTALL_LINE.findall(plan) or ["mosquitto"]
    _run([*apt, "-qq", "download", *names], cwd=packages)
    # Unpacked beside and moved at the end: an interrupted fetch leaves nothing that looks complete.
    unpacked = tools / "mosquitto.partial"
    shutil.rmtree(unpacked, ignore_errors=True)
    for package in sorted(packages.glob("*.deb")):
        _run(["dpkg-deb", "-x", str(package), str(unpacked)], cwd=packages)
    shutil.rmtree(tools / "mosquitto", ignore_errors=True)
    unpacked.rename(tools / "mosquitto")
    shutil.rmtree(packages)
    shutil.rmtree(tools / "apt")
    return find_mosquitto(tools)


def private_apt(tools: Path) -> list[str]:
    """apt-get with the system's sources and installed packages, but lists and caches of our own in `tools`/apt."""
    lists, cache = tools / "apt/lists", tools / "apt/cache"
    for folder in (lists / "partial", cache / "archives/partial"):
        folder.mkdir(parents=True, exist_ok=True)
    options = {
        "Dir::State::Lists": lists,
        "Dir::Cache": cache,
        "Debug::NoLocking": "1",  # the locks are the system's; nothing of the system's is written
        "APT::Sandbox::User": "",  # apt's own user may not enter a home directory
    }
    return ["apt-get", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]


def _run(command: Sequence[str], *, cwd: Path) -> str:
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        result = subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=APT_DEADLINE_S, check=True
        )
    except subprocess.CalledProcessError as error:
        raise BrokerMissing(
            f"fetching mosquitto failed: {' '.join(command)}\n{error.stderr.strip() or error.stdout.strip()}"
        ) from None
    except subprocess.TimeoutExpired:
        raise BrokerMissing(f"fetching mosquitto took more than {APT_DEADLINE_S} s: {' '.join(command)}") from None
    return result.stdout


def main() -> int:
    """Prints where mosquitto is, fetching it if need be; 2 if there is no way to get it."""
    try:
        try:
            found = find_mosquitto()
        except BrokerMissing:
            print("fetching mosquitto ...", file=sys.stderr)
            found = fetch_mosquitto()
    except BrokerMissing as error:
        print(error, file=sys.stderr)
        return 2
    print(found.program)
    return 0


if __name__ == "__main__":
    sys.exit(main())
