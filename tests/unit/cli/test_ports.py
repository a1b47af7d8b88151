import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from services.cli.ports import taken_ports
from services.cli.settings import SiteSettings, read_settings
from services.cli.site import Ports, Site, make_site
from tests.ports import free_ports, site_ports


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def settings(folder: Path, ports: Ports) -> SiteSettings:
    site = Site(folder / "site")
    make_site(site, name="plant", example="plant", ports=ports)
    return read_settings(site)


def test_free_ports_are_no_trouble(tmp_path: Path) -> None:
    assert taken_ports(settings(tmp_path, site_ports())) == []


@pytest.mark.parametrize(
    ("place", "setting"),
    list(
        enumerate(
            [
                "broker.port",
                "gateway.http_port",
                "recorder.http_port",
                "demo.modbus_port",
                "demo.opcua_port",
                "orchestrator.http_port",
                "compute.http_port",
                "broker.listen.tls_port",
                "broker.listen.websocket_port",
            ]
        )
    ),
)
def test_a_taken_port_is_named_with_its_setting(
    tmp_path: Path, listener: socket.socket, place: int, setting: str
) -> None:
    port: int = listener.getsockname()[1]
    ports = free_ports(9)
    ports[place] = port

    assert taken_ports(settings(tmp_path, Ports(*ports))) == [f"port {port} ({setting}) is taken by another program"]


def test_a_port_given_to_two_of_our_own_is_named_with_both(tmp_path: Path) -> None:
    ports = site_ports()

    found = taken_ports(settings(tmp_path, replace(ports, opcua=ports.modbus)))

    assert found == [f"port {ports.modbus} is given twice: demo.modbus_port and demo.opcua_port"]


def test_any_free_port_is_never_taken(tmp_path: Path) -> None:
    assert (
        taken_ports(settings(tmp_path, replace(site_ports(), gateway=0, recorder=0, orchestrator=0, compute=0))) == []
    )
