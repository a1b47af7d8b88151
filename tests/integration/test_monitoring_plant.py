"""The dashboards of values: each query, asked of a real InfluxDB or VictoriaMetrics that our recorder has filled."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from contracts.v1.frame import FRAME
from contracts.v1.frame_codec import QualityStruct, SampleStruct
from services.recorder.composition import open_store
from services.recorder.settings import InfluxSettings
from tests.grafana import Choice, Query, asked_of_influxdb, asked_of_prometheus, label_values, queries, tag_values
from tests.histories import BUCKET, Influx
from tests.influx_proxy import influx_proxy
from tests.polling import wait_until
from tests.recorder_rig import SITE, message, rig
from tests.servers import influxd, victoria_metrics

BEGIN_S = 1_700_000_000
"""A whole ten seconds."""
SECONDS = 60
ALL = Choice(BEGIN_S, BEGIN_S + SECONDS - 1)
OVEN = Choice(BEGIN_S, BEGIN_S + SECONDS - 1, chosen={"device": ["oven"]})
TENS = range(BEGIN_S, BEGIN_S + SECONDS, 10)
COMM = {"force": QualityStruct(q=0, cause="comm")}
TAGS = ["batch", "force", "recipe", "running", "temperature"]


def oven(at: int) -> SampleStruct:
    return SampleStruct(t=(BEGIN_S + at) * 1_000_000, v={"temperature": 200.0 + at, "batch": 7})


def press(at: int) -> SampleStruct:
    """It runs for half a minute, begins another recipe then, and its force is gone for the last quarter."""
    gone = at >= 45
    values = {"running": at < 30, "recipe": "A" if at < 30 else "B", "force": None if gone else float(at)}
    return SampleStruct(t=(BEGIN_S + at) * 1_000_000, v=values, q=COMM if gone else None)


async def record(folder: Path, store) -> None:
    async with rig(folder / "recorder.db", store) as recorder:
        for device, sample in (("oven", oven), ("press", press)):
            topic = FRAME.build(site=SITE, device=device, group="fast")
            await recorder.commit(message(1, [sample(at) for at in range(SECONDS)], topic=topic))
        await recorder.flush()
        assert await recorder.dead() == []


@pytest.fixture(scope="module")
def influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("influx")
    with influxd(folder / "influxd") as server, influx_proxy(server) as api:
        place = Influx(server, api)
        place.query(f"CREATE DATABASE {BUCKET}")
        asyncio.run(record(folder, place.store(lines=1000)))
        yield server


@pytest.fixture(scope="module")
def victoria(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("victoria")
    with victoria_metrics(folder / "server") as server:
        settings = InfluxSettings(kind="influxdb", url=server, bucket="any", quality="changed")
        asyncio.run(record(folder, open_store(settings, site=SITE)))
        last = Choice(BEGIN_S, BEGIN_S + SECONDS)
        (stored,) = [query for query in queries("plant-victoria") if query.place == "Latest values A"]
        urllib3.request("GET", f"{server}/internal/force_flush")  # else it takes seconds until it finds what it has
        wait_until(lambda: len(asked_of_prometheus(server, stored, last)) == 4, 30, what="what was written is found")
        yield server


def named(name: str, place: str) -> Query:
    (query,) = [query for query in queries(name) if query.place == place]
    return query


def by_tag(series) -> dict[str, dict[int, object]]:
    return {f"{labels['device']}/{labels['tag']}": values for labels, values in series}


IN_INFLUX = {
    "Tags A": lambda found: found == [({}, {BEGIN_S: 5})],
    "Tags not good A": lambda found: [list(values.values()) for _, values in found] == [[1]],
    "Values recorded A": lambda found: {labels["device"]: list(values.values()) for labels, values in found}
    == {"oven": [20] * 6, "press": [30] * 6},
    "Numbers A": lambda found: by_tag(found)
    == {
        "oven/temperature": {at: 200 + at - BEGIN_S + 4.5 for at in TENS},
        "press/force": {**{at: at - BEGIN_S + 4.5 for at in TENS[:4]}, TENS[4]: 42},
    },
    "Numbers B": lambda found: by_tag(found) == {"oven/batch": dict.fromkeys(TENS, 7)},
    "On and off A": lambda found: by_tag(found) == {"press/running": {at: at < BEGIN_S + 30 for at in TENS}},
    "Texts A": lambda found: by_tag(found)
    == {"press/recipe": {at: "A" if at < BEGIN_S + 30 else "B" for at in TENS}},
    "Quality A": lambda found: by_tag(found)
    == {
        **{f"oven/{tag}": dict.fromkeys(TENS, 192) for tag in ("batch", "temperature")},
        **{f"press/{tag}": dict.fromkeys(TENS, 192) for tag in ("recipe", "running")},
        "press/force": {at: 0 if at >= TENS[4] else 192 for at in TENS},
    },
    "Latest values A": lambda found: {
        tag: tuple(*rows.values()) for tag, rows in by_tag(found).items()
    }
    == {
        "oven/batch": (None, 7, None, None, 192),
        "oven/temperature": (259, None, None, None, 192),
        "press/force": (44, None, None, None, 0),
        "press/recipe": (None, None, None, "B", 192),
        "press/running": (None, None, False, None, 192),
    },
}  # fmt: skip


@pytest.mark.parametrize("place", [query.place for query in queries("plant") if query.panel != "variable"])
def test_influxdb_gives_each_panel_of_the_plant_what_was_recorded(influx: str, place: str) -> None:
    text = ALL.put_into(named("plant", place))
    found = asked_of_influxdb(influx, BUCKET, text)
    assert IN_INFLUX[place](found), f"{text}\n{found}"


def test_variables_in_influxdb_offer_what_is_there_and_follow_one_another(influx: str) -> None:
    asked = {query.ref: query for query in queries("plant") if query.panel == "variable"}

    def offered(name: str, choice: Choice) -> list[str]:
        return tag_values(influx, BUCKET, choice.put_into(asked[name]))

    assert {name: offered(name, ALL) for name in asked} == {"site": [SITE], "device": ["oven", "press"], "tag": TAGS}
    assert offered("tag", OVEN) == ["batch", "temperature"]


def test_a_chosen_device_alone_is_shown_from_influxdb(influx: str) -> None:
    for place in IN_INFLUX:
        series = asked_of_influxdb(influx, BUCKET, OVEN.put_into(named("plant", place)))
        assert {labels["device"] for labels, _ in series if labels} <= {"oven"}, place
    (tags,) = asked_of_influxdb(influx, BUCKET, OVEN.put_into(named("plant", "Tags A")))
    assert list(tags[1].values()) == [2]
    assert asked_of_influxdb(influx, BUCKET, OVEN.put_into(named("plant", "Tags not good A"))) == [], (
        "no data: all good"
    )


AFTER = range(BEGIN_S + 10, BEGIN_S + 60, 10)
"""Ends of whole intervals of ten seconds, which a query over a range looks back on."""
IN_VICTORIA = {
    "Tags A": lambda found: [list(values.values()) for _, values in found] == [[5]],
    "Tags not good A": lambda found: [list(values.values()) for _, values in found] == [[1]],
    "Values recorded A": lambda found: {
        labels["device"]: [values[at] for at in AFTER[:4]] for labels, values in found
    } == {"oven": [20] * 4, "press": [20] * 4},
    "Numbers A": lambda found: {tag: [values.get(at) for at in AFTER] for tag, values in by_tag(found).items()}
    == {"oven/temperature": [200 + at - BEGIN_S - 4.5 for at in AFTER],
        "press/force": [*(at - BEGIN_S - 4.5 for at in AFTER[:4]), None]},
    "Numbers B": lambda found: {tag: [values.get(at) for at in AFTER] for tag, values in by_tag(found).items()}
    == {"oven/batch": [7] * 5},
    "On and off A": lambda found: {tag: [values.get(at) for at in AFTER] for tag, values in by_tag(found).items()}
    == {"press/running": [1, 1, 0, 0, 0]},
    "Quality A": lambda found: {tag: [values.get(at) for at in AFTER] for tag, values in by_tag(found).items()}
    == {**{tag: [192] * 5 for tag in ("oven/batch", "oven/temperature", "press/recipe", "press/running")},
        "press/force": [192, 192, 192, 192, 0]},
    "Latest values A": lambda found: {tag: list(values.values()) for tag, values in by_tag(found).items()}
    == {"oven/batch": [7], "oven/temperature": [259], "press/force": [44], "press/running": [0]},
}  # fmt: skip


@pytest.mark.parametrize("place", [query.place for query in queries("plant-victoria") if query.panel != "variable"])
def test_victoriametrics_gives_each_panel_of_the_plant_the_numbers_recorded(victoria: str, place: str) -> None:
    query = named("plant-victoria", place)
    found = asked_of_prometheus(victoria, query, ALL)
    assert IN_VICTORIA[place](found), f"{ALL.put_into(query)}\n{found}"


def test_variables_in_victoriametrics_offer_what_is_there_and_follow_one_another(victoria: str) -> None:
    asked = {query.ref: query for query in queries("plant-victoria") if query.panel == "variable"}

    def offered(name: str, choice: Choice) -> list[str]:
        return label_values(victoria, choice.put_into(asked[name]), choice)

    numbers = [tag for tag in TAGS if tag != "recipe"]
    assert offered("site", ALL) == [SITE]
    assert offered("device", ALL) == ["oven", "press"]
    assert set(offered("tag", ALL)) >= set(numbers)
    assert offered("tag", OVEN) == ["batch", "temperature"]
