"""What the spine carries: simulator -> gateway -> broker -> recorder -> embedded history, each a process of its own.

    python -m bench.spine                      every scenario, tag topics at defaults and off; prints a table
    python -m bench.spine --scenario modbus-fast --seconds 20

Scenarios: `modbus-100ms` 500 float32 of one Modbus device each 100 ms; `modbus-fast` the same again at once;
`modbus-most` eight such devices on one line with four requests under way, without the recorder, and with tag topics on
only the first device's 500 tags change beyond their dead band; `modbus-fleet` 50 devices with 50 float32 each second;
`opcua` 1000 Double variables at 10 Hz by subscription, and `opcua-10ms` the same sampled and published each 10 ms.
Results go to bench/out/spine.jsonl as JSON lines. A value is one float32 or one Double, all changing at every poll.
Latency: from the sending of the first answer (or just before the write that makes the notification) of the first device
to arrival of the frame at a subscriber of its own process. On time: polls in their own slot, of all slots there were.
"""

import argparse
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import yaml

from bench.watched_gateway import VARIABLE, collections
from services.cli.broker import find_mosquitto
from services.cli.settings import read_broker
from services.cli.site import Ports, Site, make_site, write_broker_files
from services.recorder.embedded.history import History
from tests.policies import IDENTITY, publish_policy
from tests.ports import site_ports

ROOT = Path(__file__).parents[1]
OUT = ROOT / "bench" / "out" / "spine.jsonl"
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What is simulated and how it is read. values: of each device. recorder: whether there is one.

    floor: see bench.floor.
    """

    name: str
    driver: str = "modbus"
    values: int
    interval: str
    devices: int = 1
    in_flight: int | None = None
    recorder: bool = True
    floor: bool = False

    def device(self, number: int, ports: Ports) -> dict[str, object]:
        """A device file. number: from 1."""
        if self.driver == "modbus":
            connection: dict[str, object] = {"host": "127.0.0.1", "port": ports.modbus, "unit_id": number}
            if self.in_flight:
                connection["in_flight"] = self.in_flight
            quiet = {"deadband": 1000} if number > 1 else {}  # of several devices only the first one's tags are told
            tags = {f"v{i}": {"address": f"holding:{2 * i}", "type": "float32", **quiet} for i in range(self.values)}
            group: dict[str, object] = {"interval": self.interval, "tags": tags}
        else:
            connection = {"url": f"opc.tcp://127.0.0.1:{ports.opcua}/bench"}
            tags = {f"v{i}": {"node": f"nsu=urn:dinrail:bench;s=v{i}", "type": "float64"} for i in range(self.values)}
            group = {"interval": self.interval, "mode": "subscribe", "sampling": self.interval, "tags": tags}
        return {"device": name_of(number), "driver": self.driver, "connection": connection, "groups": {"all": group}}

    def simulator(self, ports: Ports, stamps: Path) -> list[str]:
        """The command of the simulator."""
        port = ports.modbus if self.driver == "modbus" else ports.opcua
        options = {"--port": port, "--values": self.values, "--stamps": stamps}
        return [
            sys.executable,
            "-m",
            f"bench.{self.driver}_server",
            *(str(one) for pair in options.items() for one in pair),
        ]


SCENARIOS = {
    one.name: one
    for one in (
        Scenario(name="modbus-100ms", values=500, interval="100ms", floor=True),
        Scenario(name="modbus-fast", values=500, interval="0ms"),
        Scenario(name="modbus-most", values=500, interval="0ms", devices=8, in_flight=4, recorder=False),
        Scenario(name="modbus-fleet", values=50, interval="1s", devices=50),
        Scenario(name="opcua", driver="opcua", values=1000, interval="100ms"),
        Scenario(name="opcua-10ms", driver="opcua", values=1000, interval="10ms"),
    )
}


def name_of(number: int) -> str:
    """The name of a device. number: from 1."""
    return f"bench-{number}"


class Process:
    """A child of the benchmark, with the processor time that it has taken."""

    def __init__(self, name: str, command: list[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        with log.open("wb") as file:
            self.child = subprocess.Popen(
                command,
                cwd=ROOT,
                stdout=subprocess.PIPE if name in {"simulator", "subscriber", "floor"} else file,
                stderr=file,
                env={**os.environ, **environment},
            )

    def cpu_s(self) -> float:
        """User and system time of the process so far (proc(5), /proc/PID/stat, fields 14 and 15)."""
        fields = Path(f"/proc/{self.child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss_mb(self) -> float:
        """Resident memory in megabytes."""
        return int(Path(f"/proc/{self.child.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def stop(self) -> bytes:
        """SIGTERM; what it printed, if that was kept."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
        return self.child.communicate(timeout=60)[0] or b""


