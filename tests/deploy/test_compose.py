"""All services as containers: `dinrail init`, `docker compose up`, values in the history, pipelines that run."""

import json
import tomllib
import urllib.request

import paho.mqtt.client as mqtt
import pytest

from contracts.codec import decode
from contracts.v1.device import DEVICE, DeviceInfo, tag_hash
from contracts.v1.tag import TAG, TagValue
from tests.deploy.composed import OURS, PYTHON_IMAGE, ROOT, Composed, run
from tests.polling import wait_until

DEADLINE_S = 180
LIBRARIES = {"asyncua": "gateway", "influxdb_client": "recorder", "networkx": "orchestrator", "numpy": "compute"}
"""Of each service, one that no other needs."""

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
    def values() -> list[float]:
        found = stack.history('{device="filler-plc",tag="tank-level"}')
        return [value for one in found if one["metric"]["__name__"] == "tag_f" for value in one["values"]]

    wait_until(values, DEADLINE_S, what="a series of filler-plc tank-level in VictoriaMetrics")

    assert all(0 <= value <= 100 for value in values())


def test_a_pipeline_of_the_plant_runs_in_containers_with_the_compute_service(stack: Composed) -> None:
    """By the command line in its own container: of the first looks there is no effectiveness yet."""
    found: list[float] = []

    def effectiveness() -> bool:
        oee = json.loads(stack.dinrail("run", "line-oee", "seconds=1", "--json"))["outputs"]["oee"]
        found.extend([] if oee is None else [oee])
        return bool(found)

    wait_until(effectiveness, DEADLINE_S, what="an effectiveness of the line")

    assert 0 <= found[0] <= 1000


def test_check_knows_the_drivers_of_the_site_in_the_command_lines_container(stack: Composed) -> None:
    assert "no faults" in run("docker", "exec", stack.desk, "dinrail", "check", "/site")


def test_the_alarms_of_the_plant_are_shown_by_the_command_line_of_the_stack(stack: Composed) -> None:
    """The pasteuriser heats up for its first two minutes, and its alarm stays until somebody acknowledges it."""
    wait_until(
        lambda: "product-too-cold" in {one["alarm"] for one in json.loads(stack.dinrail("alarm", "list", "--json"))},
        DEADLINE_S,
        what="the alarm of the pasteuriser",
    )


@pytest.mark.parametrize("service", OURS)
def test_an_image_holds_the_libraries_of_its_service_and_no_other(stack: Composed, service: str) -> None:
    seek = "import sys; from importlib.util import find_spec; print(*(n for n in sys.argv[1:] if find_spec(n)))"
    found = run("docker", "exec", stack.container(service), "python", "-c", seek, *LIBRARIES)

    assert found.split() == [name for name, owner in LIBRARIES.items() if owner == service]


