"""docs/configuration.md: the table of dinrail.yaml's keys."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from services.cli.settings import DemoSettings
from services.compute.settings import ComputeSettings
from services.gateway.settings import GatewaySettings
from services.identity.settings import IdentitySettings
from services.orchestrator.settings import OrchestratorSettings
from services.recorder.settings import EmbeddedSettings, InfluxSettings, RecorderSettings
from services.runtime.settings import (
    SECTIONS,
    BrokerSettings,
    ListenSettings,
    LogSettings,
    SettingsSection,
    TlsSettings,
)

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"
MODELS: Mapping[str, tuple[type[SettingsSection], ...]] = {
    "broker": (BrokerSettings,),
    "broker.tls": (TlsSettings,),
    "broker.listen": (ListenSettings,),
    "logs": (LogSettings,),
    "gateway": (GatewaySettings,),
    "orchestrator": (OrchestratorSettings,),
    "compute": (ComputeSettings,),
    "recorder": (RecorderSettings,),
    "identity": (IdentitySettings,),
    "recorder.store": (EmbeddedSettings, InfluxSettings),
    "demo": (DemoSettings,),
}


def keys() -> Iterator[str]:
    """Every key that can stand in dinrail.yaml, with its sections."""
    yield from (section for section in SECTIONS if section not in MODELS)
    for section, models in MODELS.items():
        yield from (f"{section}.{field}" for model in models for field in model.model_fields)


def test_the_page_has_a_row_for_every_setting_and_for_no_other() -> None:
    table = PAGE.read_text(encoding="utf-8").partition("| key | default | meaning |")[2].partition("\n\n")[0]
    named = re.findall(r"`([a-z0-9_.]+)`", "\n".join(row.split("|")[1] for row in table.splitlines() if row))

    assert sorted(named) == sorted({key for key in keys() if key not in MODELS})