class Rig:
    """A site in a folder of its own with every process of one scenario."""

    def __init__(self, scenario: Scenario, *, tag_topics: bool, folder: Path) -> None:
        self.scenario = scenario
        self.ports = site_ports()
        self.site = Site(folder / "site")
        self.stamps = folder / "stamps"
        self.collections = folder / "collections"
        self.folder = folder
        self.processes: dict[str, Process] = {}
        self.tag_topics = tag_topics
        make_site(self.site, name="bench", example=None, ports=self.ports)
        write_broker_files(self.site, name="bench", broker=read_broker(self.site)[1])
        for number in range(1, scenario.devices + 1):
            device = yaml.safe_dump(scenario.device(number, self.ports), sort_keys=False)
            (self.site.devices / f"{name_of(number)}.yaml").write_text(device)

    def start(self, name: str, command: list[str], environment: Mapping[str, str] | None = None) -> Process:
        """Starts one process."""
        process = Process(name, command, environment or {}, self.folder / f"{name}.log")
        self.processes[name] = process
        return process

    def start_all(self) -> None:
        """Everything in the order of the values' way, backwards."""
        self.start_broker()
        self.start_simulator()
        if self.scenario.recorder:
            self.start("recorder", [sys.executable, "-m", "services.recorder", *self.settings])
            wait_for_port(self.ports.recorder)
        self.start(
            "subscriber",
            [
                sys.executable,
                "-m",
                "bench.subscriber",
                "--port",
                str(self.ports.broker),
                "--stamps",
                str(self.stamps),
                "--filter",
                "dinrail/v1/bench/frame/+/all",
                "--stamped",
                name_of(1),
                "--password-file",
                str(self.site.password("viewer")),
            ],
        )
        self.start_gateway()
        wait_for_port(self.ports.gateway)
        if self.scenario.floor:
            ports = ("--port", str(self.ports.broker), "--modbus", str(self.ports.modbus))
            passwords = ("--passwords", str(self.site.password("viewer").parent))
            self.start("floor", [sys.executable, "-m", "bench.floor", *ports, *passwords])

    @property
    def settings(self) -> list[str]:
        """What names the site to a service."""
        return ["--config", str(self.site.settings_file)]

    def start_broker(self) -> None:
        """Returns when it listens."""
        mosquitto = find_mosquitto()
        command = [str(mosquitto.program), "-c", str(self.site.broker / "mosquitto.conf")]
        self.start("broker", command, mosquitto.environment)
        wait_for_port(self.ports.broker)
        publish_policy(self.ports.broker, site="bench", password=self.site.password(IDENTITY).read_text().strip())

    def start_simulator(self) -> None:
        """Returns when it listens."""
        simulator = self.start("simulator", self.scenario.simulator(self.ports, self.stamps))
        assert simulator.child.stdout is not None
        simulator.child.stdout.readline()

    def start_gateway(self) -> None:
        """Returns at once."""
        topics = {"DINRAIL_GATEWAY__TAG_TOPICS": str(self.tag_topics).lower(), VARIABLE: str(self.collections)}
        self.start("gateway", [sys.executable, "-m", "bench.watched_gateway", *self.settings], topics)

    def intake_grew(self) -> bool:
        """Whether the recorder has taken messages within the last half second."""
        before = self.metric("recorder", "dinrail_intake_messages_total")
        time.sleep(0.5)
        return self.metric("recorder", "dinrail_intake_messages_total") > before

    def counts(self) -> dict[str, float]:
        """What has been produced and taken so far."""
        return {
            "values": self.metric("gateway", "dinrail_values_total"),
            "polls": self.metric("gateway", "dinrail_polls_total"),
            "overruns": self.metric("gateway", "dinrail_overruns_total"),
            "taken": self.metric("recorder", "dinrail_intake_messages_total") if self.scenario.recorder else 0.0,
        }

    def metric(self, service: str, name: str) -> float:
        """The sum of a metric's series at a service."""
        port = self.ports.gateway if service == "gateway" else self.ports.recorder
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((name + "{", name + " ")))


