"""How long a write takes from the asking to the verified answer: asker -> broker -> gateway -> device and back.

    python -m bench.write --writes 2000

Broker, gateway and a Modbus server made for measuring (bench/register_server.py) are processes of their own; the asker
is this one. One device, one group of `--values` float32 polled every 100 ms. Writes are sent one after the other, each
with another value; each answer says what was read back. Prints one JSON line and adds it to bench/out/write.jsonl.
Times are milliseconds.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path

import uvloop
import yaml

from bench.process import at_work, machine_ticks, stolen_share, wait_for_port
from bench.results import keep
from bench.watched_gateway import VARIABLE, collections
from bench.write_floor import Asker, floor
from contracts.acl import OPERATOR
from contracts.v1.command import WRITE, Write
from contracts.v1.device import DEVICE_STATE, DeviceState, DeviceStatus
from services.cli.broker import find_mosquitto
from services.cli.connection import access_as, connected
from services.cli.settings import read_broker
from services.cli.site import Ports, Site, make_site, write_broker_files
from services.runtime.bus.bus import Bus, Delivery
from tests.policies import IDENTITY, publish_policy
from tests.ports import site_ports

DEVICE = "bench"
START_S = 20.0


def device_file(port: int, values: int) -> str:
    """A device of one group, its first tag writable."""
    tags: dict[str, dict[str, object]] = {
        f"v{number}": {"address": f"holding:{2 * number}", "type": "float32"} for number in range(values)
    }
    tags["v0"] |= {"writable": True, "range": [0, 1_000_000]}
    content = {
        "device": DEVICE,
        "driver": "modbus",
        "writes": "enabled",
        "connection": {"host": "127.0.0.1", "port": port, "unit_id": 1},
        "groups": {"all": {"interval": "100ms", "tags": tags}},
    }
    return yaml.safe_dump(content, sort_keys=False)


def processes(site: Site, ports: Ports) -> AbstractContextManager[None]:
    """Broker, device and gateway while it lasts."""
    mosquitto = find_mosquitto()
    commands = {
        "broker": [str(mosquitto.program), "-c", str(site.broker / "mosquitto.conf")],
        "device": [sys.executable, "-m", "bench.register_server", "--port", str(ports.modbus)],
        "gateway": [sys.executable, "-m", "bench.watched_gateway", "--config", str(site.settings_file)],
    }
    return at_work(commands, {**mosquitto.environment, VARIABLE: str(site.folder / "collections")}, site.folder)


LOT = 100


async def measure(site: Site, writes: int, asker: Asker) -> tuple[list[float], list[float]]:
    """Milliseconds of each write, and of each that has nothing in it: a lot of these after each lot of those."""
    online = asyncio.Event()

    async def on_state(delivery: Delivery[DeviceState]) -> None:
        """Notes that the device is online."""
        if delivery.payload.state is DeviceStatus.ONLINE:
            online.set()

    def follow(bus: Bus) -> None:
        """Subscribes to the device's state before the bus connects."""
        bus.subscribe(DEVICE_STATE, on_state, device=DEVICE)

    took: list[float] = []
    floors: list[float] = []
    async with connected(access_as(OPERATOR.name, site), follow) as bus:
        async with asyncio.timeout(START_S):
            await online.wait()
        for number in range(writes + 50):
            begun = time.perf_counter()
            outcome = await bus.request(WRITE, Write(value=float(number)), user=OPERATOR.name, id=DEVICE, arg="v0")
            took.append((time.perf_counter() - begun) * 1000)
            if outcome.result is None or outcome.result.read_back != float(number):
                raise SystemExit(f"write {number}: {outcome}")
            if number % LOT == LOT - 1:
                floors += await asyncio.to_thread(asker.ask, LOT)
    return took[50:], floors[50:]  # the first ones warm up


def main() -> None:
    """Runs the measurement and prints its JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--writes", type=int, default=2000)
    parser.add_argument("--values", type=int, default=50)
    options = parser.parse_args()
    ports = site_ports()
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder) / "site")
        make_site(site, name="bench", example=None, ports=ports)
        write_broker_files(site, name="bench", broker=read_broker(site)[1])
        (site.devices / f"{DEVICE}.yaml").write_text(device_file(ports.modbus, options.values))
        with processes(site, ports):
            for port in (ports.broker, ports.modbus):
                wait_for_port(port)  # the floor connects to the device too, and does so once
            publish_policy(ports.broker, site="bench", password=site.password(IDENTITY).read_text().strip())
            with floor(site, ports, options.values) as asker:
                ticks, began_s = machine_ticks(), time.monotonic()
                took, floors = map(sorted, uvloop.run(measure(site, options.writes, asker)))
                stolen = stolen_share(ticks)
        garbage = collections(site.folder / "collections", since_s=began_s)
    result = {
        "bench": "write",
        "writes": len(took),
        "values": options.values,
        "p50_ms": round(took[len(took) // 2], 3),
        "p99_ms": round(took[len(took) * 99 // 100], 3),
        "max_ms": round(took[-1], 3),
        "floor_p50_ms": round(floors[len(floors) // 2], 3),
        "floor_p99_ms": round(floors[len(floors) * 99 // 100], 3),
        "stolen": stolen,
        **garbage,
    }
    print(keep("write", result))


if __name__ == "__main__":
    main()
