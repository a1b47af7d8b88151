"""All services as containers: `dinrail init`, `docker compose up`, values in the history, pipelines that run."""

import json
import os
import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest

from contracts.codec import decode
from contracts.v1.device import DEVICE, DeviceInfo, tag_hash
from contracts.v1.tag import TAG, TagValue
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
DEADLINE_S = 240
OURS = ("gateway", "recorder", "orchestrator", "compute", "identity")
LIBRARIES = {"asyncua": "gateway", "influxdb_client": "recorder", "networkx": "orchestrator", "numpy": "compute"}
"""Of each service, one that no other needs."""
VICTORIA_IMAGES = ("victoriametrics/victoria-metrics:local", "victoriametrics/victoria-metrics:v1.106.1")


def run(*words: str, cwd: Path | None = None, env: dict[str, str] | None = None, timeout_s: float = 60) -> str:
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, (
        f"{' '.join(words)} gave {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    )
    return done.stdout


def missing() -> str:
    """Why the composed stack cannot run here; empty if it can."""
    if shutil.which("docker") is None:
        return "no docker"
    for words, what in (
        (("docker", "version", "-f", "{{.Server.Version}}"), "no Docker engine answers"),
        (("docker", "compose", "version"), "no Compose v2"),
        (("docker", "image", "inspect", "python:3.11-slim-bookworm"), "image python:3.11-slim-bookworm is not here"),
        (("docker", "image", "inspect", "eclipse-mosquitto:2"), "image eclipse-mosquitto:2 is not here"),
    ):
        if subprocess.run(words, capture_output=True, timeout=30, check=False).returncode != 0:
            return what
    return "" if victoria_image() else "no image of VictoriaMetrics is here"


def victoria_image() -> str | None:
    for image in VICTORIA_IMAGES:
        if (
            subprocess.run(
                ("docker", "image", "inspect", image), capture_output=True, timeout=30, check=False
            ).returncode
            == 0
        ):
            return image
    return None


class Composed:
    """The stack of docker-compose.yml under a project name, ports and a site folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = f"dinrail-test-{uuid.uuid4().hex[:8]}"
        self.mqtt_port = free_port()
        self.websocket_port = free_port()
        self.history_port = free_port()
        self.env = {
            **os.environ,
            "COMPOSE_PROFILES": "demo,victoria",
            "COMPOSE_PROJECT_NAME": self.project,
            "DINRAIL_MQTT_TLS_PORT": str(self.mqtt_port),
            "DINRAIL_MQTT_WEBSOCKET_PORT": str(self.websocket_port),
            "DINRAIL_VICTORIA_PORT": str(self.history_port),
            "DINRAIL_VICTORIA_IMAGE": victoria_image() or "",
        }

    def compose(self, *words: str, timeout_s: float = DEADLINE_S) -> str:
        return run("docker", "compose", *words, cwd=self.folder, env=self.env, timeout_s=timeout_s)

    def trusting(self) -> ssl.SSLContext:
        """As a tool on another machine does that was given the authority's certificate."""
        return ssl.create_default_context(cafile=self.folder / "site/certs/broker/authority.pem")

    def retained(
        self, *, user: str, enough: Callable[[dict[str, bytes]], bool], deadline_s: float = 30
    ) -> dict[str, bytes]:
        """What a client that subscribes now gets of tags and device infos, until it is enough or time is over."""
        password = run(
            "docker",
            "run",
            "--rm",
            "-v",
            f"{self.folder}/site/secrets:/s:ro",
            "--entrypoint",
            "cat",
            "python:3.11-slim-bookworm",
            f"/s/{user}.password",
        ).strip()
        found: dict[str, bytes] = {}
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        client.username_pw_set(user, password)
        client.tls_set_context(self.trusting())
        client.on_message = lambda _client, _data, message: found.__setitem__(message.topic, message.payload)
        client.connect("127.0.0.1", self.mqtt_port)
        client.subscribe([(TAG.filter(site="plant"), 1), (DEVICE.filter(site="plant"), 1)])
        until = time.monotonic() + deadline_s
        while not enough(found) and time.monotonic() < until:
            client.loop(timeout=0.2)
        client.disconnect()
        return found

    def history(self, query: str) -> list[dict]:
        """Series that VictoriaMetrics exports for a selector."""
        url = f"http://127.0.0.1:{self.history_port}/api/v1/export?" + urllib.parse.urlencode({"match[]": query})
        with urllib.request.urlopen(url, timeout=10) as answer:
            return [json.loads(line) for line in answer.read().splitlines()]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    reason = missing()
    if reason:
        pytest.skip(f"the composed stack was not run: {reason}")
    folder = tmp_path_factory.mktemp("clone")
    files = run("git", "ls-files", cwd=ROOT).splitlines()
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    composed = Composed(folder)
    try:
        composed.compose("build", "init", *OURS, "plant", timeout_s=600)
        composed.compose("run", "--rm", "init")
        composed.compose("up", "-d", "--wait", "--wait-timeout", "180")
        yield composed
    finally:
        subprocess.run(
            ("docker", "compose", "--profile", "*", "down", "-v", "--remove-orphans", "-t", "10"),
            cwd=folder,
            env=composed.env,
            capture_output=True,
            timeout=120,
            check=False,
        )
        # What the containers wrote belongs to their users, which pytest's own clean-up may not remove.
        subprocess.run(
            ("docker", "run", "--rm", "-v", f"{folder}:/c", "python:3.11-slim-bookworm", "rm", "-rf", "/c/site"),
            capture_output=True,
            timeout=60,
            check=False,
        )


pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]


