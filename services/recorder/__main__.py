"""The recorder as a process: `python -m services.recorder --config dinrail.yaml`."""

import sys

from services.runtime.startup import start

if __name__ == "__main__":
    sys.exit(start("services.recorder.process"))
