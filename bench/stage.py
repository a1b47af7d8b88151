"""A site whose services run as processes of their own, for benches that ask it for something over the broker."""

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from bench.process import Process, machine_ticks, show_logs, stolen_share, wait_for_port
from services.cli.broker import find_mosquitto
from services.cli.settings import read_broker
from services.cli.site import Site, make_site, write_broker_files
from tests.policies import IDENTITY, publish_policy
from tests.ports import site_ports

SITE = "bench"


class Stage:
    """Its processes, by name; they are started in the order in which they are asked for, and stopped backwards."""

    def __init__(self, folder: Path) -> None:
        self.ports = site_ports()
        self.site = Site(folder / "site")
        self.processes: dict[str, Process] = {}
        self._folder = folder
        self._cpu: dict[str, float] = {}
        self._own_cpu = 0.0
        self._begun = 0.0
        self._ticks = (0, 0)
        make_site(self.site, name=SITE, example=None, ports=self.ports)
        write_broker_files(self.site, name=SITE, broker=read_broker(self.site)[1])

    def write(self, kind: str, name: str, content: Mapping[str, Any]) -> None:
        """A file of the site. kind: devices, pipelines."""
        (self.site.folder / kind / f"{name}.yaml").write_text(yaml.safe_dump(dict(content), sort_keys=False))

    def password(self, account: str) -> str:
        """Of an account of the site."""
        return self.site.password(account).read_text().strip()

    def start_broker(self) -> None:
        """Returns when it listens."""
        mosquitto = find_mosquitto()
        command = [str(mosquitto.program), "-c", str(self.site.broker / "mosquitto.conf")]
        self._start("broker", command, mosquitto.environment, self.ports.broker)
        publish_policy(self.ports.broker, site=SITE, password=self.password(IDENTITY))

    def start(self, service: str, **settings: object) -> None:
        """Returns when its /health can be asked for. settings: keys of its section that differ from the defaults."""
        command = [sys.executable, "-m", f"services.{service}", "--config", str(self.site.settings_file)]
        environment = {f"DINRAIL_{service}__{key}".upper(): json.dumps(value) for key, value in settings.items()}
        self._start(service, command, environment, getattr(self.ports, service))

    def start_tool(self, module: str, port: int, *options: str) -> None:
        """A program of the bench that listens on this port."""
        command = [sys.executable, "-m", f"bench.{module}", "--port", str(port), *options]
        self._start(module, command, {}, port)

    def begin(self) -> None:
        """What is measured begins now."""
        self._cpu = {name: process.cpu_s() for name, process in self.processes.items()}
        self._own_cpu, self._begun, self._ticks = time.process_time(), time.perf_counter(), machine_ticks()

    def costs(self) -> dict[str, object]:
        """Since begin(): the share of a core of each process and of this one, `bench`, and what the host has taken."""
        elapsed = time.perf_counter() - self._begun
        used = {name: process.cpu_s() - self._cpu[name] for name, process in self.processes.items()}
        used["bench"] = time.process_time() - self._own_cpu
        return {
            "cpu_share": {name: round(seconds / elapsed, 2) for name, seconds in used.items()},
            "stolen": stolen_share(self._ticks),
        }

    def stop(self) -> None:
        """Ends what runs."""
        for process in reversed(self.processes.values()):
            process.stop()

    def _start(self, name: str, command: list[str], environment: Mapping[str, str], port: int) -> None:
        self.processes[name] = Process(name, command, environment, self._folder / f"{name}.log")
        wait_for_port(port)


@contextmanager
def stage() -> Iterator[Stage]:
    """A stage in a folder that goes with it; if it ends badly, the ends of its logs are shown."""
    with tempfile.TemporaryDirectory(prefix="dinrail-bench-") as folder:
        made = Stage(Path(folder))
        try:
            yield made
        except BaseException:
            show_logs(Path(folder))
            raise
        finally:
            made.stop()


def percentiles(seconds: list[float]) -> dict[str, float]:
    """p50, p95, p99 and the longest of these times, in milliseconds."""
    ordered = sorted(seconds) or [0.0]
    last = len(ordered) - 1
    at = {f"p{share}_ms": ordered[min(last, len(ordered) * share // 100)] for share in (50, 95, 99)}
    return {name: round(1000 * value, 2) for name, value in {**at, "max_ms": ordered[last]}.items()}
