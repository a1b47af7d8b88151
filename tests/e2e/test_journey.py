"""A value changed in a machine arrives on its tag topic, in a frame and in each history: value, type and time equal."""

import json
import urllib.parse
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from math import isclose
from pathlib import Path
from typing import Any

import pytest
import urllib3

from contracts.v1.device import ValueType
from contracts.v1.tag import TAG
from plugins.drivers.modbus.simulated_unit import Unit
from plugins.drivers.modbus.simulator import ModbusSimulator
from plugins.drivers.opcua.simulator import NAMESPACE, OpcUaSimulator
from services.recorder.embedded.history import History
from tests.e2e.stack import SITE, START_S, Stack, Viewer, viewer
from tests.influx_proxy import TOKEN, influx_proxy
from tests.polling import until
from tests.servers import influxd, victoria_metrics

pytestmark = pytest.mark.timeout(180)
BUCKET = "history"

REGISTERS: dict[str, tuple[str, ValueType, str, Any]] = {
    "level": ("holding:0", ValueType.FLOAT32, "ABCD", 50.0),
    "flow": ("holding:2", ValueType.FLOAT64, "CDAB", 0.1),
    "count": ("holding:6", ValueType.INT16, "ABCD", -7),
    "total": ("holding:8", ValueType.UINT32, "CDAB", 4_000_000_000),
    "energy": ("holding:10", ValueType.INT64, "DCBA", -(2**62)),
    "serial": ("holding:14", ValueType.UINT64, "BADC", 2**63 - 1),
}
"""Tag: address, type, order, value to be set."""
NODES: dict[str, tuple[ValueType, Any, Any]] = {
    "Temperature": (ValueType.FLOAT64, 20.5, 72.25),
    "Batch": (ValueType.INT64, 1, 4711),
    "Running": (ValueType.BOOL, False, True),
    "Recipe": (ValueType.STRING, "water", 'Süß, "rot" = 1\\'),
    "Profile": (ValueType.ARRAY, [0.0], [1.5, -2.25, 1e-9]),
}
"""Variable: type, value at first, value to be set."""


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, str]]:
    """InfluxDB's own address, the address of its v2 write API, and VictoriaMetrics'."""
    with (
        influxd(tmp_path_factory.mktemp("influxd")) as influx,
        influx_proxy(influx) as api,
        victoria_metrics(tmp_path_factory.mktemp("victoria")) as victoria,
    ):
        urllib3.request("POST", f"{influx}/query", fields={"q": f"CREATE DATABASE {BUCKET}"})
        yield influx, api, victoria


class Machines:
    """A PLC and an OPC UA server in this process."""

    def __init__(self) -> None:
        self.unit = Unit()
        self.plc = ModbusSimulator(units={1: self.unit})
        self.server = OpcUaSimulator(nodes={name: first for name, (_, first, _) in NODES.items()})

    def plc_file(self) -> dict[str, Any]:
        tags: dict[str, Any] = {
            name: {"address": address, "type": str(kind), "order": order}
            for name, (address, kind, order, _) in REGISTERS.items()
        }
        tags["recipe"] = {"address": "holding:20", "type": "string", "length": 8}
        tags["running"] = {"address": "coil:3", "type": "bool"}
        tags["alarm"] = {"address": "holding:30", "bit": 4, "type": "bool"}
        connection = {"host": "127.0.0.1", "port": self.plc.port, "unit_id": 1}
        return {
            "device": "plc",
            "driver": "modbus",
            "connection": connection,
            "groups": {"all": {"interval": "100ms", "tags": tags}},
        }

    def server_file(self) -> dict[str, Any]:
        tags = {
            name.lower(): {"node": f"nsu={NAMESPACE};s={name}", "type": str(kind)}
            for name, (kind, _, _) in NODES.items()
        }
        groups = {"all": {"interval": "100ms", "mode": "subscribe", "tags": tags}}
        return {"device": "server", "driver": "opcua", "connection": {"url": self.server.url}, "groups": groups}

    def change_plc(self) -> dict[str, Any]:
        """Sets every register to its new value; what each tag then is."""
        for address, kind, order, value in REGISTERS.values():
            self.unit.set_value(address, kind, value, order=order)
        self.unit.set_value("holding:20", ValueType.STRING, "Apfelsaft", length=8)
        self.unit.coil[3] = True
        self.unit.set_value("holding:30", ValueType.UINT16, 1 << 4)
        return {name: value for name, (*_, value) in REGISTERS.items()} | {
            "recipe": "Apfelsaft",
            "running": True,
            "alarm": True,
        }


