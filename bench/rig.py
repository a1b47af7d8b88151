"""A site with every process of the spine: simulator -> gateway -> broker -> recorder -> embedded history."""

import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import yaml

from bench.process import Process, show_logs, wait_for_port, wait_until
from bench.watched_gateway import VARIABLE
from services.cli.broker import find_mosquitto
from services.cli.settings import read_broker
from services.cli.site import Ports, Site, make_site, write_broker_files
from services.recorder.embedded.history import History
from tests.policies import IDENTITY, publish_policy
from tests.ports import site_ports


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
