"""What docker-compose.yml promises of every service, those too whose image is not at hand."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE_FILE = ROOT / "docker-compose.yml"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE_FILE.read_text())["services"]
LASTING = sorted(SERVICES.keys() - {"init", "dinrail"})


@pytest.mark.parametrize("name", LASTING)
def test_every_lasting_service_is_watched_and_bounded(name: str) -> None:
    service = SERVICES[name]

    assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    assert service["cpus"]
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
    here = ("127.0.0.1:", "${DINRAIL_GRAFANA_ADDRESS:-127.0.0.1}:")
    others = {port.rpartition(":")[2] for port in SERVICES[name].get("ports", []) if not port.startswith(here)}

    assert others == ({"8883", "8884"} if name == "broker" else set())


@pytest.mark.parametrize("name", LASTING)
def test_every_image_of_others_has_a_version(name: str) -> None:
    service = SERVICES[name]
    tag = service["image"].removesuffix("}").rpartition(":")[2]

    assert "build" in service or (tag[:1] in "v0123456789" and tag != "latest")


def test_who_is_in_the_office_is_not_on_the_bus_but_for_the_broker() -> None:
    def members(network: str) -> set[str]:
        return {name for name, one in SERVICES.items() if network in (one.get("networks") or ())}

    assert members("office") == {"broker", "grafana"}
    assert members("plant") == {"gateway", "plant"}
    assert members("local") == {"influxdb", "victoria-metrics"}
    assert members("bus") == {"broker", "gateway", "recorder", "orchestrator", "compute", "identity", "dinrail"}


def test_what_the_images_are_made_with_has_the_version_of_the_project() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    assert f"\nARG VERSION={version}\n" in (ROOT / "Dockerfile").read_text()
