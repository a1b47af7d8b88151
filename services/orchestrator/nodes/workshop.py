"""The executors of all kinds of nodes, put together: those that do the work, and those of runs that change nothing."""

from collections.abc import Callable
from dataclasses import dataclass

from plugins.api.clock import Clock
from services.orchestrator.alarms.alarms import Alarms
from services.orchestrator.engine.execution import Execution
from services.orchestrator.engine.executor import Executors
from services.orchestrator.nodes.alarm import AlarmNodes
from services.orchestrator.nodes.compute import ComputeNodes, Dispatcher
from services.orchestrator.nodes.device import DeviceNodes
from services.orchestrator.nodes.pipeline import PipelineNodes
from services.orchestrator.nodes.shadow import UnseenAlarms, held_back_call, held_back_tag, held_back_write
from services.orchestrator.nodes.tag import DeriveNodes, LastValueNodes, Owners
from services.orchestrator.pipelines.plans import Plans
from services.orchestrator.run.compiler import DEVICE_READ
from services.orchestrator.run.request import RunRequest
from services.orchestrator.tags import Tags
from services.runtime.bus.bus import Bus
from services.runtime.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What executors work with. user: as whom the bus is logged in. accept: see Engine.accept."""

    bus: Bus
    user: str
    tags: Tags
    plans: Plans
    accept: Callable[[RunRequest], Execution]
    alarms: Alarms
    dispatcher: Dispatcher
    owners: Owners
    metrics: Metrics
    clock: Clock


def executors(tools: Tools) -> Executors:
    """Those that do the work."""
    device = DeviceNodes(bus=tools.bus, user=tools.user)
    last = LastValueNodes(tags=tools.tags)
    return Executors(
        instant={
            "read": last.at_once,
            "alarm": AlarmNodes(alarms=tools.alarms).at_once,
            "derive": DeriveNodes(bus=tools.bus, clock=tools.clock, owners=tools.owners, metrics=tools.metrics).at_once,
        },
        lasting={
            "read": last.do,
            DEVICE_READ: device.read,
            "write": device.write,
            "call": device.call,
            "compute": ComputeNodes(dispatcher=tools.dispatcher).do,
            "pipeline": PipelineNodes(plans=tools.plans, accept=tools.accept).do,
        },
    )


def shadow_executors(tools: Tools) -> Executors:
    """Those of shadow runs: what would change something is held back."""
    doing = executors(tools)
    unseen = AlarmNodes(alarms=UnseenAlarms()).at_once
    held_back = {"alarm": unseen, "write": held_back_write, "call": held_back_call, "derive": held_back_tag}
    return Executors(
        instant={**doing.instant, **held_back},
        lasting={kind: do for kind, do in doing.lasting.items() if kind not in held_back},
    )
