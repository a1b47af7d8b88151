"""Outputs of nodes that are used again for a while: by version of the pipeline, node and inputs. Pure."""

import json
from collections import OrderedDict
from collections.abc import Mapping

from pydantic import JsonValue

from services.orchestrator.run.plan import Plan, Values

MOST = 1000
MOST_BYTES = 16 << 20

Key = tuple[str, str, int, str, bool, str]


def key_of(plan: Plan, path: str, inputs: Mapping[str, JsonValue], *, shadow: bool = False) -> Key:
    """What two executions have in common that are the same. path: of the node, without the turns of loops.

    shadow: of a run that changes nothing, whose nodes may give what no device gave.
    """
    canonical = json.dumps(inputs, sort_keys=True, separators=(",", ":"))
    return plan.scope, plan.pipeline, plan.version, path, shadow, canonical


class NodeCache:
    """Least recently used go first, beyond `most` entries or `most_bytes` of them. Times are monotonic seconds."""

    def __init__(self, *, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self._entries: OrderedDict[Key, tuple[float, Values, int]] = OrderedDict()
        self._most = most
        self._most_bytes = most_bytes
        self._bytes = 0

    def get(self, key: Key, now_s: float) -> Values | None:
        """The outputs, if they are still good."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[0] <= now_s:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry[1]

    def put(self, key: Key, outputs: Values, *, until_s: float) -> None:
        """These outputs are good until then. What alone is longer than all that may be kept is not kept."""
        if key in self._entries:
            self._drop(key)
        size = len(key[-1]) + len(json.dumps(outputs))
        if size > self._most_bytes:
            return
        self._entries[key] = (until_s, outputs, size)
        self._bytes += size
        while len(self._entries) > self._most or self._bytes > self._most_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: Key) -> None:
        self._bytes -= self._entries.pop(key)[2]