@pytest.fixture
async def spine(tmp_path: Path, databases: tuple[str, str, str]) -> AsyncIterator[tuple[Stack, Machines]]:
    """The site with three recorders: embedded history, InfluxDB, VictoriaMetrics."""
    _, api, victoria = databases
    machines = Machines()
    async with AsyncExitStack() as exits:
        await exits.enter_async_context(machines.plc)
        await exits.enter_async_context(machines.server)
        stack = Stack.make(tmp_path / "site", example=None)
        stack.device("plc", machines.plc_file())
        stack.device("server", machines.server_file())
        token = tmp_path / "token"
        token.write_text(TOKEN)
        for name, url in (("influx", api), ("victoria", victoria)):
            stack.service(
                "recorder",
                name=f"recorder-{name}",
                environment={
                    "DINRAIL_RECORDER__INSTANCE": f"recorder-{name}",
                    "DINRAIL_RECORDER__DATA": str(tmp_path / name),
                    "DINRAIL_RECORDER__HTTP_PORT": "0",
                    "DINRAIL_RECORDER__STORE__KIND": "influxdb",
                    "DINRAIL_RECORDER__STORE__URL": url,
                    "DINRAIL_RECORDER__STORE__BUCKET": BUCKET,
                    "DINRAIL_RECORDER__STORE__TOKEN_FILE": str(token),
                    "DINRAIL_RECORDER__STORE__FLUSH": "100ms",
                },
            )
        exits.push_async_callback(stack.close)
        await stack.start("broker", "recorder", "recorder-influx", "recorder-victoria", "gateway")
        yield stack, machines


def seen(view: Viewer, device: str, tag: str, value: Any) -> int | None:
    """The source time in µs of the first frame that has this value in this type, or None."""
    for frame in view.frames.get((device, "all"), []):
        for sample in frame.samples:
            found = sample.v.get(tag)
            if tag in (sample.big or ()):
                assert isinstance(found, str)
                found = int(found)
            if found == value and type(found) is type(value):
                return sample.t + (sample.dt or {}).get(tag, 0)
    return None


async def in_frames(view: Viewer, device: str, wanted: dict[str, Any]) -> dict[str, int]:
    """Waits until every value was in a frame; the source time of each."""
    await view.wait(
        lambda: all(seen(view, device, tag, value) is not None for tag, value in wanted.items()), f"{device}: {wanted}"
    )
    return {tag: seen(view, device, tag, value) or 0 for tag, value in wanted.items()}


async def on_tag_topics(view: Viewer, device: str, wanted: dict[str, Any], times: dict[str, int]) -> None:
    for tag, value in wanted.items():
        shown = str(value) if isinstance(value, int) and abs(value) > 2**53 - 1 else value

        def arrived(tag: str = tag, shown: Any = shown) -> bool:
            last = view.value(TAG, device=device, tag=tag)
            return last is not None and last.value == shown and type(last.value) is type(shown)

        await view.wait(arrived, f"tag {tag} is {shown!r}")
        last = view.value(TAG, device=device, tag=tag)
        assert last is not None
        assert last.q == 192
        assert last.ts >= times[tag] // 1000, "a source time, not before the change"


async def in_embedded_history(stack: Stack, device: str, wanted: dict[str, Any], times: dict[str, int]) -> None:
    history = History(stack.site.data / "recorder" / "recorder.db")
    for tag, value in wanted.items():

        def held(tag: str = tag, value: Any = value) -> bool:
            points = history.read(device, tag, times[tag], times[tag] + 1)
            return [(t, found, type(found), q) for t, found, q in points] == [(times[tag], value, type(value), 192)]

        await until(held, START_S, what=f"embedded history: {tag} = {value!r} at {times[tag]}")


def influx_row(server: str, device: str, tag: str, time: int) -> dict[str, Any]:
    """The fields of the point at this microsecond; numbers as the text that InfluxDB wrote."""
    text = f"SELECT * FROM \"tag\" WHERE device = '{device}' AND \"tag\" = '{tag}' AND time = {time}u"
    answer = urllib3.request("POST", f"{server}/query?db={BUCKET}&epoch=u", fields={"q": text})
    result = json.loads(answer.data, parse_float=str, parse_int=str)["results"][0]
    series = result.get("series")
    return dict(zip(series[0]["columns"], series[0]["values"][0], strict=True)) if series else {}


