"""Each container of the stack killed and paused in its turn, networks cut, all restarted: nothing may be missing."""

import json
import time
from collections.abc import Iterator

import pytest
import yaml

from tests.deploy import stuck_driver
from tests.deploy.composed import OURS, PYTHON_IMAGE, ROOT, Composed, run
from tests.polling import wait_until

PAUSE_S = 12
"""Longer than the broker's patience with a service (1.5 keep-alives), so that its session is taken for lost."""
DEADLINE_S = 180
DEADLINE_BUILD_S = 400
OTHERS = ("broker", "plant", "victoria-metrics", "prometheus", "grafana")
STANDSTILL_S = 10

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(1200), pytest.mark.usefixtures("at_length")]


def running(stack: Composed, service: str) -> str:
    if service not in stack.services:
        pytest.skip(f"{service} does not run here")
    return service


@pytest.mark.parametrize("service", [*OURS, *OTHERS])
def test_a_killed_container_is_started_again_and_nothing_is_missing(stack: Composed, service: str) -> None:
    before = stack.complete()
    pid = stack.state(running(stack, service))["Pid"]

    stack.kill(service)

    stack.wait_healthy([service], since={service: pid})
    stack.wait_healthy(stack.services)
    stack.complete(beyond=before)


@pytest.mark.parametrize("service", [*OURS, *OTHERS])
def test_a_paused_container_goes_on_and_nothing_is_missing(stack: Composed, service: str) -> None:
    before = stack.complete()
    pid = stack.state(running(stack, service))["Pid"]

    stack.compose("pause", service)
    time.sleep(PAUSE_S)  # how long it lasts is what is tried
    stack.compose("unpause", service)

    stack.wait_healthy(stack.services)
    assert stack.state(service)["Pid"] == pid, "it was not to be started again"
    stack.complete(beyond=before)


@pytest.mark.parametrize(("service", "network", "alias"), [
    ("gateway", "bus", "gateway"),
    ("gateway", "plant", "gateway"),
    ("recorder", "bus", "recorder"),
    ("victoria-metrics", "history", "history"),
    ("broker", "bus", "broker.bus"),
])  # fmt: skip
def test_a_container_that_was_cut_off_a_network_goes_on_and_nothing_is_missing(
    stack: Composed, service: str, network: str, alias: str
) -> None:
    before = stack.complete()
    name, container = f"{stack.project}_{network}", stack.container(service)

    run("docker", "network", "disconnect", name, container)
    time.sleep(PAUSE_S)  # how long it lasts is what is tried
    run("docker", "network", "connect", "--alias", alias, "--alias", service, name, container)

    stack.wait_healthy(stack.services)
    stack.complete(beyond=before)


def test_all_containers_restarted_at_once_are_healthy_and_nothing_is_missing(stack: Composed) -> None:
    before = stack.complete()
    started = {service: stack.state(service)["StartedAt"] for service in stack.services}

    stack.compose("restart", "-t", "60")

    stack.wait_healthy(stack.services)
    assert [service for service in stack.services if stack.state(service)["StartedAt"] == started[service]] == []
    stack.complete(beyond=before)


@pytest.mark.parametrize("service", OURS)
def test_a_service_upgraded_in_place_leaves_the_others_running_and_nothing_is_missing(
    stack: Composed, service: str
) -> None:
    before = stack.complete()
    started = {one: stack.state(one)["StartedAt"] for one in stack.services}

    stack.compose("build", service, DINRAIL_REVISION=f"after-{before}")
    stack.compose("up", "-d", "--no-build", "--no-deps", "--wait", service)

    assert {one for one in stack.services if stack.state(one)["StartedAt"] != started[one]} == {service}
    stack.complete(beyond=before)


