"""One suite for every history: questions about recorded values have the same answers, whichever store they are in."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from time import monotonic, time_ns

import pytest
from pydantic import ValidationError

from contracts.codec import encode
from contracts.v1.frame_codec import QualityStruct, SampleStruct
from contracts.v1.history import Aggregate, HistoryAt, HistoryFound, QueryHistory
from services.recorder.composition import archive_opener, open_store
from services.recorder.embedded.chunk import Value
from services.recorder.queries.archive import ArchiveFault
from services.recorder.queries.queries import HistoryQueries
from services.recorder.queries.question import NoSuchTag, TooLong
from services.recorder.settings import InfluxSettings
from tests.histories import BUCKET, Embedded, Influx, Place
from tests.ports import free_port
from tests.recorder_rig import DEVICE, SITE, Rig, message, rig
from tests.servers import victoria_metrics
from tests.unit.recorder.test_chunk import exact

START = 1_700_000_000_000_000
SECOND = 1_000_000
MINUTE = 60 * SECOND
DAY = 24 * 60 * MINUTE
EVERY = list(Aggregate)


def now_us() -> int:
    return time_ns() // 1000


@pytest.fixture
def queries(place: Place) -> HistoryQueries:
    return HistoryQueries(archive=place.archive, now_s=monotonic, now_us=now_us)


def sample(t: int, q: int = 192, **values: Value) -> SampleStruct:
    """At START + t µs; all of this quality."""
    quality = {tag: QualityStruct(q=q, cause="comm") for tag in values} if q < 192 else None
    return SampleStruct(t=START + t, v=values, q=quality)


async def record(recorder: Rig, *samples: SampleStruct, device: str = DEVICE) -> None:
    """Into the store."""
    recorder.seq += 1
    topic = f"dinrail/v1/test/frame/{device}/fast"
    await recorder.commit(message(recorder.seq, samples, topic=topic))
    await recorder.flush()


def ask(*tags: str, since: int = 0, until: int = DAY, **more: object) -> QueryHistory:
    """since, until: after START, in µs."""
    return QueryHistory.model_validate_json(
        json.dumps({"tags": tags, "since": START + since, "until": START + until, **more})
    )


def all_of(**columns: Value) -> dict[str, Value]:
    """The columns of a bucket."""
    return columns


def points(found: HistoryFound) -> dict[str, list[tuple[int, Value, Value]]]:
    """(µs after START, value, quality) by tag."""
    return {
        one.tag: [(t - START, v, q) for t, v, q in zip(one.t, one.columns["v"], one.columns["q"], strict=True)]
        for one in found.series
    }


def rows(found: HistoryFound) -> list[tuple[int, dict[str, Value]]]:
    """µs after START and columns, of one series."""
    (one,) = found.series
    return [(t - START, {name: column[at] for name, column in one.columns.items()}) for at, t in enumerate(one.t)]


def buckets(queries: HistoryQueries, asked: QueryHistory) -> list[tuple[int, dict[str, Value]]]:
    """rows() of every aggregate; what does not look at how long values held is the same if that is not asked for."""
    found = rows(queries.query(asked.model_copy(update={"aggregates": EVERY})))
    plain = [one for one in EVERY if one is not Aggregate.TWA]
    without = rows(queries.query(asked.model_copy(update={"aggregates": plain})))
    assert without == [(t, {name: columns[name] for name in plain}) for t, columns in found]
    return found


def pages(queries: HistoryQueries, asked: QueryHistory) -> Iterator[HistoryFound]:
    """Every answer to it."""
    while True:
        found = queries.query(asked)
        yield found
        if found.next is None:
            return
        asked = asked.model_copy(update={"after": found.next})


async def test_points_come_with_type_quality_and_time_whenever_they_arrived(recorder, place, queries) -> None:
    await record(recorder, sample(0, x=1.0, s="on"), sample(10, x=2, s="off"), sample(30, x=None, q=0))
    await record(recorder, sample(20, x=2.5, q=64), sample(25, b=True, a=[1, 2.5], big=2**60))

    found = points(queries.query(ask(f"{DEVICE}/*")))

    assert {tag: [(t, exact(v), q) for t, v, q in some] for tag, some in found.items()} == {
        "a": [(25, exact([1, 2.5]), 192)],
        "b": [(25, exact(True), 192)],
        "big": [(25, exact(str(2**60)), 192)],
        "s": [(0, exact("on"), 192), (10, exact("off"), 192)],
        "x": [
            (0, exact(1.0), 192),
            (10, exact(2), 192),
            (20, exact(2.5), 64),
            (30, exact(None), 0),
        ],
    }
    assert [one.big for one in queries.query(ask("b*")).series] == [None, {"v": [0]}]
    assert points(queries.query(ask("x", since=10, until=30, good_only=True))) == {"x": [(10, 2, 192)]}


async def test_tags_are_meant_by_device_tag_or_both_and_a_wrong_name_is_told(recorder, queries) -> None:
    await record(recorder, sample(0, level=1.0, flow=1.0))
    await record(recorder, sample(0, level=2.0), device="tank-2")

    def names(*tags: str) -> list[str]:
        return [f"{one.device}/{one.tag}" for one in queries.query(ask(*tags)).series]

    assert names("*") == ["plc/flow", "plc/level", "tank-2/level"]
    assert names("plc", "plc/level") == ["plc/flow", "plc/level"]
    assert names("l?vel") == ["plc/level", "tank-2/level"]
    assert names("tank-*/*") == ["tank-2/level"]
    with pytest.raises(NoSuchTag, match="'plc/lvl'"):
        queries.query(ask("level", "plc/lvl"))
    with pytest.raises(NoSuchTag, match="'x'"):
        queries.at(HistoryAt(tags=["x"], t=START))


async def test_a_bucket_tells_of_its_points_and_one_without_points_is_not_there(recorder, queries) -> None:
    await record(
        recorder,
        *(sample(t, x=value) for t, value in ((0, 1.0), (10, 3.0), (20, 8.0), (40, 5.0))),
        sample(50, x=None, q=0),
        sample(80, x=None, q=0),
    )

    found = buckets(queries, ask("x", until=100, every=20, aggregates=EVERY))

    assert found == [
        (0, all_of(mean=2.0, min=1.0, max=3.0, first=1.0, last=3.0, count=2, sum=4.0, twa=2.0)),
        (20, all_of(mean=8.0, min=8.0, max=8.0, first=8.0, last=8.0, count=1, sum=8.0, twa=8.0)),
        (40, all_of(mean=5.0, min=5.0, max=5.0, first=5.0, last=None, count=1, sum=5.0, twa=5.0)),
        (
            80,
            all_of(mean=None, min=None, max=None, first=None, last=None, count=0, sum=None, twa=None),
        ),
    ]


async def test_a_value_holds_until_the_next_one_also_from_before_the_bucket(recorder, queries) -> None:
    await record(recorder, sample(0, x=10), sample(130, x=20), sample(180, x=None, q=0), sample(250, x=0))

    found = rows(queries.query(ask("x", since=100, until=290, every=100, aggregates=["twa", "mean"])))

    # 30 µs of 10, 50 of 20, then nothing; 40 µs of 0 up to the end of the question.
    assert found == [(100, {"twa": 1300 / 80, "mean": 20.0}), (200, {"twa": 0.0, "mean": 0.0})]


async def test_no_value_holds_in_a_time_that_is_still_to_come(recorder, place) -> None:
    await record(recorder, sample(0, x=10), sample(60, x=20))
    queries = HistoryQueries(archive=place.archive, now_s=monotonic, now_us=lambda: START + 80)

    def told(**more: int) -> list[tuple[int, dict[str, Value]]]:
        return rows(queries.query(ask("x", aggregates=["twa"], **more)))

    assert told(until=1000) == [(0, {"twa": (60 * 10 + 20 * 20) / 80})]
    assert told(until=70) == [(0, {"twa": (60 * 10 + 10 * 20) / 70})]
    await record(recorder, sample(100, x=40))  # of a device whose clock is ahead
    assert told(until=1000) == [(0, {"twa": (60 * 10 + 40 * 20) / 100})]


async def test_what_is_asked_for_twice_is_told_once(recorder, queries) -> None:
    await record(recorder, sample(0, x=1), sample(20, x=3))

    found = rows(queries.query(ask("x", until=40, every=20, aggregates=["mean", "count", "mean"])))

    assert found == [(0, {"mean": 1.0, "count": 1}), (20, {"mean": 3.0, "count": 1})]


async def test_only_good_values_count_where_that_is_asked_for(recorder, queries) -> None:
    await record(recorder, sample(0, x=1.0), sample(10, x=100.0, q=64), sample(20, x=3.0), sample(30, x=7.0, q=64))

    def told(**more: object) -> dict[str, Value]:
        ((_, columns),) = buckets(queries, ask("x", until=40, aggregates=EVERY, **more))
        return columns

    assert told() == all_of(mean=27.75, min=1.0, max=100.0, first=1.0, last=7.0, count=4, sum=111.0, twa=27.75)
    assert told(good_only=True) == all_of(mean=2.0, min=1.0, max=3.0, first=1.0, last=None, count=2, sum=4.0, twa=2.0)


async def test_bools_are_0_and_1_integers_exact_and_texts_no_numbers(recorder, queries) -> None:
    large = 2**62
    await record(
        recorder,
        *(
            sample(t, run=t < 30, mixed=value, big=large, s="on")
            for t, value in zip(range(0, 40, 10), (1, True, 2.5, "x"), strict=False)
        ),
    )

    def told(tag: str) -> dict[str, Value]:
        ((_, columns),) = buckets(queries, ask(tag, until=40, aggregates=EVERY))
        return columns

    assert told("run") == all_of(mean=0.75, min=0, max=1, first=True, last=False, count=4, sum=3, twa=0.75)
    assert told("mixed") == all_of(mean=1.5, min=1, max=2.5, first=1, last="x", count=3, sum=4.5, twa=1.5)
    assert told("s") == all_of(mean=None, min=None, max=None, first="on", last="on", count=0, sum=None, twa=None)
    text = str(large)
    assert told("big") == all_of(
        mean=float(large), min=text, max=text, first=text, last=text, count=4, sum=str(4 * large), twa=float(large)
    )


async def test_a_sum_beyond_the_floats_is_none(recorder, queries) -> None:
    await record(recorder, *(sample(t, x=1.7e308) for t in range(3)))

    ((_, columns),) = rows(queries.query(ask("x", aggregates=["sum", "mean", "max", "count"])))

    assert columns == {"sum": None, "mean": None, "max": 1.7e308, "count": 3}


@pytest.mark.parametrize("seed", range(3))
async def test_random_points_have_the_answers_that_plain_arithmetic_gives(recorder, queries, seed: int) -> None:
    chance = Random(seed)
    times = sorted(chance.sample(range(1000), 60))
    values: list[Value] = [chance.choice([1, 2.5, -3, True, None, "a", 0.25]) for _ in times]
    await record(recorder, *(sample(t, 0 if v is None else 192, x=v) for t, v in zip(times, values, strict=True)))
    since, until, step = chance.randrange(200), chance.randrange(700, 1000), chance.randrange(5, 90)

    found = buckets(queries, ask("x", since=since, until=until, every=step, aggregates=EVERY))

    assert [t for t, _ in found] == sorted({t - (t - since) % step for t in times if since <= t < until})
    for start, columns in found:
        end = min(start + step, until)
        inside = [v for t, v in zip(times, values, strict=True) if start <= t < end]
        numbers = [v for v in inside if isinstance(v, int | float)]
        assert columns["count"] == len(numbers)
        assert (columns["first"], columns["last"]) == (inside[0], inside[-1])
        if numbers:
            assert (columns["min"], columns["max"], columns["sum"]) == (min(numbers), max(numbers), sum(numbers))
            assert columns["mean"] == sum(numbers) / len(numbers)
        held = [held_at(at, times, values) for at in range(start, end)]
        known = [v for v in held if isinstance(v, int | float)]
        assert columns["twa"] == (pytest.approx(sum(known) / len(known)) if known else None)


def held_at(at: int, times: Sequence[int], values: Sequence[Value]) -> Value:
    """What the tag held in this µs."""
    before = [v for t, v in zip(times, values, strict=True) if t <= at]
    return before[-1] if before else None


async def test_pages_give_every_point_once_while_new_ones_arrive(recorder, queries) -> None:
    for device in ("a", "b"):
        await record(recorder, *(sample(10 * t, x=t, y="long " * 50) for t in range(30)), device=device)
    seen: list[tuple[str, str, int]] = []
    asked = ask("*", limit=7)
    late = 0

    while True:
        found = queries.query(asked)
        assert sum(len(one.t) for one in found.series) <= 7
        seen += [(one.device, one.tag, t - START) for one in found.series for t in one.t]
        if found.next is None:
            break
        asked = asked.model_copy(update={"after": found.next})
        if late < 5:
            late += 1
            await record(recorder, sample(10 * late + 5, x=late), sample(1000 + late, x=late), device="a")

    assert len(seen) == len(set(seen))
    assert seen == sorted(seen)
    assert {(device, tag, 10 * t) for device in "ab" for tag in "xy" for t in range(30)} <= set(seen)


async def test_pages_of_buckets_are_what_one_answer_would_be(recorder, queries) -> None:
    await record(recorder, *(sample(7 * t, x=t, y=float(-t)) for t in range(40)))
    asked = ask("x", "y", until=280, every=20, aggregates=["twa", "count"])

    whole = queries.query(asked)
    parts = list(pages(queries, asked.model_copy(update={"limit": 3})))

    assert len(parts) == 10
    for one in whole.series:
        some = [part for page in parts for part in page.series if part.tag == one.tag]
        assert [t for part in some for t in part.t] == one.t
        for name, column in one.columns.items():
            assert [value for part in some for value in part.columns[name]] == column


async def test_an_answer_is_bounded_in_bytes(recorder, queries) -> None:
    for t in range(12):
        await record(recorder, sample(t, x=f"{t:04d}" + 30_000 * "ä"))

    found = list(pages(queries, ask("x", limit=10_000)))

    assert len(found) == 2
    assert all(len(encode(page, topic="")) < 600_000 for page in found)
    assert [int(str(v)[:4]) for page in found for _, v, _ in points(page).get("x", [])] == list(range(12))


async def test_every_tag_is_shown_as_it_stood_at_a_time(recorder, queries) -> None:
    await record(recorder, sample(0, x=1, y=2.5), sample(100, x=2), sample(200, x=None, q=0), sample(300, x=3, z="s"))
    await record(recorder, sample(50, w=2**60), device="other")

    def then(t: int, *tags: str, limit: int = 200) -> tuple[list[tuple[str, int, Value, int]], int]:
        asked = HistoryAt(tags=list(tags or "*"), t=START + t, limit=limit)
        told, later = [], 0
        while True:
            page = queries.at(asked)
            told += [(one.tag, one.t - START, one.value, one.q) for one in page.tags]
            later += page.later
            if page.next is None:
                return told, later
            asked = asked.model_copy(update={"after": page.next})

    assert then(0) == ([("x", 0, 1, 192), ("y", 0, 2.5, 192)], 2)
    assert then(199, "x") == ([("x", 100, 2, 192)], 0)
    assert then(250, limit=1) == (
        [("w", 50, str(2**60), 192), ("x", 200, None, 0), ("y", 0, 2.5, 192)],
        1,
    )
    assert then(1000, "plc/z") == ([("z", 300, "s", 192)], 0)


async def test_an_answer_that_takes_long_ends_where_it_has_come_to(recorder, place) -> None:
    await record(recorder, *(sample(t, **{f"v{at}": t for at in range(5)}) for t in range(10)))
    now_s = 0.0

    def slowly() -> float:
        nonlocal now_s
        now_s += 0.3
        return now_s

    queries = HistoryQueries(archive=place.archive, now_s=slowly, now_us=now_us)

    for asked in (ask("*"), ask("*", every=2, until=10, aggregates=["twa"])):
        found = list(pages(queries, asked))
        assert len(found) > 1
        seen = [(one.tag, t) for page in found for one in page.series for t in one.t]
        assert len(seen) == len(set(seen))
        assert len(seen) == (50 if asked.aggregates is None else 25)


async def test_buckets_of_many_hours_come_in_several_answers(tmp_path: Path) -> None:
    place = Embedded(tmp_path / "recorder.db")
    looks = iter(range(1000))
    queries = HistoryQueries(archive=place.archive, now_s=lambda: next(looks) * 0.2, now_us=now_us)
    async with rig(tmp_path / "recorder.db", place.store()) as recorder:
        await record(recorder, *(sample(hour * 60 * MINUTE, x=hour // 24) for hour in range(24 * 66)))

        found = list(pages(queries, ask("x", until=400 * DAY, every=DAY, aggregates=["max"])))

    assert len(found) > 1
    assert [value for page in found for one in page.series for value in one.columns["max"]] == [*range(66)]


async def test_a_search_that_finds_nothing_in_time_is_given_up(recorder, place) -> None:
    await record(recorder, sample(0, x=1))
    times = iter([0.0, *[10.0] * 100])
    queries = HistoryQueries(archive=place.archive, now_s=lambda: next(times), now_us=now_us)

    with pytest.raises(TooLong, match="shorter stretch of time"):
        queries.query(ask("*"))


def test_a_question_that_makes_no_sense_is_refused_with_what_would() -> None:
    for more, mend in (
        ({"until": 0}, "later than since"),
        ({"every": 10}, "need aggregates"),
        ({"every": 10, "buckets": 10, "aggregates": ["mean"]}, "give one of them"),
        ({"every": 1, "aggregates": ["mean"]}, "make them longer"),
        ({"after": "x"}, "after"),
    ):
        with pytest.raises(ValidationError, match=mend):
            ask("x", **more)
    for pattern in ("a/b/c", "x'; DROP", "[a]", ""):
        with pytest.raises(ValidationError, match="tags"):
            ask(pattern)


async def test_points_that_do_not_say_that_they_are_good_are_summed_up_as_well(influx: Influx, tmp_path: Path) -> None:
    changed = {"kind": "influxdb", "url": influx.api, "bucket": BUCKET, "quality": "changed"}
    settings = InfluxSettings.model_validate(changed | {"token_file": tmp_path / "token"})
    (tmp_path / "token").write_text(influx.token)
    asked = settings.model_copy(update={"url": influx.server})
    queries = HistoryQueries(archive=archive_opener(asked, path=tmp_path, site=SITE), now_s=monotonic, now_us=now_us)
    async with rig(tmp_path / "recorder.db", open_store(settings, site=SITE)) as recorder:
        await record(recorder, *(sample(10 * t, x=float(t)) for t in range(6)))

    found = rows(queries.query(ask("x", until=60, every=20, aggregates=["count", "mean", "last"], good_only=True)))

    assert [tuple(columns.values()) for _, columns in found] == [(2, 0.5, 1.0), (2, 2.5, 3.0), (2, 4.5, 5.0)]


async def test_names_that_others_wrote_into_our_measurement_are_only_text(influx: Influx, tmp_path: Path) -> None:
    hostile = 'x\' OR time > 0; DROP MEASUREMENT "tag"; --'
    escaped = hostile.replace(" ", "\\ ").replace("=", "\\=").replace(",", "\\,")
    influx.write(f"tag,site=test,device=plc,tag={escaped} f=1,q=192i {START}")
    influx.write(f"tag,site=test,device={escaped},tag=x f=1,q=192i {START}")
    influx.write(f"tag,site=test,device=plc,tag=x f=2,q=192i {START}")
    queries = HistoryQueries(archive=influx.archive, now_s=monotonic, now_us=now_us)

    assert points(queries.query(ask("*"))) == {"x": [(0, 2.0, 192)]}
    assert len(influx.read("x")) == 1


async def test_a_server_that_is_away_refuses_or_speaks_no_influxql_is_told(influx: Influx, tmp_path: Path) -> None:
    away = HistoryQueries(archive=Influx(f"http://127.0.0.1:{free_port()}", "").archive, now_s=monotonic, now_us=now_us)
    with pytest.raises(ArchiveFault, match="does not answer"):
        away.query(ask("x"))
    influx.query("DROP DATABASE history")
    with pytest.raises(ArchiveFault, match="database not found"):
        HistoryQueries(archive=influx.archive, now_s=monotonic, now_us=now_us).query(ask("x"))
    with victoria_metrics(tmp_path / "victoria") as url:
        victoria = HistoryQueries(archive=Influx(url, url).archive, now_s=monotonic, now_us=now_us)
        for question in (victoria.query, victoria.at):
            with pytest.raises(ArchiveFault, match=r"no InfluxQL.*recorder\.store"):
                question(ask("x") if question == victoria.query else HistoryAt(tags=["x"], t=1))
