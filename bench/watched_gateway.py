"""The gateway, whose full collections of garbage are noted: python -m bench.watched_gateway --config dinrail.yaml.

BENCH_COLLECTIONS names a file that gets a JSON line for each: when it ended, in seconds of the machine's
monotonic clock, and how many milliseconds it took. Nothing else in the process runs meanwhile.
"""

import gc
import json
import os
import sys
import time
from pathlib import Path

from services.runtime.startup import start

VARIABLE = "BENCH_COLLECTIONS"
OLDEST = 2
"""The generation that only a full collection looks at (Python's reference, gc)."""


class Collections:
    """Called by the collector (gc.callbacks)."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._begun_s = 0.0

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        """phase: `start` or `stop`."""
        if info["generation"] < OLDEST:
            return
        now_s = time.monotonic()
        if phase == "start":
            self._begun_s = now_s
        else:
            self._file.write(json.dumps({"at_s": now_s, "ms": round(1000 * (now_s - self._begun_s), 3)}) + "\n")
            self._file.flush()


def collections(path: Path, *, since_s: float = 0.0) -> dict[str, float]:
    """How many full collections there were since then, and how long the longest took."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    took = [one["ms"] for one in map(json.loads, lines) if one["at_s"] >= since_s]
    return {"full_collections": len(took), "longest_collection_ms": max(took, default=0.0)}


if __name__ == "__main__":
    gc.callbacks.append(Collections(Path(os.environ[VARIABLE])))
    sys.exit(start("services.gateway.process"))