@pytest.mark.parametrize("service", [*OURS, "cli"])
def test_an_image_lists_each_distribution_with_its_licence_at_the_version_of_the_constraints(
    stack: Composed, service: str
) -> None:
    container = stack.desk if service == "cli" else stack.container(service)
    seek = "from importlib.metadata import distributions as d; print(*(f'{x.name}=={x.version}' for x in d()))"
    installed = set(run("docker", "exec", container, "python", "-c", seek).split())
    bill = json.loads(run("docker", "exec", container, "cat", "/usr/share/sbom/dinrail.cdx.json"))
    listed = {f"{one['name']}=={one['version']}": one.get("licenses") for one in bill["components"]}

    assert bill["bomFormat"] == "CycloneDX"
    assert listed.keys() == installed
    assert [name for name, licences in listed.items() if not licences] == []
    pinned = {line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")}
    assert {one.partition("==")[0] for one in installed - pinned} == {"dinrail", "pip", "setuptools"}


def test_an_image_says_what_it_is_made_of(stack: Composed) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for service in OURS:
        image = f"dinrail/{service}:{stack.project}"
        labels = json.loads(run("docker", "inspect", "-f", "{{json .Config.Labels}}", image))
        told = {name.rpartition(".")[2]: value for name, value in labels.items() if "opencontainers" in name}

        assert told.keys() == {"title", "version", "revision", "source", "licenses"}
        assert (told["title"], told["version"]) == (f"dinrail {service}", version)
        assert told["licenses"] == "Apache-2.0"
        assert json.loads(run("docker", "inspect", "-f", "{{json .Config.Healthcheck}}", image))


def test_the_broker_refuses_a_client_without_a_password(stack: Composed) -> None:
    codes: list[str] = []
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.tls_set_context(stack.trusting())
    client.on_connect = lambda _client, _data, _flags, reason, _properties: codes.append(str(reason))
    client.connect("127.0.0.1", stack.mqtt_port)

    def refused() -> bool:
        client.loop(timeout=0.2)
        return bool(codes)

    wait_until(refused, DEADLINE_S, what="the broker's answer")

    assert codes == ["Not authorized"]


def test_plain_mqtt_is_not_published_and_tls_is_what_doctor_finds_good(stack: Composed) -> None:
    published = stack.compose("ps", "--format", "json", "broker")
    ports = {one["TargetPort"] for one in json.loads(published.splitlines()[0])["Publishers"] if one["PublishedPort"]}

    lines = stack.compose("run", "--rm", "-T", "dinrail", "doctor").splitlines()

    assert ports == {8883, 8884}
    assert [line for line in lines if line.startswith("FAIL")] == []
    assert sum("broker:8883" in line or "broker:8884" in line for line in lines if line.startswith("OK")) == 2


def test_from_the_office_only_the_brokers_tls_and_grafana_are_reached_and_from_the_plant_nothing(
    stack: Composed,
) -> None:
    """Of every port on which something listens in any container, at every address of it."""

    def of(service: str, network: str, *ports: int) -> set[tuple[str, int]]:
        found = json.loads(run("docker", "inspect", stack.container(service)))[0]["NetworkSettings"]["Networks"]
        return {(found[f"{stack.project}_{network}"]["IPAddress"], port) for port in ports}

    listening = stack.listening()
    office = of("broker", "office", 8883, 8884)
    if "grafana" in stack.services:
        office |= of("grafana", "office", 3000)
    machines = of("plant", "plant", 15020, 48400)
    assert listening > office | machines
    assert listening > of("broker", "bus", 1883, 8883) | of("gateway", "monitoring", 8080)

    assert stack.reaches("office", listening) == office
    assert stack.reaches("plant", listening) == machines


def test_grafana_finds_its_files_its_secrets_the_history_and_prometheus(stack: Composed) -> None:
    if "grafana" not in stack.services:
        pytest.skip("no stand-in for Grafana could be built")
    with urllib.request.urlopen(f"http://127.0.0.1:{stack.grafana_port}/found", timeout=30) as answer:
        found = json.loads(answer.read())

    assert found["admin_password"] == found["token"] == 43
    shipped = stack.folder / "monitoring/grafana"
    assert len(found["provisioning"]) == len([*shipped.glob("provisioning/**/*.y*ml")]) > 0
    assert len(found["dashboards"]) == len([*shipped.glob("dashboards/**/*.json")]) > 0
    assert found["history"]
    assert found["prometheus"] == ("prometheus" in stack.services)


def test_prometheus_scrapes_every_service(stack: Composed) -> None:
    if "prometheus" not in stack.services:
        pytest.skip("Debian's Prometheus could not be had")

    def up() -> dict[str, str]:
        url = "http://127.0.0.1:9090/api/v1/query?query=up"
        answer = json.loads(run("docker", "exec", stack.container("prometheus"), "wget", "-q", "-O", "-", url))
        return {one["metric"]["job"]: one["value"][1] for one in answer["data"]["result"]}

    wait_until(lambda: set(OURS) <= up().keys() and set(up().values()) == {"1"}, DEADLINE_S, what=lambda: f"{up()}")


def test_a_user_who_is_added_is_let_in_without_a_restart(stack: Composed) -> None:
    stack.dinrail("users", "add", "anna", "viewer", "--generate")

    wait_until(lambda: stack.retained(user="anna", enough=bool, deadline_s=5), DEADLINE_S, what="anna sees something")


def test_running_containers_take_up_rotated_secrets_without_a_start(stack: Composed) -> None:
    def connections(service: str) -> int:
        return stack.compose("logs", service).count("broker_connected")

    before = {service: (stack.state(service)["StartedAt"], connections(service)) for service in OURS}

    stack.compose("run", "--rm", "init", DINRAIL_INIT_OPTIONS="--rotate")

    left = set(OURS)

    def all_connected_again() -> bool:
        left.difference_update([service for service in left if connections(service) > before[service][1]])
        return not left

    wait_until(all_connected_again, DEADLINE_S, what=lambda: f"connected again: {left}")
    assert {service: stack.state(service)["StartedAt"] for service in OURS} == {
        service: one[0] for service, one in before.items()
    }
    lines = stack.dinrail("doctor").splitlines()
    assert [line for line in lines if line.startswith("FAIL")] == []


def test_init_again_changes_nothing(stack: Composed) -> None:
    sums = "cd /s; sha256sum secrets/* users/* broker/acl broker/passwords broker/server.pem certs/broker/* devices/*"
    listing = ("docker", "run", "--rm", "-v", f"{stack.folder}/site:/s:ro", PYTHON_IMAGE, "sh", "-c", sums)
    before = run(*listing)

    stack.compose("run", "--rm", "init")

    assert run(*listing) == before


def test_two_compute_services_share_the_name_but_not_the_instance_and_both_are_healthy(stack: Composed) -> None:
    stack.compose("up", "-d", "--no-build", "--no-deps", "--no-recreate", "--wait", "--scale", "compute=2", "compute")

    found = stack.containers("compute")
    wait = "import os, urllib.request as u; print(u.urlopen(os.environ['HEALTH_URL'], timeout=60).status)"
    assert [run("docker", "exec", one, "python", "-c", wait).strip() for one in found] == ["200", "200"]
    told = {json.loads(run("docker", "logs", one).splitlines()[0])["instance"] for one in found}
    assert told == {"compute", "compute-2"}

    stack.compose("up", "-d", "--no-build", "--no-deps", "--no-recreate", "--scale", "compute=1", "compute")
    assert len(stack.containers("compute")) == 1


def test_all_services_killed_at_once_come_back_and_nothing_is_missing(stack: Composed) -> None:
    before = stack.complete()
    pids = {service: stack.state(service)["Pid"] for service in ("broker", *OURS)}

    for service in pids:
        stack.kill(service)

    stack.wait_healthy(pids, since=pids)
    stack.complete(beyond=before)


def test_a_gateway_upgraded_in_place_leaves_the_others_running_and_nothing_is_missing(stack: Composed) -> None:
    before = stack.complete()
    started = {service: stack.state(service)["StartedAt"] for service in stack.services}

    stack.compose("build", "gateway", DINRAIL_REVISION="the-next")
    stack.compose("up", "-d", "--no-build", "--no-deps", "--wait", "gateway")

    label = '{{index .Config.Labels "org.opencontainers.image.revision"}}'
    assert run("docker", "inspect", "-f", label, stack.container("gateway")).strip() == "the-next"
    changed = {service for service in stack.services if stack.state(service)["StartedAt"] != started[service]}
    assert changed == {"gateway"}
    stack.complete(beyond=before)


def test_stopped_services_end_by_themselves_with_code_0_and_nothing_is_missing(stack: Composed) -> None:
    before = stack.complete()

    stack.compose("stop", *OURS)

    states = {service: stack.state(service) for service in OURS}
    stack.compose("start", *OURS)
    assert {(one["Status"], one["ExitCode"], one["OOMKilled"]) for one in states.values()} == {("exited", 0, False)}
    stack.wait_healthy(OURS)
    stack.complete(beyond=before)


def test_the_engine_holds_every_container_in_its_limits_without_rights(stack: Composed) -> None:
    for service in stack.services:
        found = json.loads(run("docker", "inspect", stack.container(service)))[0]
        host = found["HostConfig"]

        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        assert not host["CapAdd"], service
        assert not host["Privileged"], service
        assert host["SecurityOpt"] == ["no-new-privileges:true"], service
        assert host["Memory"] == (1 << 30 if service == "compute" else 512 << 20), service
        assert host["NanoCpus"] == (2 if service == "compute" else 1) * 10**9, service
        assert host["PidsLimit"] == 200, service
        assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}, service
        assert host["RestartPolicy"]["Name"] == "unless-stopped", service
        assert found["State"]["Health"]["Status"] in {"healthy", "starting"}, service  # a test before has stopped it
        runs_as_root = found["Config"]["User"].split(":")[0] in {"", "0"}
        assert runs_as_root == (service == "victoria-metrics"), service
