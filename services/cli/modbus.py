"""`dinrail modbus scan`: its options, and the connection that they name."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel, ValidationError

from plugins.api.driver import DeviceError, DeviceSpec
from plugins.api.registry import PluginError, Registry
from plugins.api.scan import Scans
from services.cli.modbus_scan import Scan, parse_units, show_places, show_units
from services.cli.options import AsJson, fail
from services.cli.table import console
from services.gateway.settings import SHIPPED_DRIVERS

ALL_UNITS = "1-247"
modbus_app = typer.Typer(no_args_is_help=True, help="Modbus: look what there is on a line. Nothing is ever written.")


@modbus_app.callback()
def modbus() -> None:
    """Keeps `scan` a command of its own: an app of one command would be that command."""


Target = Annotated[str | None, typer.Argument(metavar="[HOST[:PORT]]", help="Where a device or gateway is on TCP.")]
Units = Annotated[str | None, typer.Option(help="Units to try, such as 1-10,17.", show_default=ALL_UNITS)]
Registers = Annotated[
    list[str] | None, typer.Option(help="Show what can be read here, such as holding:0-200; may be repeated.")
]
UnitOption = Annotated[
    int | None,
    typer.Option(
        "--unit", min=0, max=255, help="The unit whose registers are shown, or that is tried.", show_default="1"
    ),
]
SerialPort = Annotated[str | None, typer.Option("--serial", help="A serial port, such as /dev/ttyUSB0.")]
Baud = Annotated[int, typer.Option("--baud", help="Of the serial line.")]
ParityOption = Annotated[str, typer.Option("--parity", help="Of the serial line: none, even or odd.")]
StopBits = Annotated[int, typer.Option("--stop-bits", help="Of the serial line: 1 or 2.")]
TransportOption = Annotated[str, typer.Option("--transport", help="On TCP: tcp, tls or rtu-tcp.")]
Ca = Annotated[str | None, typer.Option("--ca", help="With tls: who signed the server's certificate (PEM).")]
Timeout = Annotated[str, typer.Option(help="How long a unit may take to answer.")]
Rate = Annotated[float, typer.Option(min=0.1, max=1000, help="Requests per second, at most.")]


@modbus_app.command()
def scan(
    target: Target = None,
    *,
    units: Units = None,
    registers: Registers = None,
    unit: UnitOption = None,
    serial: SerialPort = None,
    baud: Baud = 19200,
    parity: ParityOption = "even",
    stop_bits: StopBits = 1,
    transport: TransportOption = "tcp",
    ca: Ca = None,
    timeout: Timeout = "300ms",
    rate: Rate = 20.0,
    as_json: AsJson = False,
) -> None:
    """Find the units that answer; with --registers, show what can be read from one of them. Never writes."""
    if (serial is None) == (target is None):
        fail("say where: a HOST[:PORT], or --serial with a port")
    if units is not None and (registers or unit is not None):
        fail("--units looks which units answer; write --unit for the one whose --registers are shown")
    if serial is not None:
        line = {"port": serial, "baudrate": baud, "parity": parity, "stop_bits": stop_bits}
        fields: dict[str, Any] = {"transport": "serial", "serial": line}
    else:
        fields = {"transport": transport, **_host_and_port(target or "")}
        fields |= {"tls": {"ca": ca}} if ca else {}
    fields |= {"timeout": timeout, "retries": 1 if registers else 0}
    driver, connection = _connection(fields)
    job = Scan(driver=driver, connection=connection, pause_s=1 / rate, console=console(), as_json=as_json)
    try:
        if registers:
            found = asyncio.run(show_places(job, 1 if unit is None else unit, registers))
        else:
            tried = [unit] if unit is not None else parse_units(ALL_UNITS if units is None else units)
            found = asyncio.run(show_units(job, tried))
    except (DeviceError, ValueError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("stopped; not everything was asked")
    raise typer.Exit(0 if found else 1)


def _host_and_port(target: str) -> dict[str, Any]:
    host, colon, port = target.rpartition(":")
    if not colon or "]" in port or (":" in host.strip("[]") and not host.startswith("[")):
        return {"host": target.strip("[]")}
    if not port.isdigit():
        fail(f"{port!r} is no port; write HOST or HOST:PORT, such as 192.0.2.17:502")
    return {"host": host.strip("[]"), "port": int(port)}


def _connection(fields: dict[str, Any]) -> tuple[Scans, BaseModel]:
    """The Modbus driver, and its connection of these fields."""
    try:
        driver = Registry([SHIPPED_DRIVERS], kind="driver").load("modbus").entry
        connection: BaseModel = driver.connection.model_validate(fields)
    except PluginError as error:
        fail(str(error))
    except ValidationError as error:
        fail("\n".join(f"{fault['loc'][-1]}: {fault['msg'].removeprefix('Value error, ')}" for fault in error.errors()))
    spec = DeviceSpec(name="scan", groups=(), connection=connection, folder=Path.cwd())
    complaints = [f"{'.'.join(map(str, one.path[1:]))}: {one.message}; {one.mend}" for one in driver.check(spec)]
    if complaints:
        fail("\n".join(complaints))
    return driver, connection