def infos_of(found: dict[str, bytes]) -> list[DeviceInfo]:
    return [decode(DeviceInfo, data, topic=topic) for topic, data in found.items() if DEVICE.parse(topic)]


def tags_of(found: dict[str, bytes], device: str) -> dict[str, TagValue]:
    levels = {topic: TAG.parse(topic) for topic in found}
    return {
        one["tag"]: decode(TagValue, found[topic], topic=topic)
        for topic, one in levels.items()
        if one is not None and one["device"] == device
    }


def test_a_late_subscriber_gets_every_tag_of_every_device_retained(stack: Composed) -> None:
    def whole(found: dict[str, bytes]) -> bool:
        infos = infos_of(found)
        return len(infos) == 4 and all(tag_hash(tags_of(found, info.device)) == info.tag_hash for info in infos)

    found = stack.retained(user="viewer", enough=whole)

    assert whole(found), {info.device: (info.tag_count, len(tags_of(found, info.device))) for info in infos_of(found)}


@pytest.mark.parametrize("device", ["filler-plc", "energy-meter", "pasteuriser", "servo"])
def test_values_of_every_device_are_good(stack: Composed, device: str) -> None:
    def good(found: dict[str, bytes]) -> bool:
        return any(tag.q == 192 for tag in tags_of(found, device).values())

    assert good(stack.retained(user="viewer", enough=good))


def test_values_arrive_in_the_database(stack: Composed) -> None:
    until = time.monotonic() + 60
    series: list[dict] = []
    while time.monotonic() < until and not series:
        series = [
            one
            for one in stack.history('{device="filler-plc",tag="tank-level"}')
            if one["metric"]["__name__"] == "tag_f"
        ]

    assert series, "no series of filler-plc tank-level in VictoriaMetrics within 60 s"
    assert all(0 <= value <= 100 for value in series[0]["values"])


def test_a_pipeline_of_the_plant_runs_in_containers_with_the_compute_service(stack: Composed) -> None:
    """By the command line in its own container: of the first looks there is no effectiveness yet."""
    until = time.monotonic() + 60
    oee: float | None = None
    while time.monotonic() < until and oee is None:
        answer = stack.compose("run", "--rm", "-T", "dinrail", "run", "line-oee", "seconds=1", "--json")
        oee = json.loads(answer)["outputs"]["oee"]

    assert oee is not None, "no effectiveness of the line within 60 s"
    assert 0 <= oee <= 1000


def test_the_alarms_of_the_plant_are_shown_by_the_command_line_of_the_stack(stack: Composed) -> None:
    """The pasteuriser heats up for its first two minutes, and its alarm stays until somebody acknowledges it."""
    until = time.monotonic() + 30
    alarms: list[dict] = []
    while time.monotonic() < until and not alarms:
        alarms = json.loads(stack.compose("run", "--rm", "-T", "dinrail", "alarm", "list", "--json"))

    assert "product-too-cold" in {alarm["alarm"] for alarm in alarms}


@pytest.mark.parametrize("service", OURS)
def test_an_image_holds_the_libraries_of_its_service_and_no_other(stack: Composed, service: str) -> None:
    seek = "import sys; from importlib.util import find_spec; print(*(n for n in sys.argv[1:] if find_spec(n)))"
    found = run("docker", "run", "--rm", f"dinrail/{service}:local", "python", "-c", seek, *LIBRARIES)

    assert found.split() == [name for name, owner in LIBRARIES.items() if owner == service]


def test_the_broker_refuses_a_client_without_a_password(stack: Composed) -> None:
    codes: list[str] = []
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.tls_set_context(stack.trusting())
    client.on_connect = lambda _client, _data, _flags, reason, _properties: codes.append(str(reason))
    client.connect("127.0.0.1", stack.mqtt_port)
    until = time.monotonic() + 10
    while not codes and time.monotonic() < until:
        client.loop(timeout=0.2)

    assert codes == ["Not authorized"]


