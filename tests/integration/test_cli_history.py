"""`dinrail history` and `dinrail tags --at` as a person types them, against a running recorder and a real broker."""

import asyncio
import csv
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import duckdb
import pytest

from contracts.acl import VIEWER
from contracts.v1.frame_codec import QualityStruct, SampleStruct
from contracts.v1.history import QUERY_HISTORY, Aggregate, QueryHistory
from services.cli import asking
from services.cli.history_table import spark_width, sparkline
from tests.conftest import Eventually
from tests.integration.test_cli_pipelines import dinrail, site
from tests.integration.test_recorder import READY_S, RecorderProcess, client
from tests.real_broker import Broker
from tests.real_bus import make_bus, running
from tests.recorder_rig import TOPIC, message

__all__ = ["site"]

NOON = datetime(2025, 11, 21, 12, tzinfo=UTC)
T = round(NOON.timestamp() * 1e6)
SECOND = 1_000_000


def clock(seconds: float) -> str:
    """A time as it is typed."""
    return (NOON + timedelta(seconds=seconds)).isoformat()


def sample(seconds: int, **values: object) -> SampleStruct:
    return SampleStruct(t=T + seconds * SECOND, v=values)


SAMPLES = [
    *(
        [
            sample(at, level=float(at), run=at < 30, mode="auto", count=2**60 + at, axes=[1, 2.5])
            for at in range(0, 60, 10)
        ]
    ),
    SampleStruct(t=T + 60 * SECOND, v={"level": None}, q={"level": QualityStruct(q=0, cause="comm")}),
]
LATE = [sample(5, level=100.0)]
BETWEEN = ["--since", clock(0), "--until", clock(61)]


@pytest.fixture
async def recorded(
    request: pytest.FixtureRequest, broker: Broker, tmp_path: Path, eventually: Eventually
) -> AsyncIterator[None]:
    """A recorder that has the samples, the late one last, in its history or only in its spool yet."""
    flush = "50ms" if "packed" in request.function.__name__ else "1h"
    recorder = RecorderProcess(tmp_path / "recorder", broker, store={"kind": "embedded", "flush": flush})
    recorder.start()
    try:
        await eventually(recorder.ready, READY_S)
        async with client(broker) as gateway:
            for seq, samples in enumerate((SAMPLES, LATE), 1):
                await gateway.publish(TOPIC, message(seq, samples).payload, qos=1)
        await eventually(lambda: recorder.held() == 32)
        yield
    finally:
        recorder.end(signal.SIGKILL)