def test_the_commands_of_the_docs_upgrade_every_image_of_ours_and_nothing_is_missing(stack: Composed) -> None:
    before = stack.complete()
    _, _, page = (ROOT / "docs/upgrade.md").read_text().partition("\n## Containers\n")
    git, *commands = page.split("\n```\n")[1].splitlines()
    assert git.startswith("git ")

    monitored = {"grafana", "prometheus"} <= set(stack.services)
    profiles = "demo,victoria,monitoring" if monitored else "demo,victoria"
    env = {**stack.env, "COMPOSE_PROFILES": profiles, "DINRAIL_REVISION": f"after-{before}"}
    run("sh", "-ec", "\n".join(commands), cwd=stack.folder, env=env, timeout_s=DEADLINE_BUILD_S)

    label = '{{index .Config.Labels "org.opencontainers.image.revision"}}'
    images = [f"dinrail/{name}:{stack.project}" for name in ("cli", "plant", *OURS)]
    assert set(run("docker", "image", "inspect", "-f", label, *images).split()) == {f"after-{before}"}
    stack.wait_healthy(stack.services)
    assert {run("docker", "inspect", "-f", label, stack.container(one)).strip() for one in OURS} == {f"after-{before}"}
    stack.complete(beyond=before)


def test_the_history_has_the_values_that_were_taken_while_the_database_was_away(stack: Composed) -> None:
    """By time: the recorder's own count is what the audit looks at."""

    def times() -> list[int]:
        found = stack.history('{device="filler-plc",tag="tank-level"}')
        return sorted(at for one in found if one["metric"]["__name__"] == "tag_f" for at in one["timestamps"])

    wait_until(times, DEADLINE_S, what="values of tank-level")
    stack.compose("stop", "victoria-metrics")
    begun = time.time() * 1000
    time.sleep(PAUSE_S)  # how long it lasts is what is tried
    ended = time.time() * 1000
    stack.compose("start", "victoria-metrics")
    stack.wait_healthy(["victoria-metrics"])

    wait_until(lambda: max(times()) > ended, DEADLINE_S, what="values after the outage")
    stack.complete()
    inside = [at for at in times() if begun < at < ended]
    assert len(inside) >= PAUSE_S / 2, f"{len(inside)} values of {PAUSE_S} s"


@pytest.fixture
def stuck_device_file(stack: Composed) -> Iterator[str]:
    """A gateway that knows a driver which stands still; the path of the device file that would begin it."""
    stuck_driver.lay(stack.folder / "drivers/stuck")
    own = {
        "environment": {
            "DINRAIL_GATEWAY__PLUGINS": json.dumps(["/drivers"]),
            "DINRAIL_GATEWAY__STANDSTILL_AFTER": f"{STANDSTILL_S}s",
        },
        "volumes": ["./drivers:/drivers:ro"],
    }
    override = stack.folder / "docker-compose.override.yml"
    override.write_text(yaml.safe_dump({"services": {"gateway": own}}))
    renew = ("up", "-d", "--no-build", "--no-deps", "--wait", "gateway")
    stack.compose(*renew)
    try:
        yield "/site/devices/stuck.yaml"
    finally:
        override.unlink()
        mount = ("-v", f"{stack.folder}/site/devices:/devices")
        run("docker", "run", "--rm", *mount, PYTHON_IMAGE, "rm", "-f", "/devices/stuck.yaml", "/devices/was-stuck")
        stack.compose(*renew)


def test_a_gateway_that_stands_still_ends_itself_is_started_again_and_nothing_is_missing(
    stack: Composed, stuck_device_file: str
) -> None:
    before = stack.complete()
    pid = stack.state("gateway")["Pid"]

    device = stuck_driver.device(once="/site/devices/was-stuck")
    write = "import sys; open(sys.argv[1], 'w').write(sys.argv[2])"
    run("docker", "exec", stack.container("gateway"), "python", "-c", write, stuck_device_file, device)

    stack.wait_healthy(["gateway"], since={"gateway": pid})
    stack.wait_healthy(stack.services)
    stack.complete(beyond=before)
    said = stack.compose("logs", "gateway")
    assert f"stood still for {STANDSTILL_S} s" in said
    assert "driver.py" in said
