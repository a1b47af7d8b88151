"""What an InfluxDB may do to the recorder: be away, refuse lines, refuse us; and what becomes of the values."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import urllib3

from contracts.v1.frame_codec import QualityStruct, SampleStruct, decode_frame
from services.recorder.composition import archive_opener, open_store
from services.recorder.queries.archive import ArchiveFault
from services.recorder.queries.question import Patience
from services.recorder.settings import InfluxSettings
from services.recorder.spool.deadletters import DeadLetter
from tests.histories import BUCKET, Influx
from tests.influx_proxy import TOKEN, influx_proxy
from tests.ports import free_port
from tests.recorder_rig import SITE, rig
from tests.servers import influxd, victoria_metrics

START = 1_700_000_000_000_000
MS = 1000


def samples(n: int, value: object = 1.5) -> list[SampleStruct]:
    return [SampleStruct(t=START + at, v={"x": value}) for at in range(n)]


async def test_values_wait_on_disk_while_the_server_is_away_and_arrive_once_it_is_back(tmp_path: Path, eventually):
    port = free_port()
    folder = tmp_path / "influxd"
    with influx_proxy(f"http://127.0.0.1:{port}") as api:
        place = Influx(f"http://127.0.0.1:{port}", api)
        async with rig(tmp_path / "recorder.db", place.store()) as recorder:
            writing = asyncio.create_task(recorder.writer.run())
            await recorder.record(samples(10))
            await eventually(lambda: recorder.metric("store_errors_total", store="influxdb", reason="503") >= 3)

            assert recorder.spool.rows == 1
            assert "wait on disk" in str(recorder.said("store"))

            with influxd(folder, port=port):
                place.query(f"CREATE DATABASE {BUCKET}")
                await eventually(lambda: recorder.spool.rows == 0)

                assert len(place.read("x")) == 10
                assert recorder.said("store") is True
                assert [line["event"] for line in recorder.logged.entries] == ["store_unavailable", "store_back"]
                await recorder.writer.stop()
                await writing


async def test_a_writer_that_is_stopped_while_the_server_is_away_ends_and_leaves_all_on_disk(
    tmp_path: Path, eventually
):
    place = Influx("", f"http://127.0.0.1:{free_port()}")
    async with rig(tmp_path / "recorder.db", place.store()) as recorder:
        writing = asyncio.create_task(recorder.writer.run())
        await recorder.record(samples(10))
        await eventually(lambda: recorder.metric("store_errors_total", store="influxdb", reason="connection") >= 1)

        await recorder.writer.stop()
        await asyncio.wait_for(writing, 30)

        assert recorder.spool.rows == 1


async def test_points_that_the_server_refuses_are_set_aside_alone(influx: Influx, tmp_path: Path):
    # Somebody else has made `f` a field of text, so that floats collide with it in this shard.
    influx.write(f'tag,tag=other f="text" {START}')
    mixed = [SampleStruct(t=START + at, v={"x": 1.5 if at in {3, 11, 12} else at}) for at in range(20)]
    async with rig(tmp_path / "recorder.db", influx.store(lines=20)) as recorder:
        await recorder.record(mixed)
        await recorder.flush()

        letters = await recorder.dead()
        assert [alone(letter) for letter in letters] == [(START + at, {"x": 1.5}) for at in (3, 11, 12)]
        assert {letter.reason for letter in letters} == {"refused"}
        assert "field type conflict" in letters[0].detail
        assert [t - START for t, _, _ in influx.read("x")] == sorted({*range(20)} - {3, 11, 12})
        assert recorder.spool.rows == 0
        assert recorder.metric("stored_values_total", store="influxdb") == 17


def alone(letter: DeadLetter) -> tuple[int, dict[str, object]]:
    """Time and value of a letter of one value."""
    (sample,) = decode_frame(letter.payload, topic=letter.topic).samples
    return sample.t, sample.v


async def test_points_beyond_the_retention_are_set_aside_in_one_request(influx: Influx, tmp_path: Path):
    influx.query(f'CREATE RETENTION POLICY short ON "{BUCKET}" DURATION 1h REPLICATION 1 DEFAULT')
    async with rig(tmp_path / "recorder.db", influx.store(lines=1000)) as recorder:
        await recorder.record(samples(500))
        await recorder.flush()

        letters = await recorder.dead()
        assert len(letters) == 500
        assert "retention" in letters[0].detail


@pytest.mark.parametrize(("wrong", "status"), [({"token": "another"}, "401"), ({"bucket": "absent"}, "404")])
async def test_nothing_is_given_up_when_the_server_refuses_us_rather_than_the_values(influx, tmp_path, wrong, status):
    async with rig(tmp_path / "recorder.db", influx.store(**wrong)) as recorder:
        await recorder.record(samples(10))
        await recorder.flush()

        assert recorder.spool.rows == 1
        assert await recorder.dead() == []
        assert recorder.metric("store_errors_total", store="influxdb", reason=status) == 1


@contextmanager
def answering(status: int, body: bytes, *, tokens: list[str | None] | None = None) -> Iterator[str]:
    """The URL of a server that answers each request so, as a proxy does, or what else may stand at the address.

    tokens: gets what each request was authorized by.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            if tokens is not None:
                tokens.append(self.headers["Authorization"])
            self.send_response(status)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "body", "reason", "said"),
    [
        (200, b"<html>Please log in</html>", "200", "in place of 204"),
        (200, "<html>Störung</html>".encode("latin-1"), "strange", "not UTF-8"),
        (302, b"<html>Moved</html>", "302", "Moved"),
        (403, "<html>Zugriff verweigert für</html>".encode("latin-1"), "strange", "not UTF-8"),
        (502, b"", "502", "no reason given"),
    ],
)
async def test_what_a_proxy_answers_in_place_of_the_server_gives_nothing_up(tmp_path, status, body, reason, said):
    with answering(status, body) as url:
        async with rig(tmp_path / "recorder.db", Influx("", url).store()) as recorder:
            await recorder.record(samples(10))
            await recorder.flush()

            assert recorder.spool.rows == 1
            assert await recorder.dead() == []
            assert said in str(recorder.said("store"))
            assert recorder.metric("store_errors_total", store="influxdb", reason=reason) == 1