def measure(scenario: Scenario, *, tag_topics: bool, seconds: float) -> dict[str, object]:
    """One run: warm-up, measurement, clean stop, and the count that must come out exactly."""
    with (
        tempfile.TemporaryDirectory(prefix="dinrail-bench-") as folder,
        running(scenario, tag_topics, Path(folder)) as rig,
    ):
        wait_until(lambda: rig.metric("gateway", "dinrail_values_total") > 0, "values are read")
        time.sleep(3)
        for name in ("subscriber", "floor"):
            if name in rig.processes:
                rig.processes[name].child.send_signal(signal.SIGUSR1)
        cpu = {name: process.cpu_s() for name, process in rig.processes.items()}
        before = rig.counts()
        ticks = machine_ticks()
        began = time.monotonic()
        time.sleep(seconds)
        elapsed = time.monotonic() - began
        stolen = stolen_share(ticks)
        cpu = {name: process.cpu_s() - cpu[name] for name, process in rig.processes.items()}
        memory = {name: round(process.rss_mb()) for name, process in rig.processes.items()}
        counts = {name: after - before[name] for name, after in rig.counts().items()}
        seen = json.loads(rig.processes["subscriber"].stop())
        return {
            "scenario": scenario.name,
            "tag_topics": tag_topics,
            "values_per_poll": scenario.values,
            "produced_per_s": round(counts["values"] / elapsed),
            "stored_per_s": round(counts["taken"] * scenario.values / elapsed),
            "on_time": round(1 - counts["overruns"] / max(1, counts["polls"] + counts["overruns"]), 5),
            "subscriber": seen,
            **(json.loads(rig.processes["floor"].stop()) if scenario.floor else {}),
            "cpu_share": {name: round(used / elapsed, 2) for name, used in cpu.items()},
            "cpu_s_per_100k_values": {name: round(used / counts["values"] * 1e5, 3) for name, used in cpu.items()},
            "rss_mb": memory,
            "stolen": stolen,
            **collections(rig.collections, since_s=began),
            **(accounts(rig) if scenario.recorder else {"lost": seen["missing"]}),
        }


def accounts(rig: Rig, *, since_us: int = 0) -> dict[str, object]:
    """Stops gateway and recorder in turn and counts what the history holds of the tag that counts the polls.

    since_us: source time of the first poll that counts.
    lost: polls missing between the first and the last in the history, so that 0 proves that none was.
    """
    rig.processes["gateway"].stop()
    wait_until(
        lambda: rig.metric("recorder", "dinrail_spool_rows") == 0 or not rig.intake_grew(), "the recorder is done"
    )
    rig.processes["recorder"].stop()
    history = History(rig.site.data / "recorder" / "recorder.db")
    polls = missing = 0
    for number in range(1, rig.scenario.devices + 1):
        points = history.read(name_of(number), "v0", since_us, 1 << 62)
        counters = [int(value) for _, value, _ in points if isinstance(value, float)]
        polls += len(counters)
        missing += sum(after - before - 1 for before, after in pairwise(counters))
    return {"polls_in_history": polls, "lost": missing}