async def test_packed_values_are_shown_for_people_and_for_programs(
    recorded: None,
    site: Path,
    tmp_path: Path,
) -> None:
    table = await dinrail(site, "history", "plc/level", *BETWEEN)
    means = await dinrail(site, "history", "level", *BETWEEN, "--every", "20s", "--agg", "mean", "--agg", "count")
    spark = await dinrail(site, "history", "*", *BETWEEN, "--spark")
    few = await dinrail(site, "history", "*", *BETWEEN, "--limit", "3")
    as_json = await dinrail(site, "history", "plc/*", *BETWEEN, "--json")
    as_csv = await dinrail(site, "history", "level", *BETWEEN, "--csv")
    file = tmp_path / "it's.parquet"
    parquet = await dinrail(site, "history", "*", *BETWEEN, "--parquet", str(file))
    summed = await dinrail(
        site, "history", "*", *BETWEEN, "--agg", "max", "--agg", "last", "--parquet", str(tmp_path / "sums.parquet")
    )

    lines = [line.split() for line in table[1].splitlines()]
    assert lines[0] == ["time", "tag", "value", "quality"]
    assert [line[-2:] for line in lines[1:4]] == [["0", "good"], ["100", "good"], ["10", "good"]]
    assert lines[-1][-2:] == ["-", "bad"]
    assert [line.split()[-2:] for line in means[1].splitlines()[1:]] == [
        ["36.6667", "3"],
        ["25", "2"],
        ["45", "2"],
        ["-", "0"],
    ]
    by_tag = {line.split()[0]: line.split() for line in spark[1].splitlines()[1:]}
    assert by_tag["plc/level"][1:4] == ["0", "100", "-"]
    assert "█" in " ".join(by_tag["plc/level"])
    assert by_tag["plc/mode"][1:] == ["-", "-", "auto"]
    assert len(few[1].splitlines()) == 4
    assert "there is more: --limit 30" in few[2]
    objects = [json.loads(line) for line in as_json[1].splitlines()]
    assert len(objects) == 32
    assert objects[0] | {"value": None} == {
        "time": "2025-11-21T12:00:00.000000Z",
        "t": T,
        "device": "plc",
        "tag": "axes",
        "value": None,
        "quality": "good",
    }
    assert next(one["value"] for one in objects if one["tag"] == "count") == str(2**60)
    assert [one["value"] for one in objects if one["tag"] == "run"] == [True] * 3 + [False] * 3
    rows = list(csv.reader(StringIO(as_csv[1])))
    assert rows[0] == ["time", "device", "tag", "value", "quality"]
    assert rows[2] == ["2025-11-21T12:00:05.000000Z", "plc", "level", "100.0", "good"]
    assert (parquet[0], summed[0]) == (0, 0)
    with duckdb.connect(":memory:") as database:
        found = database.execute(
            "SELECT tag, epoch_us(time), value, value_text, quality FROM read_parquet(?)", [str(file)]
        ).fetchall()
        ends = database.execute(
            "SELECT tag, max, last, last_text FROM read_parquet(?)", [str(tmp_path / "sums.parquet")]
        ).fetchall()
    assert len(found) == 32
    assert ("level", T + 5 * SECOND, 100.0, None, "good") in found
    assert ("count", T, None, str(2**60), "good") in found
    assert ("run", T, 1.0, None, "good") in found
    assert ("axes", T, None, "[1, 2.5]", "good") in found
    assert ("level", 100.0, None, None) in ends
    assert ("mode", None, None, "auto") in ends
    assert not [name for name in await asyncio.to_thread(os.listdir, tmp_path) if name.startswith(".")]


async def test_tags_are_shown_as_they_stood_at_a_time_while_their_values_wait_in_the_spool(
    recorded: None,
    site: Path,
) -> None:
    late = await dinrail(site, "tags", "--at", clock(7), "plc/level")
    bad = await dinrail(site, "tags", "plc/l*", "--at", clock(3600), "--json")
    before = await dinrail(site, "tags", "--at", clock(-1))
    unknown = await dinrail(site, "tags", "lvl", "--at", "2h")

    assert late[1].splitlines()[-1].split() == ["plc", "level", "100", "good", "2.0", "s"]
    told = json.loads(bad[1])
    assert (told["at"], told["later"]) == (T + 3600 * SECOND, 0)
    assert told["tags"] == [
        {"device": "plc", "tag": "level", "t": T + 60 * SECOND, "value": None, "q": 0, "quality": "bad"}
    ]
    assert before[0] == 1
    assert "5 more had not been recorded by then" in before[2]
    assert unknown[0] == 1
    assert "nothing is recorded of 'lvl'" in unknown[2]


