"""The orchestrator as a process: `python -m services.orchestrator --config dinrail.yaml`."""

import sys

from services.runtime.startup import start

if __name__ == "__main__":
    sys.exit(start("services.orchestrator.process"))
