"""The faults of a Modbus device file that its models cannot see: fields right alone and wrong together. Pure."""

from collections.abc import Iterator

from contracts.v1.device import ValueType
from plugins.api.driver import Complaint, DeviceSpec, GroupSpec, TagSpec

from .address import LAST_ADDRESS, Table
from .codec import register_field
from .config import MAX_REGISTERS_WRITTEN, Connection, Order, Tag, Transport

_FLOATS = frozenset({ValueType.FLOAT32, ValueType.FLOAT64})
_OF_64_BITS = frozenset({ValueType.INT64, ValueType.UINT64, ValueType.FLOAT64})
_OF_16_BITS = frozenset({ValueType.INT16, ValueType.UINT16, ValueType.BOOL, ValueType.STRING})
_REGISTER_FIELDS = ("order", "bit", "length", "raw", "scale", "offset")
LAST_UNIT = 247
"""On a serial line; 0 is a broadcast, which nobody answers (MODBUS over Serial Line V1.02, 2.2)."""

Finding = tuple[str, str, str]
"""field, message, mend"""


def complaints(device: DeviceSpec) -> Iterator[Complaint]:
    """Every fault, in the order of the file."""
    connection: Connection = device.connection
    without_unit = [group.name for group in device.groups if group.options.unit_id is None]
    if connection.unit_id is None and without_unit:
        message = f"unit_id is missing, and so it is in group {', '.join(without_unit)}"
        yield Complaint(
            ("connection", "unit_id"), message, "add unit_id: 1 (1..247, or 255 for a device without units)"
        )
    for field, message, mend in _connection_findings(connection):
        yield Complaint(("connection", *field.split(".")), message, mend)
    for group in device.groups:
        yield from _group_complaints(group, connection)


def _connection_findings(connection: Connection) -> Iterator[Finding]:
    transport = connection.transport
    if transport is Transport.SERIAL:
        if connection.serial is None:
            mend = "add serial: {port: /dev/ttyUSB0, baudrate: 9600, parity: none} with the line's own settings"
            yield "serial", "a serial line needs its port", mend
        for field in ("host", "port"):
            if getattr(connection, field) is not None:
                yield field, f"{field} says nothing about a serial line", f"remove {field}, or write transport: rtu-tcp"
    else:
        if connection.host is None:
            yield "host", f"transport {transport} needs a host", "add host: with the device's name or address"
        else:
            yield from _host_findings(connection.host)
        if connection.serial is not None:
            yield "serial", f"serial says nothing about transport {transport}", "remove it, or write transport: serial"
    if connection.tls is not None and transport is not Transport.TLS:
        yield "tls", f"tls says nothing about transport {transport}", "remove it, or write transport: tls"
    if connection.tls is not None and (connection.tls.key is None) != (connection.tls.certificate is None):
        missing = "key" if connection.tls.key is None else "certificate"
        yield f"tls.{missing}", "a certificate and its key go together", f"add {missing}: with the PEM file's path"
    yield from _line_findings(connection)


def _host_findings(host: str) -> Iterator[Finding]:
    name, _, port = (host.partition("://")[2] or host).rstrip("/").partition(":")
    if host.startswith("/"):
        yield "host", f"{host!r} is no host", f"write transport: serial and serial: {{port: {host}}}"
    elif "://" in host or (port.isdigit() and host.count(":") == 1):
        mend = f"write host: {name} and port: {port}" if port.isdigit() else f"write host: {name}"
        yield "host", f"{host!r} is more than a host", mend


def _line_findings(connection: Connection) -> Iterator[Finding]:
    transport = connection.transport
    if transport.half_duplex and connection.in_flight > 1:
        yield "in_flight", f"on {transport} only one request can be under way", "remove in_flight"
    if not transport.half_duplex and connection.pause:
        yield "pause", f"pause says nothing about transport {transport}", "remove pause"
    if connection.unit_id is not None and (message := _no_unit(connection.unit_id, transport)):
        yield "unit_id", message, f"write 1..{LAST_UNIT}"


def _no_unit(unit: int, transport: Transport) -> str | None:
    """Why no device answers to this unit; of a serial server some do beyond the last."""
    if transport is Transport.SERIAL and unit > LAST_UNIT:
        return f"there is no unit {unit} on a serial line"
    if transport.half_duplex and unit == 0:
        return "unit 0 is every unit on the line: none answers, and each does what is written"
    return None


