"""A whole site of real services under the eyes of a real Prometheus, with our scrape settings and our rules."""

import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import paho.mqtt.client as paho
import yaml
from paho.mqtt.enums import CallbackAPIVersion

from services.cli.broker import find_mosquitto
from services.cli.settings import read_broker
from services.cli.site import Ports, Site, make_site, write_broker_files
from tests.grafana import ROOT
from tests.integration.gateway_site import modbus_device, write_devices
from tests.policies import IDENTITY, publish_policy
from tests.polling import wait_until
from tests.ports import free_port, site_ports
from tests.servers import answering, program

SERVICES = ("gateway", "orchestrator", "compute", "identity", "recorder")
"""The recorder last: it misses the gateway's first frames, and asks for them."""
HASTY = {"DINRAIL_RECORDER__STORE__KIND": "embedded", "DINRAIL_RECORDER__STORE__FLUSH": "1s"}
"""A history that takes values at once."""
SECOND = "second"
"""A further recorder, whose database is never there."""
MONITORING = ROOT / "monitoring" / "prometheus"
SITE = "plant"

AXIS = {
    "device": "axis",
    "driver": "mock_servo",
    "connection": {"lowest": 0, "highest": 500, "velocity": 200, "acceleration": 1000},
    "groups": {"fast": {"interval": "200ms", "tags": {"position": {"signal": "position", "type": "float64"}}}},
}
LEVEL = {"level": {"address": "holding:10", "type": "float32"}}
EVERY = [{"every": "500ms"}]
PIPELINES = {
    "mean": {
        "triggers": EVERY,
        "nodes": {
            "new": {"type": "expression", "expression": "[t, 1]", "inputs": {"t": "trigger.t"}},  # none is known before
            "mean": {"type": "compute", "function": "statistics", "inputs": {"values": "new.value"}},
        },
    },
    "broken": {
        "triggers": EVERY,
        "nodes": {"x": {"type": "expression", "expression": "1 / 0", "retry": {"tries": 1}}},
    },
}


@dataclass
class MonitoredSite:
    """broker: its port. prometheus: its URL. ports: of /metrics, by service."""

    site: Site
    broker: int
    ports: dict[str, list[int]]
    prometheus: str

    def publish(self, account: str, topic: str, payload: bytes) -> None:
        """As this account; returns when the broker has it. topic: below the site's root."""
        client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        client.username_pw_set(account, self.site.password(account).read_text().strip())
        client.connect("127.0.0.1", self.broker)
        client.loop_start()
        client.publish(f"dinrail/v1/{SITE}/{topic}", payload, qos=1).wait_for_publish(30)
        client.disconnect()
        client.loop_stop()


@contextmanager
def monitored_site(folder: Path) -> Iterator[MonitoredSite]:
    """Begins all; what it does then comes to be in its own time."""
    ports, site = site_ports(), Site(folder / "site")
    make_site(site, name=SITE, example=None, ports=ports)
    write_broker_files(site, name=SITE, broker=read_broker(site)[1])
    _write(site)
    metrics = {service: [int(getattr(ports, service))] for service in SERVICES}
    metrics["recorder"].append(free_port())
    with ExitStack() as running:
        running.enter_context(_broker(site, ports))
        url = running.enter_context(prometheus(folder, metrics))
        for service in SERVICES:
            if service == "recorder":
                wait_until(lambda: _has_read(metrics["gateway"][0]), 30, what="the gateway has read values")
            running.enter_context(_service(site, service, HASTY))
        away = {
            "INSTANCE": SECOND,
            "DATA": str(folder / SECOND),
            "HTTP_PORT": str(metrics["recorder"][1]),
            "STORE__KIND": "influxdb",
            "STORE__URL": f"http://127.0.0.1:{free_port()}",
            "STORE__BUCKET": "none",
        }
        running.enter_context(_service(site, "recorder", {f"DINRAIL_RECORDER__{key}": to for key, to in away.items()}))
        yield MonitoredSite(site, ports.broker, metrics, url)


@contextmanager
def prometheus(folder: Path, ports: dict[str, list[int]]) -> Iterator[str]:
    """With our own prometheus.yml, but that it scrapes these ports of this machine, and more often."""
    settings = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    settings["global"] |= {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"}
    settings["rule_files"] = [str(folder / "rules" / "*.yml")]
    port = free_port()
    for job in settings["scrape_configs"]:
        found = ports.get(job["job_name"], [port])
        job.pop("dns_sd_configs", None)
        job["static_configs"] = [{"targets": [f"127.0.0.1:{one}" for one in found]}]
    (folder / "rules").mkdir()
    for rules in (MONITORING / "rules").glob("*.yml"):
        text = re.sub(r"interval: 15s", "interval: 500ms", rules.read_text())
        (folder / "rules" / rules.name).write_text(text)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
    binary = program("prometheus", package="prometheus")
    command = [
        str(binary),
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/tsdb",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with answering(command, f"http://127.0.0.1:{port}/-/ready", folder / "prometheus.log"):
        yield f"http://127.0.0.1:{port}"


def _write(site: Site) -> None:
    """The devices, one of them without a machine, and the pipelines, one of which fails."""
    write_devices(site.devices, {"axis": AXIS, "gone": modbus_device(free_port(), LEVEL)})
    site.pipelines.mkdir(exist_ok=True)
    for name, content in PIPELINES.items():
        (site.pipelines / f"{name}.yaml").write_text(yaml.safe_dump({"pipeline": name, **content}))


def _has_read(port: int) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as answer:
        return b'dinrail_values_total{device="axis"}' in answer.read()
    return False


def _service(
    site: Site, service: str, environment: dict[str, str] | None = None
) -> AbstractContextManager["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", f"services.{service}", "--config", str(site.settings_file)]
    return _process(command, site.folder / f"{service}.log", environment)


@contextmanager
def _broker(site: Site, ports: Ports) -> Iterator["subprocess.Popen[bytes]"]:
    mosquitto = find_mosquitto()
    command = [str(mosquitto.program), "-c", str(site.broker / "mosquitto.conf")]
    with _process(command, site.folder / "broker.log", mosquitto.environment) as process:
        password = site.password(IDENTITY).read_text().strip()

        def has_policy() -> bool:
            """Whether the broker takes it by now."""
            try:
                publish_policy(ports.broker, site=SITE, password=password)
            except ConnectionError:
                return False
            return True

        wait_until(has_policy, 30, what="the broker listens")
        yield process


@contextmanager
def _process(
    command: list[str], log: Path, environment: dict[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("DINRAIL_")}
    with (
        log.open("ab") as out,
        subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, env={**environ, **(environment or {})}) as process,
    ):
        try:
            yield process
        finally:
            process.kill()