async def in_influxdb(server: str, device: str, wanted: dict[str, Any], times: dict[str, int]) -> None:
    fields: dict[type, str] = {float: "f", int: "i", bool: "b", str: "s", list: "a"}
    for tag, value in wanted.items():
        row = f"InfluxDB: {tag} at {times[tag]}"
        await until(lambda tag=tag: influx_row(server, device, tag, times[tag]), START_S, what=row)
        row = influx_row(server, device, tag, times[tag])
        assert int(row["time"]) == times[tag]
        field = fields[type(value)]
        assert [name for name in ("f", "i", "b", "s", "a") if row.get(name) is not None] == [field], (
            "one field, that of the type"
        )
        stored = row[field]
        found = {"f": float, "i": int, "a": json.loads}.get(field, lambda same: same)(stored)
        assert found == value
        assert int(row["q"]) == 192


async def in_victoria_metrics(server: str, device: str, wanted: dict[str, Any], times: dict[str, int]) -> None:
    for tag, value in wanted.items():
        if isinstance(value, bool | str | list):
            continue
        query = urllib.parse.urlencode({"match[]": f'{{device="{device}",tag="{tag}"}}'})

        def exported(query: str = query, value: Any = value, tag: str = tag) -> bool:
            lines = urllib3.request("GET", f"{server}/api/v1/export?{query}").data.splitlines()
            rows = [row for row in map(json.loads, lines) if row["metric"]["__name__"] in {"tag_f", "tag_i"}]
            points = [point for row in rows for point in zip(row["timestamps"], row["values"], strict=True)]
            # VictoriaMetrics keeps some 15 decimal digits of a number.
            return any(t == times[tag] // 1000 and isclose(found, value, rel_tol=1e-12) for t, found in points)

        await until(exported, START_S, what=f"VictoriaMetrics: {tag} = {value!r} at {times[tag] // 1000} ms")


async def everywhere(
    stack: Stack, view: Viewer, databases: tuple[str, str, str], device: str, wanted: dict[str, Any]
) -> dict[str, int]:
    influx, _, victoria = databases
    times = await in_frames(view, device, wanted)
    await on_tag_topics(view, device, wanted, times)
    await in_embedded_history(stack, device, wanted, times)
    await in_influxdb(influx, device, wanted, times)
    await in_victoria_metrics(victoria, device, wanted, times)
    return times


async def test_a_change_in_the_plc_arrives_everywhere_with_value_type_and_time(
    spine: tuple[Stack, Machines], databases: tuple[str, str, str]
) -> None:
    stack, machines = spine
    async with viewer(stack) as view:
        await in_frames(view, "plc", {"level": 0.0, "count": 0, "recipe": "", "running": False})
        before = datetime.now(UTC)

        wanted = machines.change_plc()

        times = await everywhere(stack, view, databases, "plc", wanted)
        after = datetime.now(UTC)
        assert all(before <= datetime.fromtimestamp(time / 1e6, UTC) <= after for time in times.values())

    async with viewer(stack) as late:
        topics = {TAG.build(site=SITE, device="plc", tag=tag) for tag in wanted}
        await late.wait(lambda: topics <= late.retained, "a late subscriber gets every tag retained")
        level = late.value(TAG, device="plc", tag="level")
        assert level is not None
        assert level.value == 50.0


async def test_a_change_in_the_opcua_server_arrives_everywhere_with_its_own_source_time(
    spine: tuple[Stack, Machines], databases: tuple[str, str, str]
) -> None:
    stack, machines = spine
    async with viewer(stack) as view:
        await in_frames(view, "server", {name.lower(): first for name, (_, first, _) in NODES.items()})
        source_time = datetime.now(UTC).replace(microsecond=123_457) - timedelta(seconds=1)

        await machines.server.set_many({name: value for name, (_, _, value) in NODES.items()}, source_time=source_time)

        wanted = {name.lower(): value for name, (_, _, value) in NODES.items()}
        times = await everywhere(stack, view, databases, "server", wanted)
        micros = int(source_time.timestamp()) * 1_000_000 + 123_457
        assert set(times.values()) == {micros}, "the source's time, to the microsecond"