def _group_complaints(group: GroupSpec, connection: Connection) -> Iterator[Complaint]:
    unit = group.options.unit_id
    if unit is not None and (message := _no_unit(unit, connection.transport)):
        yield Complaint(("groups", group.name, "unit_id"), message, f"write 1..{LAST_UNIT}")
    for tag in group.tags:
        for field, message, mend in _tag_findings(tag, connection):
            yield Complaint(("groups", group.name, "tags", tag.name, field), message, mend)


def _tag_findings(tag: TagSpec, connection: Connection) -> Iterator[Finding]:
    source: Tag = tag.source
    table, number = source.address.table, source.address.number
    if number > LAST_ADDRESS:
        yield "address", f"address {number} is beyond the last one", f"write 0..{LAST_ADDRESS}, counted from 0"
        return
    if tag.writable and not table.writable:
        instead = Table.COIL if table.of_bits else Table.HOLDING
        yield "writable", f"a client cannot write to {table}", f"remove writable, or give an address in {instead}"
    findings = list(_bit_findings(tag) if table.of_bits else _register_findings(tag))
    yield from findings
    if not findings and not table.of_bits:
        yield from _length_findings(tag, connection)


def _bit_findings(tag: TagSpec) -> Iterator[Finding]:
    source: Tag = tag.source
    if tag.type is not ValueType.BOOL:
        yield (
            "type",
            f"{source.address.table} holds bits, not {tag.type}",
            "write type: bool, or a holding or input address",
        )
    for field in _REGISTER_FIELDS:
        if field in source.model_fields_set:
            yield (
                field,
                f"{field} says nothing about {source.address.table}, which holds single bits",
                f"remove {field}",
            )


def _register_findings(tag: TagSpec) -> Iterator[Finding]:
    source: Tag = tag.source
    if tag.type is ValueType.ARRAY:
        yield "type", "registers hold no array", "write one tag per element"
        return
    if tag.type is ValueType.BOOL and source.bit is None:
        yield (
            "bit",
            "a bool in a register needs its bit",
            "add bit: 0 (lowest) to 15, or give an address in coil or discrete",
        )
    if tag.type is not ValueType.BOOL and source.bit is not None:
        yield "bit", f"one bit is no {tag.type}", "write type: bool, or remove bit"
    if tag.type is ValueType.STRING and source.length is None:
        yield "length", "a string needs its length", "add length: how many registers, two bytes each"
    if tag.type is not ValueType.STRING and source.length is not None:
        yield "length", f"the length of {tag.type} is known", "remove length, or write type: string"
    yield from _scale_findings(tag)
    yield from _order_findings(source.raw or tag.type, source)


def _scale_findings(tag: TagSpec) -> Iterator[Finding]:
    source: Tag = tag.source
    if tag.type in _FLOATS:
        return
    for field in ("raw", "scale", "offset"):
        if getattr(source, field) is not None:
            numeric = tag.type not in {ValueType.BOOL, ValueType.STRING}
            mend = f"write type: float32 (or float64) and raw: {tag.type}" if numeric else f"remove {field}"
            yield field, f"{field} makes a float of the value, which is declared {tag.type}", mend


def _order_findings(raw: ValueType, source: Tag) -> Iterator[Finding]:
    order = source.order
    if order.bits == 64 and raw not in _OF_64_BITS:
        yield "order", f"an order of eight letters is for 64 bits, not {raw}", _fitting_order(raw, order.order)
    elif raw in _OF_16_BITS and order.order in {Order.CDAB, Order.DCBA}:
        message = f"{order.order} orders the registers of a number, and {raw} has no such order"
        yield "order", message, _fitting_order(raw, order.order)


def _fitting_order(raw: ValueType, order: Order) -> str:
    if raw not in _OF_16_BITS:
        return f"write {order}"
    if order in {Order.ABCD, Order.CDAB}:
        return "leave it out, or write BADC if the two bytes of each register are swapped"
    return "write BADC (the two bytes of each register are swapped)"


def _length_findings(tag: TagSpec, connection: Connection) -> Iterator[Finding]:
    number = tag.source.address.number
    words = register_field(tag.type, tag.source).words
    if number + words - 1 > LAST_ADDRESS:
        mend = f"write an address of at most {LAST_ADDRESS + 1 - words}"
        yield "address", f"{tag.type} takes {words} registers and runs beyond {LAST_ADDRESS}", mend
    if words > connection.max_registers:
        mend = f"raise connection.max_registers to {words}, or shorten the value"
        yield "address", f"{words} registers are more than one request of {connection.max_registers} brings", mend
    if tag.writable and words > MAX_REGISTERS_WRITTEN:
        mend = f"remove writable, or shorten it to {MAX_REGISTERS_WRITTEN} registers"
        yield "length", f"{words} registers are more than one write takes", mend
