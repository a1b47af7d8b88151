"""What the command line needs of a site's settings."""

import os
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from services.cli.site import Ports, Site
from services.compute.settings import ComputeSettings
from services.gateway.settings import GatewaySettings
from services.identity.settings import IdentitySettings
from services.orchestrator.settings import OrchestratorSettings
from services.recorder.settings import RecorderSettings
from services.runtime.settings import BrokerSettings, Port, SettingsSection, load_settings

_USUAL = Ports()


class DemoSettings(SettingsSection):
    """The simulated machines. example: the folder of examples/ they are defined in; None: there are none."""

    example: Annotated[str, Field(pattern=r"^[a-z0-9_-]+$")] | None = None
    modbus_port: Port = _USUAL.modbus
    opcua_port: Port = _USUAL.opcua


@dataclass(frozen=True, slots=True)
class SiteSettings:
    """The sections of dinrail.yaml."""

    site: str
    broker: BrokerSettings
    gateway: GatewaySettings
    recorder: RecorderSettings
    orchestrator: OrchestratorSettings
    compute: ComputeSettings
    identity: IdentitySettings
    demo: DemoSettings


def read_broker(site: Site) -> tuple[str, BrokerSettings]:
    """The site's name and its broker. Raises DocumentError."""
    settings = load_settings("demo", DemoSettings, path=site.settings_file, environ=os.environ)
    return settings.site, settings.broker


def read_settings(site: Site) -> SiteSettings:
    """The settings of a site, environment included. Raises DocumentError with every fault of the first bad section."""
    path = site.settings_file
    demo = load_settings("demo", DemoSettings, path=path, environ=os.environ)
    return SiteSettings(
        site=demo.site,
        broker=demo.broker,
        gateway=load_settings("gateway", GatewaySettings, path=path, environ=os.environ).service,
        recorder=load_settings("recorder", RecorderSettings, path=path, environ=os.environ).service,
        orchestrator=load_settings("orchestrator", OrchestratorSettings, path=path, environ=os.environ).service,
        compute=load_settings("compute", ComputeSettings, path=path, environ=os.environ).service,
        identity=load_settings("identity", IdentitySettings, path=path, environ=os.environ).service,
        demo=demo.service,
    )
