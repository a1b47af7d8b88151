"""The recorder against a real InfluxDB 2 in a container; skipped, saying so, where its image is not to be had."""

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from contracts.v1.frame_codec import QualityStruct, SampleStruct
from services.recorder.influxdb.server import InfluxServer
from tests.histories import BUCKET, Influx
from tests.integration.test_recorder_stores import START, VALUES
from tests.polling import wait_until
from tests.recorder_rig import rig
from tests.unit.recorder.test_chunk import exact

IMAGE = "influxdb:2"
ORG = "dinrail"
PULL_S = 60
START_S = 40

pytestmark = [pytest.mark.docker, pytest.mark.slow]


@pytest.fixture(scope="module")
def influxdb2(module_environment: None) -> Iterator[Influx]:
    """A running InfluxDB 2, set up with an organisation, a bucket and a token."""
    wanted_image(IMAGE)
    from testcontainers.core.container import DockerContainer

    token = secrets.token_urlsafe()
    container = DockerContainer(IMAGE).with_exposed_ports(8086)
    for name, value in {
        "MODE": "setup",
        "USERNAME": "test",
        "PASSWORD": secrets.token_urlsafe(),
        "ORG": ORG,
        "BUCKET": BUCKET,
        "ADMIN_TOKEN": token,
    }.items():
        container.with_env(f"DOCKER_INFLUXDB_INIT_{name}", value)
    with container:
        url = f"http://{container.get_container_host_ip()}:{container.get_exposed_port(8086)}"
        wait_set_up(url, token)
        yield Influx(url, url, token=token, org=ORG)


@pytest.fixture(scope="module")
def module_environment() -> Iterator[None]:
    """Containers without the reaper's image, reached over the loopback."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TESTCONTAINERS_RYUK_DISABLED", "true")
        patch.setenv("TESTCONTAINERS_CONNECTION_MODE", os.environ.get("TESTCONTAINERS_CONNECTION_MODE", "docker_host"))
        patch.setenv("TESTCONTAINERS_HOST_OVERRIDE", os.environ.get("TESTCONTAINERS_HOST_OVERRIDE", "127.0.0.1"))
        yield


def wanted_image(image: str) -> None:
    """Returns once the image is there; skips the test, with the reason, if it cannot be had soon."""
    if shutil.which("docker") is None:
        pytest.skip("no docker on this machine")
    try:
        if subprocess.run(
            ["docker", "image", "inspect", image], capture_output=True, timeout=10, check=False
        ).returncode:
            pulled = subprocess.run(
                ["docker", "pull", image], capture_output=True, text=True, timeout=PULL_S, check=False
            )
            if pulled.returncode:
                pytest.skip(f"the image {image} is not to be had: {pulled.stderr.strip()[-200:]}")
    except subprocess.TimeoutExpired as error:
        pytest.skip(f"the image {image} is not to be had: no answer within {error.timeout:.0f} s")


def wait_set_up(url: str, token: str) -> None:
    """Returns once the bucket takes a point: the server answers before its set-up is done."""

    def takes_a_point() -> bool:
        try:
            answer = urllib3.request(
                "POST",
                f"{url}/api/v2/write?org={ORG}&bucket={BUCKET}&precision=us",
                body=f"ready x=1 {START}",
                headers={"Authorization": f"Token {token}"},
                timeout=2,
                retries=False,
            )
        except urllib3.exceptions.HTTPError:
            return False
        return answer.status == 204

    wait_until(takes_a_point, START_S, what="InfluxDB 2 takes a point")


async def test_value_type_and_microsecond_come_back(influxdb2: Influx, tmp_path: Path):
    async with rig(tmp_path / "recorder.db", influxdb2.store()) as recorder:
        await recorder.record([SampleStruct(t=START + 7 * at, v={f"v{at}": value}) for at, value in enumerate(VALUES)])
        await recorder.flush()

        assert await recorder.dead() == []
    found = {at: influxdb2.read(f"v{at}") for at in range(len(VALUES))}
    assert {at: [(t, exact(v), q) for t, v, q in points] for at, points in found.items()} == {
        at: [(START + 7 * at, exact(value), 192)] for at, value in enumerate(VALUES)
    }


async def test_bad_quality_is_kept_without_a_value(influxdb2: Influx, tmp_path: Path):
    async with rig(tmp_path / "recorder.db", influxdb2.store()) as recorder:
        await recorder.record([SampleStruct(t=START, v={"bad": None}, q={"bad": QualityStruct(q=0, cause="comm")})])
        await recorder.flush()

    assert influxdb2.read("bad") == [(START, None, 0)]


async def test_points_that_the_server_refuses_are_set_aside_alone(influxdb2: Influx, tmp_path: Path):
    # Somebody else has made `f` a field of text, in a shard that no other test writes to.
    later = START + 400 * 86_400_000_000
    server = InfluxServer(url=influxdb2.api, org=ORG, bucket=BUCKET, token=influxdb2.token, timeout_s=10)
    assert server.post([f'tag,tag=other f="text" {later}']) is None
    server.close()
    mixed = [SampleStruct(t=later + at, v={"mixed": 1.5 if at in {3, 11, 12} else at}) for at in range(20)]
    async with rig(tmp_path / "recorder.db", influxdb2.store(lines=20)) as recorder:
        await recorder.record(mixed)
        await recorder.flush()

        assert [int(letter.payload.split()[-1]) - later for letter in await recorder.dead()] == [3, 11, 12]
    assert [t - later for t, _, _ in influxdb2.read("mixed")] == sorted({*range(20)} - {3, 11, 12})


async def test_a_wrong_token_gives_nothing_up(influxdb2: Influx, tmp_path: Path):
    async with rig(tmp_path / "recorder.db", influxdb2.store(token="wrong")) as recorder:
        await recorder.record([SampleStruct(t=START, v={"x": 1})])
        await recorder.flush()

        assert recorder.spool.rows == 1
        assert recorder.metric("store_errors_total", store="influxdb", reason="401") == 1
