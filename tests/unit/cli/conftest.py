"""A picture of one device, and what it is made of."""

from typing import Any

import pytest

from contracts.v1.alarm import Alarm, AlarmStatus
from contracts.v1.definition import Definition
from contracts.v1.device import (
    Circuit,
    DeviceInfo,
    DeviceState,
    DeviceStatus,
    GroupInfo,
    TagInfo,
    ValueType,
    tag_hash,
)
from contracts.v1.frame import GOOD
from contracts.v1.pipeline import WORKSPACE, PipelineInfo
from contracts.v1.run import RunState, RunStatus, RunTrigger
from contracts.v1.service import ServiceState, ServiceStatus
from contracts.v1.tag import TagValue
from services.cli.picture import Picture


def info(*tags: str, **changes: Any) -> DeviceInfo:
    fields: dict[str, Any] = {
        "device": "plc",
        "driver": "modbus",
        "gateway": "gateway",
        "rev": "1",
        "tags": {tag: TagInfo(type=ValueType.FLOAT32, group="fast", unit="bar") for tag in tags},
        "groups": {"fast": GroupInfo(interval_s=1, epoch=1)},
        "tag_count": len(tags),
        "tag_hash": tag_hash(tags),
        **changes,
    }
    return DeviceInfo(**fields)


def state(status: DeviceStatus) -> DeviceState:
    return DeviceState(state=status, since=0, gateway="gateway", sid="s", circuit=Circuit.CLOSED)


def presence(status: ServiceStatus) -> ServiceState:
    return ServiceState(state=status, sid="s", since=0, version="0", instance="gateway")


def value(number: float = 1.5, q: int = GOOD) -> TagValue:
    return TagValue(value=number, ts=1000, q=q, seen=1000)


def alarm(name: str, status: AlarmStatus, **changes: Any) -> Alarm:
    fields = {"source": "cooling", "scope": WORKSPACE, "priority": 2, "since": 1000, "text": "Pump too hot", **changes}
    return Alarm(alarm=name, state=status, **fields)


def pipeline(name: str, problem: str | None = None) -> PipelineInfo:
    definition = {"pipeline": name, "nodes": {"one": {"type": "expression", "expression": "1"}}}
    return PipelineInfo(
        pipeline=name,
        scope=WORKSPACE,
        version=1,
        rev="0" * 16,
        enabled=True,
        saved_at=1,
        saved_by="anna",
        nodes=1,
        problem=problem,
        definition=Definition.model_validate(definition),
    )


def run(pipeline: str, name: str, status: RunStatus, **changes: Any) -> RunState:
    fields = {"version": 1, "since": 1000, "trigger": RunTrigger(kind="every"), "rev": 1, **changes}
    return RunState(run=name, pipeline=pipeline, scope=WORKSPACE, state=status, **fields)


@pytest.fixture
def picture() -> Picture:
    """One device, online, with two tags that both have a value."""
    picture = Picture()
    picture.devices["plc"] = info("level", "speed")
    picture.states["plc"] = state(DeviceStatus.ONLINE)
    picture.services["gateway", "gateway"] = presence(ServiceStatus.ONLINE)
    picture.values["plc", "level"] = value(1.5)
    picture.values["plc", "speed"] = value(2.5)
    return picture
