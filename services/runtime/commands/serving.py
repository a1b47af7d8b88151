"""What whoever serves commands works with."""

from dataclasses import dataclass

from plugins.api.clock import Clock
from services.runtime.commands.gate import Gate
from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from services.runtime.mqtt.delivery import Send

CONCURRENT_COMMANDS = 16
"""Commands of one subscription that are executed at the same time: one slow device shall not hold up the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What every server of commands on one bus works with."""

    site: str
    send: Send
    gate: Gate
    metrics: Metrics
    clock: Clock
    log: Log
