"""The identity service as a process: `python -m services.identity --config dinrail.yaml`."""

import sys

from services.runtime.startup import start

if __name__ == "__main__":
    sys.exit(start("services.identity.process"))
