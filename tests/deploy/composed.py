"""The stack of docker-compose.yml, brought up for tests under a project name, ports and a site folder of its own."""

import json
import os
import shutil
import ssl
import subprocess
import time
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt

from contracts.v1.device import DEVICE
from contracts.v1.tag import TAG
from tests.polling import wait_until
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
STANDINS = Path(__file__).parent / "standins"
DEADLINE_S = 240
"""Of a command: on a loaded machine the interpreter alone takes half a minute to start in a container."""
HEALTHY_S = 180
OURS = ("gateway", "recorder", "orchestrator", "compute", "identity")
PYTHON_IMAGE = "python:3.11-slim-bookworm"
VICTORIA_IMAGES = ("victoriametrics/victoria-metrics:local", "victoriametrics/victoria-metrics:v1.106.1")
PROMETHEUS = "dinrail/stand-in-prometheus:local"
GRAFANA = "dinrail/stand-in-grafana:local"


def run(*words: str, cwd: Path | None = None, env: dict[str, str] | None = None, timeout_s: float = DEADLINE_S) -> str:
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, (
        f"{' '.join(words)} gave {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    )
    return done.stdout


def succeeds(*words: str, timeout_s: float = 60) -> bool:
    return subprocess.run(words, capture_output=True, timeout=timeout_s, check=False).returncode == 0


def missing(*images: str) -> str:
    """Why containers of these images cannot run here; empty if they can."""
    if shutil.which("docker") is None:
        return "no docker"
    if not succeeds("docker", "version", "-f", "{{.Server.Version}}"):
        return "no Docker engine answers"
    absent = [image for image in images if not succeeds("docker", "image", "inspect", image)]
    return f"image {absent[0]} is not here" if absent else ""


def missing_stack() -> str:
    """Why the composed stack cannot run here; empty if it can."""
    if reason := missing(PYTHON_IMAGE, "eclipse-mosquitto:2"):
        return reason
    if not succeeds("docker", "compose", "version"):
        return "no docker compose"
    return "" if victoria_image() else "no image of VictoriaMetrics is here"


def victoria_image() -> str | None:
    return next((image for image in VICTORIA_IMAGES if not missing(image)), None)


def built(image: str, dockerfile: str) -> bool:
    """Whether the stand-in is here now: its packages may be out of reach."""
    return not missing(image) or succeeds(
        "docker", "build", "-q", "-t", image, "-f", str(STANDINS / dockerfile), str(STANDINS), timeout_s=DEADLINE_S
    )


class Composed:
    """services: those that run here; Prometheus only where Debian's could be had."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = f"dinrail-test-{uuid.uuid4().hex[:8]}"
        self.mqtt_port = free_port()
        self.websocket_port = free_port()
        self.history_port = free_port()
        self.grafana_port = free_port()
        self.services = ["broker", *OURS, "plant", "victoria-metrics"]
        self.env = {
            **os.environ,
            "COMPOSE_PROFILES": "demo,victoria,monitoring",
            "COMPOSE_PROJECT_NAME": self.project,
            "DINRAIL_TAG": self.project,
            "DINRAIL_MQTT_TLS_PORT": str(self.mqtt_port),
            "DINRAIL_MQTT_WEBSOCKET_PORT": str(self.websocket_port),
            "DINRAIL_VICTORIA_PORT": str(self.history_port),
            "DINRAIL_VICTORIA_IMAGE": victoria_image() or "",
            "DINRAIL_GRAFANA_PORT": str(self.grafana_port),
            "DINRAIL_GRAFANA_IMAGE": GRAFANA,
            "DINRAIL_PROMETHEUS_IMAGE": PROMETHEUS,
        }

    def bring_up(self) -> None:
        """Copies what git has of this tree, builds, makes the site and starts; returns once all are healthy."""
        for name in run("git", "ls-files", cwd=ROOT).splitlines():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, self.folder / name)
        if built(GRAFANA, "grafana.Dockerfile"):
            self.services.append("grafana")
        if built(PROMETHEUS, "prometheus.Dockerfile"):
            self.services.append("prometheus")
        self.compose("build", "init", *OURS, "plant", timeout_s=600)
        self.compose("run", "--rm", "init")
        wait = ("--wait", "--wait-timeout", str(DEADLINE_S))
        self.compose("up", "-d", "--no-build", *wait, *self.services, timeout_s=2 * DEADLINE_S)
        # A place for the command line: a container anew takes longer than what it is to do.
        self.compose("run", "-d", "--name", self.desk, "--entrypoint", "sleep", "dinrail", "infinity")

    def tear_down(self) -> None:
        subprocess.run(("docker", "rm", "-f", self.desk), capture_output=True, timeout=DEADLINE_S, check=False)
        subprocess.run(
            ("docker", "compose", "--profile", "*", "down", "-v", "--remove-orphans", "-t", "10"),
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            timeout=DEADLINE_S,
            check=False,
        )
        images = [f"dinrail/{image}:{self.project}" for image in ("cli", "plant", *OURS)]
        subprocess.run(("docker", "rmi", *images), capture_output=True, timeout=DEADLINE_S, check=False)
        # What the containers wrote belongs to their users, which pytest's own clean-up may not remove.
        subprocess.run(
            ("docker", "run", "--rm", "-v", f"{self.folder}:/c", PYTHON_IMAGE, "rm", "-rf", "/c/site"),
            capture_output=True,
            timeout=DEADLINE_S,
            check=False,
        )

    @property
    def desk(self) -> str:
        return f"{self.project}-desk"

    def compose(self, *words: str, timeout_s: float = DEADLINE_S, **more: str) -> str:
        """more: variables for the file beside those of this stack."""
        return run("docker", "compose", *words, cwd=self.folder, env={**self.env, **more}, timeout_s=timeout_s)

    def dinrail(self, *words: str) -> str:
        return run("docker", "exec", self.desk, "dinrail", *words)

    def audit(self) -> dict[str, Any]:
        """What `dinrail recorder audit` finds now; it ends with 1 unless all is proved."""
        done = subprocess.run(
            ("docker", "exec", self.desk, "dinrail", "recorder", "audit", "--json"),
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        found: dict[str, Any] = json.loads(done.stdout) if done.stdout.startswith("{") else {"proved": False}
        return found | {"said": done.stderr[-500:]}

    def complete(self, *, beyond: int = 0) -> int:
        """Waits until nothing is missing or lost, and more was produced than that; how much."""
        found: dict[str, Any] = {}

        def proved() -> bool:
            nonlocal found
            found = self.audit()
            return bool(found["proved"]) and found["total"]["produced"] > beyond

        wait_until(proved, HEALTHY_S, what=lambda: f"the audit is right beyond {beyond}: {found}")
        total = found["total"]
        assert total["lost"] == {}
        assert (total["dead"], total["missing"], total["unsettled"]) == (0, 0, 0)
        assert total["produced"] == total["stored"] + total["journal"]
        return int(total["produced"])

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "-a", "-q", service).split()

    def container(self, service: str) -> str:
        (found,) = self.containers(service)
        return found

    def state(self, service: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(run("docker", "inspect", "-f", "{{json .State}}", self.container(service)))
        return found

    def kill(self, service: str) -> None:
        """As a crash does: `docker kill` would count as a stop by hand, after which nothing is restarted."""
        os.kill(self.state(service)["Pid"], 9)

    def wait_healthy(self, services: Iterable[str], *, since: dict[str, int] | None = None) -> None:
        """since: processes that must no longer be the ones that run."""
        left = set(services)

        def all_healthy() -> bool:
            for service in sorted(left):
                state = self.state(service)
                fresh = state["Pid"] not in {0, (since or {}).get(service)}
                if fresh and state["Status"] == "running" and state["Health"]["Status"] == "healthy":
                    left.discard(service)
            return not left

        wait_until(all_healthy, HEALTHY_S, what=lambda: f"healthy: {sorted(left)}")

    def trusting(self) -> ssl.SSLContext:
        """As a tool on another machine does that was given the authority's certificate."""
        return ssl.create_default_context(cafile=self.folder / "site/certs/broker/authority.pem")

    def password(self, user: str) -> str:
        return run("docker", "exec", self.desk, "cat", f"/site/secrets/{user}.password").strip()

    def retained(
        self, *, user: str, enough: Callable[[dict[str, bytes]], bool], deadline_s: float = HEALTHY_S
    ) -> dict[str, bytes]:
        """What a client that subscribes now gets of tags and device infos, until it is enough or time is over."""
        found: dict[str, bytes] = {}
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        client.username_pw_set(user, self.password(user))
        client.tls_set_context(self.trusting())
        client.on_message = lambda _client, _data, message: found.__setitem__(message.topic, message.payload)
        client.connect("127.0.0.1", self.mqtt_port)
        client.subscribe([(TAG.filter(site="plant"), 1), (DEVICE.filter(site="plant"), 1)])
        until = time.monotonic() + deadline_s
        while not enough(found) and time.monotonic() < until:
            client.loop(timeout=0.2)
        client.disconnect()
        return found

    def history(self, query: str) -> list[dict[str, Any]]:
        """Series that VictoriaMetrics exports for a selector."""
        url = f"http://127.0.0.1:{self.history_port}/api/v1/export?" + urllib.parse.urlencode({"match[]": query})
        with urllib.request.urlopen(url, timeout=60) as answer:
            return [json.loads(line) for line in answer.read().splitlines()]

    def reaches(self, network: str, targets: Iterable[tuple[str, int]]) -> set[tuple[str, int]]:
        """Which of these hosts and ports a container finds open that has this network alone."""
        script = (
            "import socket, sys\n"
            "from concurrent.futures import ThreadPoolExecutor\n"
            "def opens(word):\n"
            "    host, _, port = word.rpartition(':')\n"
            "    try:\n"
            "        socket.create_connection((host, int(port)), 2).close()\n"
            "    except OSError:\n"
            "        return False\n"
            "    return True\n"
            "with ThreadPoolExecutor(100) as pool:\n"
            "    print(*(word for word, open in zip(sys.argv[1:], pool.map(opens, sys.argv[1:])) if open))\n"
        )
        words = [f"{host}:{port}" for host, port in targets]
        name = f"{self.project}_{network}"
        said = run("docker", "run", "--rm", "--network", name, PYTHON_IMAGE, "python", "-c", script, *words)
        return {(word.rpartition(":")[0], int(word.rpartition(":")[2])) for word in said.split()}

    def listening(self) -> set[tuple[str, int]]:
        """Every address of every container, with every port on which something in it listens."""
        return {place for service in self.services for one in self.containers(service) for place in listening(one)}


def listening(container: str) -> set[tuple[str, int]]:
    found = json.loads(run("docker", "inspect", container))[0]
    addresses = {one["IPAddress"] for one in found["NetworkSettings"]["Networks"].values()}
    ports = {
        int(fields[1].rpartition(":")[2], 16)
        for table in ("tcp", "tcp6")
        for fields in (
            line.split() for line in Path(f"/proc/{found['State']['Pid']}/net/{table}").read_text().splitlines()
        )
        if fields[3] == "0A"  # LISTEN, in linux/tcp.h
    }
    return {(address, port) for address in addresses - {""} for port in ports}
