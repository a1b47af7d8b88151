"""What docker-compose.yml promises of every service, those too whose image is not at hand."""

from pathlib import Path
from typing import Any

import pytest
import yaml

COMPOSE_FILE = Path(__file__).parents[2] / "docker-compose.yml"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE_FILE.read_text())["services"]
LASTING = sorted(SERVICES.keys() - {"init", "dinrail"})


@pytest.mark.parametrize("name", LASTING)
def test_every_lasting_service_is_watched_and_bounded(name: str) -> None:
    service = SERVICES[name]

    assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    assert service["pids_limit"] > 0
    assert service["mem_limit"]
    assert service["logging"]["options"]["max-size"]
    assert service["restart"] == "unless-stopped"
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", LASTING)
def test_influxdb_alone_keeps_capabilities_and_a_writable_root(name: str) -> None:
    service = SERVICES[name]

    closed = service.get("cap_drop") == ["ALL"] and service.get("read_only") is True
    assert closed == (name != "influxdb")


@pytest.mark.parametrize("name", LASTING)
def test_what_is_published_to_other_machines_is_the_broker_over_tls_alone(name: str) -> None:
    others = {port.rpartition(":")[2] for port in SERVICES[name].get("ports", []) if not port.startswith("127.0.0.1:")}

    assert others == ({"8883", "8884"} if name == "broker" else set())
