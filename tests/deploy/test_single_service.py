"""One image of ours alone beside a broker, as in a stack of somebody else's."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from services.runtime.standstill import EXIT_CODE
from tests.deploy import stuck_driver
from tests.deploy.composed import ROOT, missing, run
from tests.polling import wait_until

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.network import Network

DEADLINE_S = 90
BROKER = "eclipse-mosquitto:2"
IMAGE = "dinrail/gateway:alone"
STANDSTILL_S = 5

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def environment() -> Iterator[None]:
    """Containers without the reaper's image, reached over the loopback."""
    if reason := missing(BROKER, "python:3.11-slim-bookworm"):
        pytest.skip(f"no service was run in a container: {reason}")
    run("docker", "build", "-q", "--build-arg", "SERVICE=gateway", "--target", "service", "-t", IMAGE, str(ROOT),
        timeout_s=280)  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TESTCONTAINERS_RYUK_DISABLED", "true")
        patch.setenv("TESTCONTAINERS_CONNECTION_MODE", os.environ.get("TESTCONTAINERS_CONNECTION_MODE", "docker_host"))
        patch.setenv("TESTCONTAINERS_HOST_OVERRIDE", os.environ.get("TESTCONTAINERS_HOST_OVERRIDE", "127.0.0.1"))
        yield


@pytest.fixture(scope="module")
def network(environment: None) -> Iterator["Network"]:
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.network import Network

    with Network() as network:
        broker = DockerContainer(BROKER).with_command("mosquitto -c /mosquitto-no-auth.conf")
        with broker.with_network(network).with_network_aliases("broker"):
            yield network


@contextmanager
def gateway(network: "Network", site: Path, **settings: str) -> Iterator["DockerContainer"]:
    """The image, read-only and without rights, with settings from the environment alone."""
    from testcontainers.core.container import DockerContainer

    site.chmod(0o755)
    container = (
        DockerContainer(IMAGE)
        .with_network(network)
        .with_command("python -m services.gateway")
        .with_volume_mapping(str(site), "/site", "ro")
        .with_tmpfs_mount("/tmp")
        .with_kwargs(read_only=True, cap_drop=["ALL"])
    )
    for name, value in {
        "DINRAIL_BROKER__HOST": "broker",
        "DINRAIL_LOGS__FORMAT": "json",
        "DINRAIL_GATEWAY__DATA": "/tmp/data",
        "DINRAIL_GATEWAY__HTTP_PORT": "8080",
        **settings,
    }.items():
        container.with_env(name, value)
    with container:
        yield container


def site_of(folder: Path, devices: dict[str, str], **gateway: object) -> Path:
    (folder / "devices").mkdir(parents=True)
    for name, text in devices.items():
        (folder / "devices" / name).write_text(text)
    own = {"instance": "gateway", "devices": "devices", **gateway}
    (folder / "dinrail.yaml").write_text(yaml.safe_dump({"site": "plant", "gateway": own}))
    return folder


def state(container: "DockerContainer") -> dict:
    return json.loads(run("docker", "inspect", "-f", "{{json .State}}", container.get_wrapped_container().id))


def test_a_gateways_image_becomes_healthy_by_its_own_check_and_publishes_values(
    network: "Network", tmp_path: Path
) -> None:
    servo = (ROOT / "examples/plant/devices/servo.yaml").read_text()

    with gateway(network, site_of(tmp_path / "site", {"servo.yaml": servo})) as container:
        healthy = ("healthy", "exited")
        wait_until(
            lambda: state(container)["Health"]["Status"] in healthy or state(container)["Status"] in healthy,
            DEADLINE_S,
            what=lambda: str(container.get_logs())[-3000:],
        )
        assert state(container)["Status"] == "running", container.get_logs()
        listen = ("docker", "run", "--rm", "--network", network.name, BROKER, "mosquitto_sub", "-h", "broker")
        told = json.loads(run(*listen, "-t", "dinrail/v1/plant/tag/servo/position", "-C", "1", "-W", "30"))

    assert told["q"] == 192


def test_a_gateway_whose_loop_a_driver_blocks_ends_itself_and_says_where(network: "Network", tmp_path: Path) -> None:
    site = site_of(tmp_path / "site", {"stuck.yaml": stuck_driver.device()}, plugins=["drivers"])
    stuck_driver.lay(site / "drivers/stuck")

    with gateway(network, site, DINRAIL_GATEWAY__STANDSTILL_AFTER=f"{STANDSTILL_S}s") as container:
        wait_until(lambda: state(container)["Status"] == "exited", DEADLINE_S, what=lambda: str(container.get_logs()))
        code, (_, said) = state(container)["ExitCode"], container.get_logs()

    assert code == EXIT_CODE
    assert f"stood still for {STANDSTILL_S} s" in said.decode()
    assert "driver.py" in said.decode()
