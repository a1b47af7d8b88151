"""The plant's Modbus TCP server: the line's PLC (unit 1) and the energy meter (unit 2) behind one port."""

import math
from collections.abc import Callable

from contracts.v1.device import ValueType
from examples.plant.exchange import Exchange, Held
from examples.plant.model import Plant
from examples.plant.signals import FILLER_PLC, REGISTERS, UNITS, Register
from plugins.api.served import Served
from plugins.drivers.modbus.simulator import Access, Cell, ModbusSimulator, Unit

WIDTH = {
    ValueType.INT32: 2,
    ValueType.UINT32: 2,
    ValueType.FLOAT32: 2,
    ValueType.INT64: 4,
    ValueType.UINT64: 4,
    ValueType.FLOAT64: 4,
}
"""Registers of a value, where it is not one."""


class PlantModbusServer(Served):
    """Serves the model's registers while entered. refresh() carries the model over, writes come back at once."""

    def __init__(self, *, plant: Plant, host: str, port: int) -> None:
        self._plant = plant
        self._exchange: Exchange[Register] = Exchange(plant=plant, signals=REGISTERS)
        self._units = {number: Unit() for number in UNITS.values()}
        self._cells = {register: _cell(self._units[register.unit], register) for register in REGISTERS}
        self._server = ModbusSimulator(units=self._units, host=host, port=port)
        self._silent_until: float | None = None
        for number, unit in self._units.items():
            unit.on_write = self._writer(number)

    async def start(self) -> None:
        """Begins to serve what the model has now. Raises OSError if the port is taken."""
        self.refresh(0.0)
        await self._server.start()

    async def stop(self) -> None:
        """Serves no more."""
        await self._server.stop()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.port

    def refresh(self, now: float) -> None:
        """Carries what has changed in the model to the registers. now: seconds from any start, for the silent PLC."""
        self._obey_faults(now)
        for register, value in self._exchange.changes():
            if isinstance(value, float) and math.isnan(value):
                self._cut_wire(register)
            else:
                self._cells[register].set(value)

    def _cut_wire(self, register: Register) -> None:
        """What is no number has no encoding of its own; all bits set are a NaN in each order of the bytes."""
        unit = self._units[register.unit]
        table = unit.input if register.table == "input" else unit.holding
        table.put(register.address, b"\xff\xff" * WIDTH[register.type])

    def _obey_faults(self, now: float) -> None:
        faults = self._plant.faults
        if faults.silent_s and self._silent_until is None:
            self._silent_until = now + faults.silent_s
        elif self._silent_until is not None and now >= self._silent_until:
            self._silent_until, faults.silent_s = None, 0
        self._units[UNITS[FILLER_PLC]].silent = self._silent_until is not None
        if faults.drop:
            faults.drop = False
            self._server.drop()

    def _writer(self, number: int) -> Callable[[Access], None]:
        mine = [register for register in REGISTERS if register.unit == number and register.writable]

        def written(access: Access) -> None:
            """Hands the model each writable register that the access touched."""
            for register in mine:
                if access.table == register.table and _touches(access, register):
                    self._exchange.take(register, _held(self._cells[register]))

        return written


def _cell(unit: Unit, register: Register) -> Cell:
    fields: dict[str, object] = {}
    if register.length:
        fields["length"] = register.length
    elif register.type in WIDTH:
        fields["order"] = register.order
    return unit.cell(f"{register.table}:{register.address}", register.type, **fields)


def _held(cell: Cell) -> Held | None:
    value = cell.get()
    return value if isinstance(value, bool | int | float | str) else None


def _touches(access: Access, register: Register) -> bool:
    width = register.length or WIDTH.get(register.type, 1)
    return access.address < register.address + width and register.address < access.address + access.count
