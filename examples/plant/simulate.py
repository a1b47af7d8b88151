"""Runs the demo plant: its model at 25 steps a second behind a Modbus TCP server and an OPC UA server.

    python -m examples.plant.simulate --modbus-port 15020 --opcua-port 48400 [--fault tank-leak ...]

Prints one line once both servers listen (a port given as 0 is chosen by the system) and ends with SIGTERM or Ctrl-C.
"""

import argparse
import asyncio
import dataclasses
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence

import uvloop

from examples.plant.modbus_server import PlantModbusServer
from examples.plant.model import Faults, Plant
from examples.plant.opcua_server import PlantOpcUaServer

STEP_S = 0.04
LONGEST_GAP_S = 1.0  # after a longer one, the machine slept: the plant slept too

FAULTS = {field.name.replace("_", "-"): field for field in dataclasses.fields(Faults)}


def fault(given: str) -> tuple[str, bool | int]:
    """The attribute of Faults that `given` names, and its value: tank-leak, or silent-s=10.

    Raises argparse.ArgumentTypeError.
    """
    name, _, amount = given.partition("=")
    field = FAULTS.get(name)
    if field is None:
        raise argparse.ArgumentTypeError(f"no fault {name!r}; there are: {', '.join(FAULTS)}")
    if field.type is not int:
        if amount:
            raise argparse.ArgumentTypeError(f"{name} takes no amount; write {name}")
        return field.name, True
    if not amount.isdigit():
        raise argparse.ArgumentTypeError(f"{name} takes seconds; write {name}=10")
    return field.name, int(amount)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    summary, _, _ = (__doc__ or "").partition("\n")
    result = argparse.ArgumentParser(prog="python -m examples.plant.simulate", description=summary)
    result.add_argument("--host", default="127.0.0.1", help="address to listen on")
    result.add_argument("--modbus-port", type=int, default=15020)
    result.add_argument("--opcua-port", type=int, default=48400)
    result.add_argument("--seed", type=int, default=1, help="of the sensors' noise")
    names = ", ".join(f"{name}=SECONDS" if field.type is int else name for name, field in FAULTS.items())
    result.add_argument(
        "--fault", type=fault, action="append", default=[], metavar="FAULT", help=f"switched on at the start: {names}"
    )
    return result


async def drive(plant: Plant, refresh: Callable[[float], Awaitable[None]], stop: asyncio.Event) -> None:
    """Keeps the plant in step with the clock, and its servers with the plant, until `stop` is set."""
    loop = asyncio.get_running_loop()
    last = loop.time()
    while not stop.is_set():
        try:
            async with asyncio.timeout_at(last + STEP_S):
                await stop.wait()
        except TimeoutError:
            now = loop.time()
            plant.step(min(now - last, LONGEST_GAP_S))
            last = now
            await refresh(now)


async def simulate(options: argparse.Namespace) -> None:
    """Serves until SIGTERM or SIGINT. Raises OSError where a port is taken."""
    plant = Plant.from_seed(options.seed)
    for name, value in options.fault:
        plant.command(f"faults.{name}", value)
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGINT, stop.set)
    async with (
        PlantModbusServer(plant=plant, host=options.host, port=options.modbus_port) as modbus,
        PlantOpcUaServer(plant=plant, host=options.host, port=options.opcua_port) as opcua,
    ):
        # Before, SIGTERM ends us at once: there is nothing to close yet, and a start cannot be broken off otherwise.
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        sys.stdout.write(f"plant ready: Modbus TCP on {options.host}:{modbus.port}, OPC UA on {opcua.url}\n")
        sys.stdout.flush()

        async def refresh(now: float) -> None:
            """now: seconds from any start, for the faults that last a while."""
            modbus.refresh(now)
            await opcua.refresh()

        await drive(plant, refresh, stop)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 after a clean stop, 1 where the plant cannot listen."""
    options = parser().parse_args(arguments)
    logging.getLogger("asyncua").setLevel(
        logging.ERROR
    )  # it warns of each thing that a demo without certificates lacks
    try:
        uvloop.run(simulate(options))
    except OSError as error:
        sys.stderr.write(f"plant cannot listen: {error}; choose other ports\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
