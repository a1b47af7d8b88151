"""A process whose event loop is watched: `python hanging_process.py turns|hangs LIMIT_S`. It says `working` first."""

import asyncio
import sys
import threading

import uvloop

from services.runtime.standstill import Standstill


def wait_in_vain() -> None:
    threading.Event().wait()


async def main(behaviour: str, limit_s: float) -> None:
    with Standstill(limit_s=limit_s):
        sys.stdout.write("working\n")
        sys.stdout.flush()
        if behaviour == "hangs":
            wait_in_vain()
        await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], float(sys.argv[2])))