async def test_what_cannot_be_shown_is_said_with_what_can(
    recorded: None,
    site: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = {
        "not a time": ("--since", "yesterday"),
        "10s, 1m, 1h": ("--every", "often"),
        "choose one": ("--csv", "--json"),
        "leave them out": ("--spark", "--every", "1m"),
        "nothing was recorded in that time, or": ("--since", clock(-10), "--until", clock(-5)),
        "--every 1m shows what is left": ("--since", clock(-10), "--until", clock(-5)),
        "write a name such as": ("--parquet", "."),
        "No such file": ("--parquet", str(tmp_path / "nowhere" / "x.parquet")),
        "until: must be later": ("--since", clock(1), "--until", clock(0)),
    }
    for mend, options in said.items():
        code, out, error = await dinrail(site, "history", "level", *options)
        assert code in {1, 2}, mend
        assert mend in error
        assert not out
        assert not error.startswith("$:")
    monkeypatch.setitem(asking.ask_on.__kwdefaults__, "timeout_s", 0.2)  # nobody is there to answer
    nobody = await dinrail(site, "history", "level", "--recorder", "other")
    assert nobody[0] == 2
    assert nobody[2].startswith("no answer within 0.2 s\n")
    assert "answers_queries" in nobody[2]
    monkeypatch.setitem(sys.modules, "duckdb", None)
    without = await dinrail(site, "history", "level", "--parquet", str(tmp_path / "x.parquet"))
    assert without[0] == 2
    assert "pip install 'dinrail[parquet]'" in without[2]


async def test_days_are_those_of_the_clock_here_also_where_it_was_changed(
    recorded: None, site: Path, broker: Broker, eventually: Eventually, middle_europe: None
) -> None:
    changed = round(datetime(2025, 10, 26, 0, 30, tzinfo=UTC).timestamp() * 1e6)
    hourly = [SampleStruct(t=changed + 3600 * SECOND * at, v={"a": at, "b": at}) for at in range(-30, 60)]
    async with client(broker) as gateway:
        await gateway.publish(TOPIC, message(3, hourly).payload, qos=1)

    async def days(*options: str) -> tuple[int, str, str]:
        """Of the tags a and b, that are there and in how many values."""
        asked = ("a", "b", "--since", "2025-10-25", "--every", "1d", "--agg", "count", *options)
        return await dinrail(site, "history", *asked)

    async def all_is_there() -> bool:
        code, out, _ = await days()
        return code == 0 and len(out.splitlines()) == 9

    await eventually(all_is_there)
    table, _, few, utc = [
        (await days(*options))[1:]
        for options in ((), ("--csv",), ("--csv", "--limit", "5"), ("--since", "2025-10-25T00:00Z", "--json"))
    ]
    begun = [(line.split()[2], line.split()[0], line.split()[1], line.split()[3]) for line in table[0].splitlines()[1:]]

    assert begun == [
        (f"plc/{tag}", f"2025-10-{day}", "00:00:00.000", count)
        for tag in "ab"
        for day, count in ((25, "24"), (26, "25"), (27, "24"), (28, "13"))
    ]
    assert [line.split(",")[0][:16] for line in few[0].splitlines()[1:]] == [
        *("2025-10-24T22:00", "2025-10-25T22:00", "2025-10-26T23:00", "2025-10-27T23:00", "2025-10-24T22:00")
    ]
    assert "there is more" in few[1]
    assert {json.loads(line)["time"][11:16] for line in utc[0].splitlines()} == {"00:00"}


async def test_longer_ago_than_1970_is_all_there_is(recorded: None, site: Path) -> None:
    code, out, error = await dinrail(
        site, "history", "level", "--since", "9000000d", "--agg", "count", "--every", "1000d"
    )
    none = await dinrail(site, "tags", "--at", "9000000d")

    assert (code, error) == (0, "")
    assert out.split()[-1] == "7"
    assert none[0] == 1
    assert "had not been recorded by then" in none[2]


async def test_a_viewer_may_ask_and_nothing_else_is_needed(
    broker_with_accounts: Broker, tmp_path: Path, eventually: Eventually
) -> None:
    broker = broker_with_accounts
    accounts = broker.accounts or {}
    recorder = RecorderProcess(tmp_path / "recorder", broker, password=accounts["recorder"])
    recorder.start()
    try:
        await eventually(recorder.ready, READY_S)
        async with client(broker, username="gateway", password=accounts["gateway"]) as gateway:
            await gateway.publish(TOPIC, message(1, SAMPLES).payload, qos=1)
        await eventually(lambda: recorder.held() == 31)
        bus = make_bus(broker, "viewer-tool", account=VIEWER.name)
        async with running(bus):
            asked = QueryHistory(tags=["run"], since=T, until=T + 60 * SECOND, aggregates=[Aggregate.TWA])
            outcome = await bus.request(QUERY_HISTORY, asked, timeout_s=30, user=VIEWER.name, id="recorder")
        assert outcome.result is not None
        assert outcome.result.series[0].columns == {"twa": [0.5]}
    finally:
        recorder.end(signal.SIGKILL)


def test_a_line_of_blocks_goes_from_the_lowest_to_the_highest() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([1.7e308, None, -1.7e308]) == "█ ▁"
    assert sparkline([5, 5.0]) == "▄▄"
    assert sparkline([0.0, 5e-324]) == "▁█"
    assert sparkline([None, "on"]) == ""


def test_a_line_of_blocks_leaves_a_narrow_terminal_room_for_names_and_values() -> None:
    assert [spark_width(columns) for columns in (20, 80, 160)] == [10, 28, 60]