async def test_a_connection_that_cannot_be_trusted_is_told_with_its_fault(tmp_path):
    with answering(204, b"") as url:
        async with rig(tmp_path / "recorder.db", Influx("", url.replace("http:", "https:")).store()) as recorder:
            await recorder.record(samples(10))
            await recorder.flush()

            assert recorder.spool.rows == 1
            assert "SSL" in str(recorder.said("store"))
            assert recorder.metric("store_errors_total", store="influxdb", reason="connection") == 1


async def test_a_new_token_in_its_file_is_taken_up_by_who_is_refused(influx, tmp_path, eventually):
    file = tmp_path / "influxdb.token"
    file.write_text("the one before")
    settings = InfluxSettings(kind="influxdb", url=influx.api, bucket=BUCKET, token_file=file, flush="10ms")
    async with rig(tmp_path / "recorder.db", open_store(settings, site=SITE)) as recorder:
        writing = asyncio.create_task(recorder.writer.run())
        await recorder.record(samples(10))
        await eventually(lambda: recorder.metric("store_errors_total", store="influxdb", reason="401") >= 1)
        file.unlink()
        await eventually(lambda: "cannot be read" in str(recorder.said("store")))

        file.write_text(f"{TOKEN}\n")

        await eventually(lambda: recorder.spool.rows == 0)
        await recorder.writer.stop()
        await writing
    assert len(influx.read("x")) == 10


def test_who_asks_with_a_token_that_is_known_no_more_asks_with_the_new_one_next(tmp_path):
    file, tokens = tmp_path / "influxdb.token", list[str | None]()
    file.write_text("old")
    with answering(401, b'{"code":"unauthorized","message":"unauthorized access"}', tokens=tokens) as url:
        settings = InfluxSettings(kind="influxdb", url=url, bucket=BUCKET, token_file=file)
        archive = archive_opener(settings, path=tmp_path, site=SITE)()
        for token in ("new", "newer"):
            file.write_text(token)
            with pytest.raises(ArchiveFault, match="HTTP 401"):
                archive.series(Patience(lambda: 0.0))

    assert tokens == ["Token old", "Token new"]


