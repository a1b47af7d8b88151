"""A service whose wall clock a test sets: `python -m tests.faults.stepped SERVICE OFFSET_FILE --config ...`."""

import sys
import time
from importlib import import_module
from pathlib import Path

from services.runtime import process
from services.runtime.clock import SystemClock


def stepped_ns(path: Path) -> int:
    """The machine's clock, off by as many seconds as the file says."""
    return time.time_ns() + int(float(path.read_text()) * 1e9)


def step(path: Path, seconds: float) -> None:
    """Sets the clocks that read this file, in one stroke: one that found it empty would end its service."""
    new = path.with_suffix(".new")
    new.write_text(str(seconds))
    new.replace(path)


if __name__ == "__main__":
    service, offset = sys.argv[1:3]
    del sys.argv[1:3]
    process.SystemClock = lambda: SystemClock(lambda: stepped_ns(Path(offset)))  # type: ignore[assignment, misc]
    sys.exit(import_module(f"services.{service}.process").main())
