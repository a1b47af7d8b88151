"""An OPC UA server made for measuring: Double variables that all change at every tick.

Variable v0 is the counter of ticks; the others walk about their own mean. The stamp of a tick is taken just before its
first variable is written, so the latency measured includes the server's own sampling and publishing.
"""

import argparse
import asyncio
import logging
import random
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

import uvloop
from asyncua import Server, ua

from bench.stamps import Stamps

NAMESPACE = "urn:dinrail:bench"


async def serve(port: int, values: int, hz: float, stamps: Stamps) -> None:
    """Serves until SIGTERM."""
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/bench")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    space = await server.register_namespace(NAMESPACE)
    folder = await server.nodes.objects.add_object(space, "bench")
    nodes = [await folder.add_variable(ua.NodeId(f"v{i}", space), f"v{i}", 0.0) for i in range(values)]
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with server:
        print("ready", flush=True)
        await tick(server, nodes, 1 / hz, stamps, stop)


async def tick(server: Server, nodes: list, period_s: float, stamps: Stamps, stop: asyncio.Event) -> None:
    """Writes every variable once a period, without drift, until stopped."""
    loop = asyncio.get_running_loop()
    source = random.Random(1)
    levels = [source.uniform(10, 90) for _ in nodes]
    due = loop.time()
    counter = 0
    while not stop.is_set():
        counter += 1
        levels = [level + source.choice((-0.02, -0.01, 0.01, 0.02)) for level in levels]
        levels[0] = float(counter)
        now = datetime.now(UTC).replace(tzinfo=None)
        stamps.sent(counter)
        for node, level in zip(nodes, levels, strict=True):
            value = ua.DataValue(ua.Variant(level, ua.VariantType.Double), SourceTimestamp=now)
            await server.write_attribute_value(node.nodeid, value)
        due = max(due + period_s, loop.time())
        try:
            async with asyncio.timeout_at(due):
                await stop.wait()
        except TimeoutError:
            continue


def main() -> None:
    """Command line."""
    logging.basicConfig(level=logging.ERROR)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--values", type=int, default=1000)
    parser.add_argument("--hz", type=float, default=10.0)
    parser.add_argument("--stamps", type=Path, required=True)
    given = parser.parse_args()
    uvloop.run(serve(given.port, given.values, given.hz, Stamps(given.stamps)))


if __name__ == "__main__":
    sys.exit(main())
