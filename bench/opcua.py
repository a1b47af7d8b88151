"""What the OPC UA driver alone costs: 1000 Doubles at 10 Hz, subscribed to and polled; CPU of its process.

    python -m bench.opcua [--values 1000] [--hz 10] [--seconds 10]

The server is a process of its own (bench.opcua_server). Prints one JSON line per mode.
"""

import argparse
import asyncio
import contextlib
import json
import socket
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import uvloop

from bench.opcua_server import NAMESPACE
from plugins.api.bench import WallClock, device_spec
from plugins.api.driver import DeviceSpec
from plugins.drivers.opcua.driver import DRIVER, OpcUaDevice


def spec(port: int, values: int, hz: float, mode: str) -> DeviceSpec:
    """One group of all variables."""
    tags = {f"v{i}": {"node": f"nsu={NAMESPACE};s=v{i}", "type": "float64"} for i in range(values)}
    interval = f"{1000 / hz:g}ms"
    group = {"interval": interval, "mode": mode, "sampling": interval, "tags": tags}
    if mode == "poll":
        del group["sampling"]
    return device_spec(DRIVER, connection={"url": f"opc.tcp://127.0.0.1:{port}/bench"}, groups={"all": group})


async def taken(device: OpcUaDevice, mode: str, period_s: float) -> AsyncGenerator[int]:
    """How many values each reading held."""
    if mode == "subscribe":
        async with contextlib.aclosing(device.subscribe("all")) as readings:
            async for reading in readings:
                yield len(reading.values)
    due = time.monotonic()
    while True:
        yield len((await device.read("all")).values)
        due = max(due + period_s, time.monotonic())
        await asyncio.sleep(due - time.monotonic())


async def measure(port: int, values: int, hz: float, seconds: float, mode: str) -> dict[str, object]:
    """Values and CPU time between the second reading and the last."""
    device_file = spec(port, values, hz, mode)
    if mode == "subscribe":  # device_spec knows no intervals
        group = device_file.groups[0]
        device_file = type(device_file)(
            name="d",
            connection=device_file.connection,
            groups=(type(group)(name="all", interval_s=1 / hz, tags=group.tags, options=group.options),),
        )
    async with DRIVER.open(device_file, clock=WallClock()) as device:
        assert isinstance(device, OpcUaDevice)
        count, readings, begin, cpu = 0, 0, 0.0, 0.0
        async with contextlib.aclosing(taken(device, mode, 1 / hz)) as counts:
            async for held in counts:
                if not begin:
                    begin, cpu = time.monotonic(), time.process_time()
                    continue
                count, readings = count + held, readings + 1
                if time.monotonic() - begin >= seconds:
                    break
        spent, wall = time.process_time() - cpu, time.monotonic() - begin
    return {
        "bench": "opcua",
        "mode": mode,
        "values": values,
        "hz": hz,
        "values_per_s": round(count / wall),
        "readings_per_s": round(readings / wall, 1),
        "cpu_s_per_100k": round(spent / count * 100_000, 3),
        "cpu_share": round(spent / wall, 3),
    }


async def run(given: argparse.Namespace) -> None:
    """Starts the server, measures each mode, ends the server."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        server = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.opcua_server", "--port", str(port), "--values", str(given.values),
            "--hz", str(given.hz), "--stamps", str(Path(folder) / "stamps"), stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            assert server.stdout is not None
            await server.stdout.readline()
            for mode in ("subscribe", "poll"):
                print(json.dumps(await measure(port, given.values, given.hz, given.seconds, mode)), flush=True)
        finally:
            server.terminate()
            await server.wait()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--values", type=int, default=1000)
    parser.add_argument("--hz", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
