"""Whether the TCP ports that a site needs are free."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass

from services.cli.settings import SiteSettings


@dataclass(frozen=True, slots=True)
class PortUse:
    """A port that one of our processes is about to listen on. setting: where it can be changed."""

    host: str
    port: int
    setting: str


def ports_of(settings: SiteSettings) -> Iterator[PortUse]:
    """Every port that `dinrail up` opens for this site."""
    broker = settings.broker
    if broker.tls is None:
        yield PortUse(broker.host, broker.port, "broker.port")
    for name in ("tls_port", "websocket_port"):
        yield PortUse(broker.listen.host, getattr(broker.listen, name) or 0, f"broker.listen.{name}")
    yield PortUse(settings.gateway.http_host, settings.gateway.http_port, "gateway.http_port")
    yield PortUse(settings.recorder.http_host, settings.recorder.http_port, "recorder.http_port")
    yield PortUse(settings.orchestrator.http_host, settings.orchestrator.http_port, "orchestrator.http_port")
    yield PortUse(settings.compute.http_host, settings.compute.http_port, "compute.http_port")
    yield PortUse(settings.identity.http_host, settings.identity.http_port, "identity.http_port")
    if settings.demo.example:
        yield PortUse("127.0.0.1", settings.demo.modbus_port, "demo.modbus_port")
        yield PortUse("127.0.0.1", settings.demo.opcua_port, "demo.opcua_port")


def taken(use: PortUse) -> bool:
    """Whether something else listens there; port 0 means any free one and is never taken."""
    if use.port == 0:
        return False
    try:
        with socket.create_server((use.host, use.port)):
            return False
    except OSError:
        return True


def taken_ports(settings: SiteSettings) -> list[str]:
    """A line for each port that is taken, or that the settings give to two of our own processes."""
    lines = []
    seen: dict[int, str] = {}
    for use in ports_of(settings):
        if use.port and use.port in seen:
            lines.append(f"port {use.port} is given twice: {seen[use.port]} and {use.setting}")
        elif taken(use):
            lines.append(f"port {use.port} ({use.setting}) is taken by another program")
        seen[use.port] = use.setting
    return lines
