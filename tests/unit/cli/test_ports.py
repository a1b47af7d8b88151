import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli.ports import taken_ports
from services.cli.settings import SiteSettings, read_settings
from services.cli.site import Ports, Site, make_site
from tests.ports import free_ports


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def settings(folder: Path, ports: Ports) -> SiteSettings:
    site = Site(folder / "site")
    make_site(site, name="plant", example="plant", ports=ports)
    return read_settings(site)


def test_free_ports_are_no_trouble(tmp_path: Path) -> None:
    assert taken_ports(settings(tmp_path, Ports(*free_ports(7)))) == []


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
            ]
        )
    ),
)
def test_a_taken_port_is_named_with_its_setting(
    tmp_path: Path, listener: socket.socket, place: int, setting: str
) -> None:
    port: int = listener.getsockname()[1]
    ports = free_ports(7)
    ports[place] = port

    assert taken_ports(settings(tmp_path, Ports(*ports))) == [f"port {port} ({setting}) is taken by another program"]


def test_a_port_given_to_two_of_our_own_is_named_with_both(tmp_path: Path) -> None:
    ports = free_ports(6)

    found = taken_ports(settings(tmp_path, Ports(*ports[:4], ports[3], *ports[4:])))

    assert found == [f"port {ports[3]} is given twice: demo.modbus_port and demo.opcua_port"]


def test_any_free_port_is_never_taken(tmp_path: Path) -> None:
    assert taken_ports(settings(tmp_path, Ports(free_ports(1)[0], 0, 0, *free_ports(2), 0, 0))) == []
