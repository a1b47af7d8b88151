"""A Modbus server of libmodbus (the C library), run as a process of its own.

`libmodbus_server.py LIBRARY tcp`, or `libmodbus_server.py LIBRARY rtu PATH`.


It has 100 coils, 100 discrete inputs, 200 holding and 200 input registers, all from address 0 on: holding register n
holds n, input register n holds 1000 + n, every third coil is on. On TCP it prints its port; then "ready".
"""

import ctypes
import os
import socket
import sys

COILS, REGISTERS = 100, 200
UNIT = 17
_MAX_MESSAGE = 260
_RTU_BAUD = 115200


class _Mapping(ctypes.Structure):
    """modbus_mapping_t of libmodbus 3.1."""

    _fields_ = (
        ("nb_bits", ctypes.c_int),
        ("start_bits", ctypes.c_int),
        ("nb_input_bits", ctypes.c_int),
        ("start_input_bits", ctypes.c_int),
        ("nb_input_registers", ctypes.c_int),
        ("start_input_registers", ctypes.c_int),
        ("nb_registers", ctypes.c_int),
        ("start_registers", ctypes.c_int),
        ("tab_bits", ctypes.POINTER(ctypes.c_uint8)),
        ("tab_input_bits", ctypes.POINTER(ctypes.c_uint8)),
        ("tab_input_registers", ctypes.POINTER(ctypes.c_uint16)),
        ("tab_registers", ctypes.POINTER(ctypes.c_uint16)),
    )


def library(path: str) -> ctypes.CDLL:
    """libmodbus. Raises OSError where it is not."""
    found = ctypes.CDLL(path, use_errno=True)
    for name in ("modbus_new_tcp", "modbus_new_rtu"):
        getattr(found, name).restype = ctypes.c_void_p
    found.modbus_new_rtu.argtypes = (ctypes.c_char_p, ctypes.c_int, ctypes.c_char, ctypes.c_int, ctypes.c_int)
    found.modbus_mapping_new.restype = ctypes.POINTER(_Mapping)
    return found


def filled(modbus: ctypes.CDLL) -> "ctypes._Pointer[_Mapping]":
    """The tables."""
    mapping = modbus.modbus_mapping_new(COILS, COILS, REGISTERS, REGISTERS)
    for place in range(REGISTERS):
        mapping.contents.tab_registers[place] = place
        mapping.contents.tab_input_registers[place] = 1000 + place
    for place in range(COILS):
        mapping.contents.tab_bits[place] = place % 3 == 0
    return mapping


def serve_tcp(modbus: ctypes.CDLL) -> None:
    """One client after the other."""
    context = ctypes.c_void_p(modbus.modbus_new_tcp(b"127.0.0.1", 0))
    listening = modbus.modbus_tcp_listen(context, 1)
    with socket.socket(fileno=os.dup(listening)) as copy:
        say(copy.getsockname()[1])
    say("ready")
    mapping, place = filled(modbus), ctypes.c_int(listening)
    while modbus.modbus_tcp_accept(context, ctypes.byref(place)) >= 0:
        answer_all(modbus, context, mapping)
        modbus.modbus_close(context)


def serve_rtu(modbus: ctypes.CDLL, path: str) -> None:
    """As unit 17."""
    context = ctypes.c_void_p(modbus.modbus_new_rtu(path.encode(), _RTU_BAUD, b"N", 8, 1))
    modbus.modbus_set_slave(context, UNIT)
    if modbus.modbus_connect(context) < 0:
        raise OSError(ctypes.get_errno(), path)
    say("ready")
    mapping = filled(modbus)
    while True:
        answer_all(modbus, context, mapping)


def say(word: object) -> None:
    """A line, at once."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def answer_all(modbus: ctypes.CDLL, context: ctypes.c_void_p, mapping: "ctypes._Pointer[_Mapping]") -> None:
    """Until the client goes, or a request cannot be received."""
    query = (ctypes.c_uint8 * _MAX_MESSAGE)()
    while (length := modbus.modbus_receive(context, query)) >= 0:
        if length > 0:  # 0: for another unit
            modbus.modbus_reply(context, query, length, mapping)


if __name__ == "__main__":
    if sys.argv[2] == "tcp":
        serve_tcp(library(sys.argv[1]))
    else:
        serve_rtu(library(sys.argv[1]), sys.argv[3])