def test_plain_mqtt_is_not_published_and_tls_is_what_doctor_finds_good(stack: Composed) -> None:
    published = stack.compose("ps", "--format", "json", "broker")
    ports = {one["TargetPort"] for one in json.loads(published.splitlines()[0])["Publishers"] if one["PublishedPort"]}

    lines = stack.compose("run", "--rm", "-T", "dinrail", "doctor").splitlines()

    assert ports == {8883, 8884}
    assert {line.split()[0] for line in lines} == {"OK"}, lines
    assert sum("broker:8883" in line or "broker:8884" in line for line in lines) == 2


def test_a_user_who_is_added_is_let_in_without_a_restart(stack: Composed) -> None:
    stack.compose("run", "--rm", "-T", "dinrail", "users", "add", "anna", "viewer", "--generate")

    until = time.monotonic() + 30
    seen: dict[str, bytes] = {}
    while time.monotonic() < until and not seen:
        seen = stack.retained(user="anna", enough=bool, deadline_s=5)

    assert seen, "anna saw nothing within 30 s"


def test_running_containers_take_up_rotated_secrets_without_a_start(stack: Composed) -> None:
    def state(service: str) -> tuple[str, int]:
        """When its container was started, and how often it has connected to the broker."""
        name = stack.compose("ps", "-q", service).strip()
        started = run("docker", "inspect", "-f", "{{.State.StartedAt}}", name).strip()
        return started, stack.compose("logs", service).count("broker_connected")

    before = {service: state(service) for service in OURS}

    rotating = {**stack.env, "DINRAIL_INIT_OPTIONS": "--rotate"}
    run("docker", "compose", "run", "--rm", "init", cwd=stack.folder, env=rotating, timeout_s=60)

    until = time.monotonic() + 60
    left = set(OURS)
    while left and time.monotonic() < until:
        left = {service for service in left if state(service)[1] == before[service][1]}
        time.sleep(0.2)
    assert not left, "these have not connected again"
    assert {service: state(service)[0] for service in OURS} == {service: one[0] for service, one in before.items()}
    lines = stack.compose("run", "--rm", "-T", "dinrail", "doctor").splitlines()
    assert [line for line in lines if line.startswith("FAIL")] == []


def test_init_again_changes_nothing(stack: Composed) -> None:
    listing = (
        "docker",
        "run",
        "--rm",
        "-v",
        f"{stack.folder}/site:/s:ro",
        "python:3.11-slim-bookworm",
        "sh",
        "-c",
        "cd /s; sha256sum secrets/* users/* broker/acl broker/passwords broker/server.pem certs/broker/* devices/*",
    )
    before = run(*listing)

    stack.compose("run", "--rm", "init")

    assert run(*listing) == before


@pytest.mark.parametrize("service", OURS)
def test_a_killed_service_is_restarted_and_healthy_again(stack: Composed, service: str) -> None:
    name = stack.compose("ps", "-q", service).strip()
    first = run("docker", "inspect", "-f", "{{.State.Pid}}", name).strip()

    os.kill(int(first), 9)

    until = time.monotonic() + 60
    state = ""
    while time.monotonic() < until:
        state = run("docker", "inspect", "-f", "{{.State.Health.Status}} {{.State.Pid}}", name).strip()
        if state.startswith("healthy") and state.split()[1] not in {first, "0"}:
            break
    assert state.startswith("healthy")
    assert state.split()[1] != first


@pytest.mark.parametrize("service", OURS)
def test_a_stopped_service_ends_by_itself_with_code_0(stack: Composed, service: str) -> None:
    name = stack.compose("ps", "-q", service).strip()

    stack.compose("stop", service)

    state = json.loads(run("docker", "inspect", "-f", "{{json .State}}", name))
    stack.compose("start", service)
    assert (state["Status"], state["ExitCode"], state["OOMKilled"]) == ("exited", 0, False)


@pytest.mark.parametrize("service", ["broker", *OURS, "plant", "victoria-metrics"])
def test_the_engine_holds_every_container_in_its_limits_without_rights(stack: Composed, service: str) -> None:
    found = json.loads(run("docker", "inspect", stack.compose("ps", "-q", service).strip()))[0]
    host = found["HostConfig"]

    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert not host["Privileged"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Memory"] == (1 << 30 if service == "compute" else 512 << 20)
    assert host["PidsLimit"] == 200
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert found["State"]["Health"]["Status"] in {"healthy", "starting"}  # starting: a test before has stopped it
    runs_as_root = found["Config"]["User"].split(":")[0] in {"", "0"}
    assert runs_as_root == (service == "victoria-metrics")
