"""A small site as real processes that a test kills, and the account of every message that the gateway made."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import CollectorRegistry

from contracts.v1.frame_codec import decode_frame
from services.recorder.embedded.history import History
from services.recorder.summary import Point
from services.runtime.clock import SystemClock
from services.runtime.journal import Journal
from services.runtime.metrics import Metrics
from services.runtime.ranges import Ranges
from tests.ports import free_port
from tests.real_broker import SITE, Broker

DEVICE, GROUP, TAGS = "plc", "fast", 20
READY_S = 40.0
EVER = 2**53
_EMBEDDED = {"kind": "embedded", "flush": "200ms"}

Numbers = dict[tuple[str, str, str, int], set[int]]
"""Sequence numbers by stream and epoch."""


class Process:
    """A service with its settings, HTTP port and log in `folder`; may be started again after its end.

    module: what Python runs, with its first arguments.
    """

    def __init__(self, service: str, folder: Path, broker: Broker, section: Mapping[str, Any]) -> None:
        self.service = service
        self.folder = folder
        self.port = free_port()
        self._settings = folder / f"{service}.yaml"
        self._broker = broker
        self._section = {"data": f"{service}-data", "http_port": self.port}
        folder.mkdir(parents=True, exist_ok=True)
        self.set(**section)
        self.module = [f"services.{service}"]
        self.process: subprocess.Popen[bytes] | None = None

    def set(self, **section: Any) -> None:
        """Its settings from the next start on; those that are not named stay."""
        self._section |= section
        broker = {"host": "127.0.0.1", "port": self._broker.port}
        self._settings.write_text(yaml.safe_dump({"site": SITE, "broker": broker, self.service: self._section}))

    @property
    def data(self) -> Path:
        """Its data folder."""
        return self.folder / f"{self.service}-data"

    @property
    def log(self) -> str:
        """What it has printed."""
        return (self.folder / f"{self.service}.log").read_text(errors="replace")

    def start(self) -> None:
        """Returns at once."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("DINRAIL_")}
        command = [sys.executable, "-m", *self.module, "--config", str(self._settings)]
        with (self.folder / f"{self.service}.log").open("ab") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, env=environ)

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; gives the exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        if self.process is None:
            return 0
        self.process.send_signal(how)
        code = self.process.wait(30)
        self.process = None
        return code

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of an HTTP answer; 0 and nothing without one."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=2) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels; -1 while the process does not answer."""
        status, text = self.get("metrics")
        if status != 200:
            return -1.0
        # Parsing all of it, as often as a test looks, would take the processor from those that are looked at.
        lines = [line for line in text.splitlines() if re.match(rf"dinrail_{name}[ {{]", line)]
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(float(line.rpartition(" ")[2]) for line in lines if all(one in line for one in wanted))


@dataclass
class FaultSite:
    """Broker, gateway with one device of TAGS tags, and recorder."""

    broker: Broker
    gateway: Process
    recorder: Process

    @property
    def frames(self) -> float:
        """Frames that the gateway's present process has made."""
        return self.gateway.metric("frames_total")

    def settled(self) -> bool:
        """All are connected, nothing is still to be sent, and nothing is missing."""
        return (
            self.gateway.metric("bus_connected") == self.recorder.metric("bus_connected") == 1
            and self.gateway.metric("backlog") == 0
            and self.recorder.metric("frames_missing") == 0
        )

    def has_all_of(self, epochs: int) -> bool:
        """The recorder has, or has booked, every frame of so many epochs to their ends."""
        with closing(sqlite3.connect(self.recorder.data / "recorder.db")) as database:
            rows = database.execute(
                "SELECT last, have, lost FROM mark JOIN stream ON stream.id = stream WHERE kind = 'frame'"
            ).fetchall()
        whole = 0
        for last, have, lost in rows:
            ranges = Ranges((first, end) for first, end, *_ in json.loads(have) + json.loads(lost))
            whole += last is not None and ranges.covers(1, last)
        return whole >= epochs


@contextmanager
def fault_site(
    broker: Broker,
    folder: Path,
    port: int,
    *,
    interval: str = "5ms",
    store: Mapping[str, Any] = _EMBEDDED,
    **gateway: Any,
) -> Iterator[FaultSite]:
    """The site with its processes started.

    port, interval: of the device. store: of the recorder. gateway: its settings, unlike the usual.
    """
    tags = {f"v{at}": {"address": f"holding:{2 * at}", "type": "float32"} for at in range(TAGS)}
    device = {
        "device": DEVICE,
        "driver": "modbus",
        "connection": {"host": "127.0.0.1", "port": port, "unit_id": 1},
        "groups": {GROUP: {"interval": interval, "tags": tags}},
    }
    (folder / "devices").mkdir(parents=True)
    (folder / "devices" / f"{DEVICE}.yaml").write_text(yaml.safe_dump(device))
    site = FaultSite(
        broker,
        Process("gateway", folder, broker, {"devices": "devices", "tag_topics": False, **gateway}),
        Process("recorder", folder, broker, {"store": store}),
    )
    try:
        site.recorder.start()
        site.gateway.start()
        yield site
    finally:
        site.gateway.kill()
        site.recorder.kill()


