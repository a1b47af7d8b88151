"""The orchestrator as a process: `python -m services.orchestrator --config dinrail.yaml`.

Most of its start goes into imports; here they are kept short.
"""

import gc
import sys
from importlib import import_module


def main() -> int:
    """Imports the orchestrator and runs it; gives the exit code."""
    gc.disable()  # until it is put together: of what is imported nothing is garbage, and to search it takes long
    code: int = import_module("services.orchestrator.process").main()
    return code


if __name__ == "__main__":
    sys.exit(main())
