"""Faults of a device file, each with what would be right."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from plugins.api.bench import device_spec
from plugins.api.driver import Complaint
from plugins.drivers.modbus.config import Connection, Tag
from plugins.drivers.modbus.driver import DRIVER
from plugins.drivers.modbus.endpoint import endpoint_of


def complaints(
    tag: Mapping[str, Any], *, connection: Mapping[str, Any] | None = None, group: Mapping[str, Any] | None = None
) -> list[Complaint]:
    device = device_spec(
        DRIVER,
        connection={"host": "plc", "unit_id": 1} if connection is None else connection,
        groups={"fast": {**(group or {}), "tags": {"level": tag}}},
    )
    return list(DRIVER.check(device))


@pytest.mark.parametrize(
    ("tag", "field", "message", "mend"),
    [
        ({"address": "holding:65536", "type": "int16"}, "address", "65536 is beyond", "0..65535"),
        ({"address": "coil:70000", "type": "bool"}, "address", "70000 is beyond", "0..65535"),
        ({"address": "holding:65535", "type": "float32"}, "address", "runs beyond 65535", "at most 65534"),
        ({"address": "input:65533", "type": "int64"}, "address", "takes 4 registers", "at most 65532"),
        ({"address": "coil:5", "type": "int16"}, "type", "holds bits, not int16", "write type: bool"),
        ({"address": "coil:5", "type": "bool", "bit": 3}, "bit", "single bits", "remove bit"),
        ({"address": "discrete:5", "type": "bool", "order": "ABCD"}, "order", "single bits", "remove order"),
        ({"address": "coil:5", "type": "bool", "scale": 2.0}, "scale", "single bits", "remove scale"),
        ({"address": "holding:5", "type": "bool"}, "bit", "needs its bit", "add bit: 0 (lowest) to 15"),
        ({"address": "holding:5", "type": "int16", "bit": 3}, "bit", "no int16", "write type: bool"),
        ({"address": "holding:5", "type": "string"}, "length", "needs its length", "add length"),
        ({"address": "holding:5", "type": "int32", "length": 2}, "length", "is known", "remove length"),
        ({"address": "holding:5", "type": "array"}, "type", "no array", "one tag per element"),
        ({"address": "holding:5", "type": "int16", "scale": 0.1}, "scale", "makes a float", "raw: int16"),
        ({"address": "holding:5", "type": "uint32", "offset": 1.0}, "offset", "makes a float", "raw: uint32"),
        ({"address": "holding:5", "type": "int16", "raw": "int16"}, "raw", "makes a float", "type: float32"),
        ({"address": "holding:5", "type": "string", "length": 2, "scale": 2}, "scale", "string", "remove scale"),
        ({"address": "holding:5", "type": "float32", "order": "GHEFCDAB"}, "order", "64 bits", "write CDAB"),
        ({"address": "holding:5", "type": "int16", "order": "HGFEDCBA"}, "order", "64 bits", "write BADC"),
        ({"address": "holding:5", "type": "int16", "order": "CDAB"}, "order", "no such order", "leave it out"),
        ({"address": "holding:5", "type": "string", "length": 2, "order": "DCBA"}, "order", "string", "BADC"),
        (
            {"address": "holding:5", "type": "float32", "raw": "uint16", "order": "CDAB"},
            "order",
            "uint16",
            "leave it out",
        ),
        ({"address": "input:3", "type": "int16", "writable": True}, "writable", "input", "an address in holding"),
        ({"address": "discrete:3", "type": "bool", "writable": True}, "writable", "discrete", "an address in coil"),
        (
            {"address": "holding:5", "type": "string", "length": 124, "writable": True},
            "length",
            "more than one write",
            "123 registers",
        ),
    ],
)
def test_fields_that_do_not_go_together_are_named_with_a_mend(
    tag: dict[str, Any], field: str, message: str, mend: str
) -> None:
    (complaint,) = complaints(tag)

    assert complaint.path == ("groups", "fast", "tags", "level", field)
    assert message in complaint.message
    assert mend in complaint.mend


@pytest.mark.parametrize(
    "tag",
    [
        {"address": "holding:65535", "type": "int16"},
        {"address": "holding:65534", "type": "float32", "order": "CDAB"},
        {"address": "holding:0", "type": "float64", "order": "CDAB"},
        {"address": "holding:0", "type": "float64", "order": "GHEFCDAB"},
        {"address": "holding:0", "type": "uint16", "order": "BADC"},
        {"address": "holding:0", "type": "float32", "raw": "int16", "scale": 0.1, "writable": True},
        {"address": "holding:0", "type": "float64", "raw": "float64", "offset": 1, "order": "GHEFCDAB"},
        {"address": "holding:0", "type": "float32", "scale": 0.5},
        {"address": "input:0", "type": "bool", "bit": 0, "order": "BADC"},
        {"address": "holding:0", "type": "bool", "bit": 15, "writable": True},
        {"address": "holding:0", "type": "string", "length": 125},
        {"address": "coil:65535", "type": "bool", "writable": True},
    ],
)
def test_fields_that_go_together_draw_no_complaint(tag: dict[str, Any]) -> None:
    assert complaints(tag) == []


def test_a_value_longer_than_the_devices_requests_is_refused() -> None:
    connection = {"host": "plc", "unit_id": 1, "max_registers": 1}

    (complaint,) = complaints({"address": "holding:5", "type": "float32"}, connection=connection)

    assert complaint.path[-1] == "address"
    assert "max_registers to 2" in complaint.mend


def test_a_missing_unit_id_is_refused_unless_every_group_has_one() -> None:
    tag = {"address": "holding:5", "type": "int16"}

    (complaint,) = complaints(tag, connection={"host": "plc"})

    assert complaint.path == ("connection", "unit_id")
    assert "fast" in complaint.message
    assert "add unit_id" in complaint.mend
    assert complaints(tag, connection={"host": "plc"}, group={"unit_id": 7}) == []


def test_overlapping_tags_are_allowed() -> None:
    tags = {
        "word": {"address": "holding:5", "type": "uint16"},
        "bit": {"address": "holding:5", "type": "bool", "bit": 2},
        "same": {"address": "holding:5", "type": "uint16"},
    }
    device = device_spec(DRIVER, connection={"host": "plc", "unit_id": 1}, groups={"fast": {"tags": tags}})

    assert list(DRIVER.check(device)) == []


@pytest.mark.parametrize(
    ("given", "message", "mend"),
    [
        ("holdng:10", "no Modbus address", "holding:10, input:3, coil:5 or discrete:7"),
        ("holding:-1", "no Modbus address", "counted from 0"),
        ("holding", "no Modbus address", "counted from 0"),
        (40011, "'40011' names no table", "write holding:10"),
        ("30001", "'30001' names no table", "write input:0"),
        ("400011", "'400011' names no table", "write holding:10"),
        ("10008", "names no table", "write discrete:7"),
        ("00006", "names no table", "write coil:5"),
        (40000, "no Modbus address", "counted from 0"),
    ],
)
def test_an_address_that_cannot_be_read_is_refused_with_the_right_one(given: object, message: str, mend: str) -> None:
    assert_refused({"address": given}, "address", message, mend)


@pytest.mark.parametrize("name", ["ABDC", "big", "abcd", "BADCFEGH"])
def test_an_unknown_order_is_refused_with_the_right_ones(name: str) -> None:
    assert_refused({"address": "holding:1", "order": name}, "order", "no byte order", "ABCD, CDAB, BADC, DCBA")


@pytest.mark.parametrize("name", ["bool", "string", "array", "int8", 16])
def test_an_unknown_raw_type_is_refused_with_the_right_ones(name: object) -> None:
    assert_refused({"address": "holding:1", "raw": name}, "raw", "no type of a number", "int16, uint16, int32")


def test_a_scale_of_0_is_refused() -> None:
    assert_refused({"address": "holding:1", "scale": 0}, "scale", "every value the same", "other than 0")


def assert_refused(fields: Mapping[str, Any], field: str, message: str, mend: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Tag.model_validate(fields)
    (error,) = caught.value.errors()
    said, _, mended = error["msg"].partition("; ")
    assert error["loc"] == (field,)
    assert message in said
    assert mend in mended


@pytest.mark.parametrize(
    "fields",
    [
        {"unit_id": 256},
        {"unit_id": -1},
        {"unit_id": "1"},
        {"port": 0},
        {"timeout": "0s"},
        {"timeout": 1},
        {"timeout": "2m"},
        {"retries": -1},
        {"max_registers": 126},
        {"max_registers": 0},
        {"max_bits": 2001},
        {"max_gap": -1},
        {"hots": "plc"},
        {"host": ""},
    ],
)
def test_a_connection_beyond_what_the_protocol_allows_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Connection.model_validate({"host": "plc", **fields})


def test_a_connection_that_says_only_its_host_has_the_usual_limits() -> None:
    connection = Connection.model_validate({"host": "plc"})

    assert (endpoint_of(connection).port, connection.timeout, connection.retries) == (502, 1.0, 1)
    assert (connection.max_registers, connection.max_bits, connection.max_gap) == (125, 2000, 50)


SERIAL = {"port": "/dev/ttyUSB0"}


@pytest.mark.parametrize(
    ("connection", "path", "message", "mend"),
    [
        ({}, ("host",), "transport tcp needs a host", "add host"),
        ({"transport": "rtu-tcp"}, ("host",), "transport rtu-tcp needs a host", "add host"),
        ({"transport": "serial"}, ("serial",), "a serial line needs its port", "add serial: {port: /dev/ttyUSB0"),
        ({"transport": "serial", "serial": SERIAL, "host": "plc"}, ("host",), "says nothing", "transport: rtu-tcp"),
        ({"transport": "serial", "serial": SERIAL, "port": 502}, ("port",), "says nothing", "remove port"),
        ({"transport": "serial", "serial": SERIAL, "in_flight": 2}, ("in_flight",), "only one", "remove in_flight"),
        ({"transport": "serial", "serial": SERIAL, "unit_id": 0}, ("unit_id",), "unit 0 is every", "write 1..247"),
        ({"transport": "rtu-tcp", "host": "moxa", "unit_id": 0}, ("unit_id",), "unit 0 is every", "write 1..247"),
        ({"transport": "serial", "serial": SERIAL, "unit_id": 255}, ("unit_id",), "no unit 255", "write 1..247"),
        ({"host": "plc", "serial": SERIAL}, ("serial",), "says nothing about transport tcp", "transport: serial"),
        ({"host": "plc", "tls": {"ca": "ca.pem"}}, ("tls",), "says nothing about transport tcp", "transport: tls"),
        ({"host": "192.0.2.17:503"}, ("host",), "more than a host", "write host: 192.0.2.17 and port: 503"),
        ({"host": "tcp://plc:503/"}, ("host",), "more than a host", "write host: plc and port: 503"),
        ({"host": "modbus://plc"}, ("host",), "more than a host", "write host: plc"),
        ({"host": "/dev/ttyUSB0"}, ("host",), "no host", "write transport: serial and serial: {port: /dev/ttyUSB0}"),
        ({"host": "plc", "pause": "10ms"}, ("pause",), "says nothing about transport tcp", "remove pause"),
        (
            {"host": "plc", "transport": "tls", "tls": {"certificate": "own.pem"}},
            ("tls", "key"),
            "go together",
            "add key",
        ),
        (
            {"host": "plc", "transport": "tls", "tls": {"key": "own.key"}},
            ("tls", "certificate"),
            "go together",
            "add certificate",
        ),
    ],
)
def test_fields_of_a_connection_that_do_not_go_together_are_named(
    connection: dict[str, Any], path: tuple[str, ...], message: str, mend: str
) -> None:
    (found,) = complaints({"address": "holding:5", "type": "int16"}, connection={"unit_id": 1, **connection})

    assert found.path == ("connection", *path)
    assert message in found.message
    assert mend in found.mend


def test_a_group_on_a_serial_line_has_a_unit_that_can_be_there() -> None:
    connection = {"transport": "serial", "serial": SERIAL}
    (found,) = complaints({"address": "holding:5", "type": "int16"}, connection=connection, group={"unit_id": 248})

    assert found == Complaint(("groups", "fast", "unit_id"), "there is no unit 248 on a serial line", "write 1..247")


@pytest.mark.parametrize("host", ["plc", "plc-7.plant.example", "192.0.2.17", "2001:db8::17", "::1"])
def test_a_name_or_an_address_is_a_host(host: str) -> None:
    assert complaints({"address": "holding:5", "type": "int16"}, connection={"host": host, "unit_id": 1}) == []


def test_a_unit_of_which_serial_servers_have_some_though_no_line_has_is_taken() -> None:
    connection = {"transport": "rtu-tcp", "host": "moxa", "unit_id": 255}

    assert complaints({"address": "holding:5", "type": "int16"}, connection=connection) == []


@pytest.mark.parametrize(
    ("connection", "port"),
    [
        ({}, 502),
        ({"transport": "tls"}, 802),
        ({"transport": "rtu-tcp"}, 502),
        ({"transport": "tls", "port": 8020}, 8020),
    ],
)
def test_each_transport_has_its_usual_port(connection: dict[str, Any], port: int) -> None:
    assert endpoint_of(Connection.model_validate({"host": "plc", **connection})).port == port


def test_relative_paths_of_tls_files_begin_at_the_sites_folder() -> None:
    tls = {"ca": "pki/ca.pem", "certificate": "/etc/own.pem", "key": "own.key"}
    connection = Connection.model_validate({"host": "plc", "transport": "tls", "tls": tls})

    rooted = endpoint_of(connection, Path("/site")).tls

    assert rooted is not None
    assert (rooted.ca, rooted.certificate, rooted.key) == (
        Path("/site/pki/ca.pem"),
        Path("/etc/own.pem"),
        Path("/site/own.key"),
    )
