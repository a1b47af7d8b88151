"""The Modbus TCP server on which writes are measured: the driver's simulator with one unit, in a process of its own."""

import argparse
import asyncio
import signal

import uvloop

from plugins.drivers.modbus.simulator import ModbusSimulator, Unit


async def serve(port: int) -> None:
    """Serves until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with ModbusSimulator(units={1: Unit()}, port=port):
        await stop.wait()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
