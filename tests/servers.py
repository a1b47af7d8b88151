"""Real database servers for tests: Debian's packages, unpacked into a cache folder; nothing is installed."""

import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.cli.broker import private_apt
from tests.fetched import kept
from tests.polling import wait_until
from tests.ports import free_port

DEADLINE_S = 30.0
INFLUXD_CONFIG = """
reporting-disabled = true
bind-address = "127.0.0.1:{rpc_port}"
[meta]
  dir = "{folder}/meta"
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
[http]
  bind-address = "127.0.0.1:{port}"
  log-enabled = false
"""


def program(name: str, *, package: str) -> Path:
    """The program, from the PATH or unpacked from Debian's package. Skips the test, saying why, if there is none."""
    installed = shutil.which(name)
    if installed:
        return Path(installed)
    with kept(package) as folder:
        unpacked = folder / "tree" / "usr" / "bin" / name
        if not unpacked.exists():
            _unpack(package, into=folder / "tree")
    return unpacked


def _unpack(package: str, *, into: Path) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        pytest.skip(f"{package} is not installed, and this machine has no apt-get to fetch it with")
    with tempfile.TemporaryDirectory(dir=into.parent) as folder:
        apt = private_apt(Path(folder))
        _run([*apt, "-qq", "update"], folder)
        fetched = _run([*apt, "-qq", "download", package], folder)
        files = list(Path(folder).glob("*.deb"))
        if fetched.returncode != 0 or not files:
            pytest.skip(f"{package} is not to be had: {fetched.stderr.strip()[-300:]}")
        _run(["dpkg", "-x", str(files[0]), f"{folder}/tree"], folder).check_returncode()
        (Path(folder) / "tree").rename(into)


def _run(command: Sequence[str], folder: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)


@contextmanager
def influxd(folder: Path, *, port: int | None = None) -> Iterator[str]:
    """A running InfluxDB 1.6; gives its URL."""
    binary = program("influxd", package="influxdb")
    port = port or free_port()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "influxdb.conf"
    config.write_text(INFLUXD_CONFIG.format(folder=folder, port=port, rpc_port=free_port()))
    url = f"http://127.0.0.1:{port}"
    with answering([str(binary), "-config", str(config)], f"{url}/ping", folder / "influxd.log"):
        yield url


@contextmanager
def victoria_metrics(folder: Path, *, port: int | None = None) -> Iterator[str]:
    """A running VictoriaMetrics whose values can be queried at once, else as in docker-compose.yml; gives its URL."""
    binary = program("victoria-metrics", package="victoria-metrics")
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        str(binary),
        f"-storageDataPath={folder}/data",
        f"-httpListenAddr=127.0.0.1:{port}",
        "-retentionPeriod=100y",
        "-dedup.minScrapeInterval=1ms",
    ]
    with answering([*command, "-search.latencyOffset=0s"], f"{url}/health", folder / "victoria.log"):
        yield url


@contextmanager
def answering(
    command: Sequence[str], probe: str, log: Path, environ: Mapping[str, str] | None = None
) -> Iterator[None]:
    """The program, running from its first answer at the URL `probe` on."""
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out, env=environ) as process:
        try:
            _wait_answering(process, probe, log)
            yield
        finally:
            process.kill()


def _wait_answering(process: "subprocess.Popen[bytes]", probe: str, log: Path) -> None:
    def answers_or_has_ended() -> bool:
        try:
            with urllib.request.urlopen(probe, timeout=1):
                return True
        except (urllib.error.URLError, ConnectionError):
            return process.poll() is not None

    wait_until(answers_or_has_ended, DEADLINE_S, what=f"{probe} answers")
    if process.poll() is not None:
        raise RuntimeError(f"{process.args!r} has ended:\n{log.read_text(errors='replace')[-2000:]}")