async def test_writing_a_batch_again_changes_nothing(influx: Influx, tmp_path: Path):
    for attempt in range(2):
        async with rig(tmp_path / f"{attempt}.db", influx.store()) as recorder:
            await recorder.record(samples(10))
            await recorder.flush()

    assert len(influx.read("x")) == 10


async def test_victoria_metrics_keeps_numbers_by_the_millisecond_and_loses_text(tmp_path: Path):
    values = {"f": [1.5, -2.25, 1e9], "i": [1, -2, 3], "b": [True, False, True]}
    with victoria_metrics(tmp_path / "victoria") as url:
        place = Influx(url, url)
        async with rig(tmp_path / "recorder.db", place.store(lines=1000)) as recorder:
            await recorder.record(
                [
                    SampleStruct(t=START + 1000 * at, v={kind: values[kind][at] for kind in values} | {"s": "on"})
                    for at in range(3)
                ]
            )
            await recorder.flush()
            assert recorder.metric("stored_values_total", store="influxdb") == 12
            assert await recorder.dead() == []
        await asyncio.to_thread(urllib3.request, "GET", f"{url}/internal/force_flush")
        found = {kind: exported(url, f"tag_{kind}", kind) for kind in (*values, "s")}
        found["q"] = exported(url, "tag_q", "f")

    for kind, given in values.items():
        assert found[kind] == [(START // 1000 + at, float(value)) for at, value in enumerate(given)]
    assert [value for _, value in found["q"]] == [192.0] * 3
    assert [value for _, value in found["s"]] == [0.0] * 3


async def test_good_quality_may_be_written_once_a_batch_and_requests_uncompressed(tmp_path: Path):
    # Good, then bad, then good again: what is bad is always said, and so is the first good value after it.
    bad = {"x": QualityStruct(q=0, cause="comm")}
    given = [SampleStruct(t=START + MS * at, v={"x": at}, q=bad if at in {4, 5} else None) for at in range(10)]
    with victoria_metrics(tmp_path / "victoria") as url:
        store = open_store(
            InfluxSettings(kind="influxdb", url=url, bucket="any", quality="changed", gzip=False), site="test"
        )
        async with rig(tmp_path / "recorder.db", store) as recorder:
            await recorder.record(given)
            await recorder.flush()
        await asyncio.to_thread(urllib3.request, "GET", f"{url}/internal/force_flush")
        values, qualities = exported(url, "tag_i", "x"), exported(url, "tag_q", "x")
        good = await asyncio.to_thread(known_good, url)

    assert good == [0, 1, 2, 3, 6, 7, 8, 9]
    assert values == [(START // 1000 + at, float(at)) for at in range(10)]
    assert qualities == [(START // 1000 + at, q) for at, q in ((0, 192.0), (4, 0.0), (5, 0.0), (6, 192.0))]


def known_good(url: str) -> list[float]:
    """The good values of ten milliseconds, as docs/history.md asks for them."""
    asked = {"query": "tag_i and on (site, device, tag) tag_q == 192", "step": "1ms"}
    asked |= {"start": str(START / 1e6), "end": str((START + 9 * MS) / 1e6)}
    answer = urllib3.request("GET", f"{url}/api/v1/query_range", fields=asked).json()
    return [float(value) for series in answer["data"]["result"] for _, value in series["values"]]


def exported(url: str, metric: str, tag: str) -> list[tuple[int, float]]:
    """(ms, value) of a series, as VictoriaMetrics has it."""
    match = f'{metric}{{site="test",device="plc",tag="{tag}"}}'
    answer = urllib3.request("GET", f"{url}/api/v1/export", fields={"match[]": match})
    rows = [json.loads(line) for line in answer.data.splitlines()]
    return [(t, float(v)) for row in rows for t, v in zip(row["timestamps"], row["values"], strict=True)]
