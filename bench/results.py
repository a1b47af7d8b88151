"""What benches have found, with where and when: one file of JSON lines each, in bench/out."""

import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
OUT = ROOT / "bench" / "out"


def keep(bench: str, result: Mapping[str, object]) -> str:
    """Adds the result to the bench's file; gives the line, which says where and what was measured, too."""
    line = json.dumps({**machine(), **result})
    OUT.mkdir(exist_ok=True)
    with (OUT / f"{bench}.jsonl").open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    return line


def machine() -> dict[str, object]:
    """Where and what was measured."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": commit.stdout.strip(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
