"""Commands that are not executed: each counted, some logged, those that somebody tried without right told."""

from collections import defaultdict
from typing import Any

from contracts.v1.command import Command
from services.runtime.commands.serving import Serving
from services.runtime.mqtt.delivery import Delivery
from services.runtime.throttle import Throttle

DUPLICATE = "duplicate"
"""Of a command that came again and is answered again: nobody need hear of it."""


class Refusals:
    """Of one verb."""

    def __init__(self, command: Command[Any, Any], *, use: Serving) -> None:
        self._command = command
        self._use = use
        self._throttles: defaultdict[str, Throttle] = defaultdict(Throttle)

    def note(self, asked: Delivery[Any], why: str, *, told: str | None = None) -> None:
        """told: why, for people, if the sender is told so."""
        use = self._use
        use.metrics.dropped.labels(f"bus.{self._command.name}", why).inc()
        if self._throttles[why].passes(use.clock.monotonic()):
            use.log.warning(
                "command_refused", reason=why, topic=asked.topic, response_topic=asked.response_topic, told=told
            )
        if why != DUPLICATE:
            for tell in use.gate.refused:
                tell(self._command, asked, why, told)
