"""Hostile messages at a real site for as long as asked: python -m bench.fuzz [--seconds 60] [--seed N].

Broker, gateway, orchestrator, compute and recorder are processes of their own, with the accounts of a site; every
topic and command of the contract gets all of tests.hostile_messages, round after round. It ends with 1 and names the
seed when a command is not answered exactly once, a service ends, its log has a traceback or its memory has grown by
more than --megabytes. Measures nothing.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from random import Random

from contracts.acl import ACCOUNTS
from tests.assault import Assault, memory_bytes
from tests.e2e.stack import SITE, Stack
from tests.e2e.test_hostile_messages import SERVICES, good, started

PATIENCE_S = 300
"""Hundreds of messages of 1 MiB may stand before a command."""


async def main() -> int:
    """The exit code."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--seed", type=int, default=time.time_ns())
    options.add_argument("--megabytes", type=int, default=400)
    asked = options.parse_args()
    sys.stdout.write(f"seed {asked.seed}\n")
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack.make(Path(folder) / "site", example=None)
        passwords = {one.name: stack.site.password(one.name).read_text().strip() for one in ACCOUNTS}
        assault = Assault(stack.ports.broker, SITE, passwords, Random(asked.seed), patience_s=PATIENCE_S)
        try:
            await started(stack)
            await asyncio.to_thread(good, assault)
            before = _memory(stack)
            sent = await asyncio.to_thread(_rounds, assault, asked.seconds)
            await asyncio.to_thread(good, assault)
            grown = {name: (after - before[name]) >> 20 for name, after in _memory(stack).items()}
            logs = {name: stack.log(name).count("Traceback") for name in SERVICES}
        except (AssertionError, OSError) as error:
            sys.stdout.write(f"failed: {error}\n")
            return 1
        finally:
            assault.close()
            await stack.close()
    sys.stdout.write(f"{sent} messages; grown by megabytes: {grown}; tracebacks: {logs}\n")
    return int(any(logs.values()) or max(grown.values()) > asked.megabytes)


def _rounds(assault: Assault, seconds: float) -> int:
    """How many messages were sent until the time was over."""
    until = time.monotonic() + seconds
    while True:
        for _ in assault.everything(whole=True):
            if time.monotonic() > until:
                return assault.sent


def _memory(stack: Stack) -> Mapping[str, int]:
    """Bytes by service. Raises OSError if one has ended."""
    return {name: memory_bytes(stack.processes[name].pid) for name in SERVICES}


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