@contextmanager
def running(scenario: Scenario, tag_topics: bool, folder: Path) -> Iterator[Rig]:
    """A rig that is stopped at the end, whatever happens; then, if it was no good end, its logs are shown."""
    rig = Rig(scenario, tag_topics=tag_topics, folder=folder)
    with ExitStack() as failed:
        failed.callback(show_logs, folder)
        try:
            rig.start_all()
            yield rig
        finally:
            for name in ("floor", "subscriber", "gateway", "recorder", "simulator", "broker"):
                if name in rig.processes and rig.processes[name].child.poll() is None:
                    rig.processes[name].stop()
        failed.pop_all()


def show_logs(folder: Path) -> None:
    """The end of each process's log, on the error output."""
    for log in folder.glob("*.log"):
        print(f"--- {log.name}\n{log.read_text(errors='replace')[-2000:]}", file=sys.stderr)


def machine_ticks() -> tuple[int, int]:
    """The machine's processor time that its host has given to others, and all of it (proc(5), /proc/stat: `cpu`)."""
    fields = [int(one) for one in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return fields[7], sum(fields)


def stolen_share(since: tuple[int, int]) -> float:
    """The share of the machine's time that was stolen since these ticks, 0 to 1; from 0.02 on, measure again."""
    stolen, every = machine_ticks()
    return round((stolen - since[0]) / max(1, every - since[1]), 4)


def wait_for_port(port: int) -> None:
    """Waits until something listens there."""

    def listens() -> bool:
        """Whether the port takes a connection now."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_until(listens, f"port {port} listens")


def wait_until(condition: Callable[[], object], what: str, within_s: float = 60) -> None:
    """Looks ten times a second."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within_s} s: {what}")
        time.sleep(0.1)


def machine() -> dict[str, object]:
    """Where and what was measured."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": commit.stdout.strip(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }


def row(result: dict[str, object]) -> str:
    """One result as a line of the table in RESULTS.md."""
    seen, cpu, share = result["subscriber"], result["cpu_s_per_100k_values"], result["cpu_share"]
    assert isinstance(seen, dict)
    assert isinstance(cpu, dict)
    assert isinstance(share, dict)
    busiest = max(share, key=share.__getitem__)
    cells = [
        result["scenario"],
        "on" if result["tag_topics"] else "off",
        f"{result['produced_per_s']:,}",
        f"{result['stored_per_s']:,}",
        f"{result['on_time']:.2%}",
        result["lost"],
        seen["latency_p50_ms"],
        seen["latency_p99_ms"],
        result.get("floor_p50_ms", "–"),
        result.get("floor_p99_ms", "–"),
        *(cpu.get(name, "–") for name in ("gateway", "broker", "recorder", "simulator")),
        f"{busiest} {share[busiest]:.0%}",
        f"{result['stolen']:.1%}",
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


COLUMNS = (
    "scenario",
    "tag topics",
    "values/s into MQTT",
    "values/s into history",
    "polls on time",
    "polls lost",
    "p50 ms",
    "p99 ms",
    "floor p50",
    "floor p99",
    "gateway CPU-s/100k values",
    "broker",
    "recorder",
    "simulator",
    "busiest process",
    "stolen %",
)
HEAD = "| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", choices=sorted(SCENARIOS), action="append", help="default: all")
    parser.add_argument("--tag-topics", choices=("on", "off", "both"), default="both")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each measurement (at most 300)")
    given = parser.parse_args()
    OUT.parent.mkdir(exist_ok=True)
    print(HEAD, flush=True)
    for name in given.scenario or SCENARIOS:
        for topics in (True, False):
            if given.tag_topics == "both" or (given.tag_topics == "on") == topics:
                result = measure(SCENARIOS[name], tag_topics=topics, seconds=min(given.seconds, 300.0))
                with OUT.open("a") as file:
                    file.write(json.dumps({**machine(), **result}) + "\n")
                print(row(result), flush=True)


if __name__ == "__main__":
    main()