@dataclass
class Account:
    """Where every message is. made: what was numbered. held: by the journal. lost: by reason.

    counted: how many the journal says that it has lost, by reason.
    """

    made: Numbers
    stored: Numbers
    held: Numbers
    lost: dict[str, Numbers]
    counted: Mapping[str, int]
    frames: dict[tuple[int, int], Any]
    history: History

    def nowhere(self) -> Numbers:
        """What was made and is neither stored nor in the journal nor booked as lost."""
        found: Numbers = {}
        for key, numbers in self.made.items():
            left = numbers - self.stored.get(key, set()) - self.held.get(key, set())
            for lost in self.lost.values():
                left -= lost.get(key, set())
            if left:
                found[key] = left
        return found

    def frames_not_stored(self) -> Numbers:
        """Frames that were made and that the recorder has not.

        (The last events may be in the journal alone until the gateway's next start: they are few and far between.)
        """
        frames = {key: numbers for key, numbers in self.made.items() if key[0] == "frame"}
        left = {key: numbers - self.stored.get(key, set()) for key, numbers in frames.items()}
        return {key: numbers for key, numbers in left.items() if numbers}

    def count(self, reason: str) -> int:
        """How many messages are booked as lost for this reason and are not stored either."""
        lost = self.lost.get(reason, {})
        return sum(len(numbers - self.stored.get(key, set())) for key, numbers in lost.items())

    def expected(self, tag: str) -> list[tuple[int, Any]]:
        """Time and value of the tag in every frame that the journal holds and the recorder has."""
        stored = {(key[3], seq) for key, numbers in self.stored.items() if key[0] == "frame" for seq in numbers}
        samples = [one for at, frame in self.frames.items() if at in stored for one in frame.samples if tag in one.v]
        return sorted((one.t, one.v[tag]) for one in samples)

    def recorded(self, tag: str) -> list[Point]:
        """The tag's points in the history."""
        return self.history.read(DEVICE, tag, 0, EVER)


def account(site: FaultSite) -> Account:
    """The account of a site whose gateway has ended."""
    stored, lost = _marks(site.recorder.data / "recorder.db")
    made, held, gone, counted, frames = _journal(site.gateway.data, {key[3] for key in stored})
    for reason, numbers in gone.items():
        for key, some in numbers.items():
            lost.setdefault(reason, {}).setdefault(key, set()).update(some)
    for key, numbers in stored.items():  # what the recorder alone still knows of
        made.setdefault(key, set()).update(numbers)
    return Account(made, stored, held, lost, counted, frames, History(site.recorder.data / "recorder.db"))


def _journal(
    folder: Path, known: set[int]
) -> tuple[Numbers, Numbers, dict[str, Numbers], Mapping[str, int], dict[tuple[int, int], Any]]:
    made: Numbers = {}
    held: Numbers = {}
    gone: dict[str, Numbers] = {}
    frames: dict[tuple[int, int], Any] = {}
    journal = Journal.open(folder, cap_bytes=1 << 40, clock=SystemClock(), metrics=Metrics(CollectorRegistry()))
    for name in journal.streams:
        for epoch in known.union(journal.epochs(*name)):
            key = (*name, epoch)
            if not journal.given(*name, epoch):
                continue
            made[key] = set(range(1, journal.given(*name, epoch) + 1))
            held[key] = _set(journal.held(*name, epoch))
            for first, last, reason in journal.gone(*name, epoch, 1, EVER):
                if reason != "stored":
                    gone.setdefault(reason, {}).setdefault(key, set()).update(range(first, last + 1))
            if name[0] == "frame":
                for seq, payload in journal.read(*name, epoch, 1, EVER):
                    frames[epoch, seq] = decode_frame(payload, topic="journal")
    counted = journal.usage.lost
    journal.close()
    return made, held, gone, counted, frames


def _marks(path: Path) -> tuple[Numbers, dict[str, Numbers]]:
    stored: Numbers = {}
    lost: dict[str, Numbers] = {}
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute(
            "SELECT kind, owner, name, epoch, have, lost FROM mark JOIN stream ON stream.id = mark.stream"
        ).fetchall()
    for kind, owner, name, epoch, have, gone in rows:
        key = (kind, owner, name, epoch)
        stored[key] = _set(Ranges((first, last) for first, last in json.loads(have)))
        for first, last, reason in json.loads(gone):
            lost.setdefault(reason, {}).setdefault(key, set()).update(range(first, last + 1))
    return stored, lost


def _set(ranges: Ranges) -> set[int]:
    return {number for first, last in ranges for number in range(first, last + 1)}
