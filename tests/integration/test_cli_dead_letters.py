"""`dinrail recorder deadletters` as a person types it: what InfluxDB has refused is seen, mended and tried again."""

import json
import signal
from pathlib import Path

from contracts.v1.frame_codec import SampleStruct
from tests.conftest import Eventually
from tests.histories import BUCKET, Influx
from tests.integration.test_cli_pipelines import dinrail, site  # noqa: F401 - a fixture
from tests.integration.test_recorder import READY_S, START, RecorderProcess, client
from tests.real_broker import Broker
from tests.recorder_rig import TOPIC, message

VALUES = [1.5, 2.5, True, 4.5]


async def test_refused_values_are_listed_shown_tried_again_and_thrown_away(
    broker: Broker,
    influx: Influx,
    site: Path,  # noqa: F811
    tmp_path: Path,
    eventually: Eventually,
) -> None:
    influx.write(f'tag,tag=other f="text" {START}')  # floats collide with it in this shard
    (tmp_path / "token").write_text(influx.token)
    store = {"kind": "influxdb", "url": influx.api, "bucket": BUCKET, "token_file": str(tmp_path / "token")}
    recorder = RecorderProcess(tmp_path / "recorder", broker, store={**store, "flush": "50ms"})
    recorder.start()
    try:
        await eventually(recorder.ready, READY_S)
        samples = [SampleStruct(t=START + at, v={"x": value}) for at, value in enumerate(VALUES)]
        async with client(broker) as gateway:
            await gateway.publish(TOPIC, message(1, samples).payload, qos=1)
            await gateway.publish(TOPIC, b"no frame", qos=1)

        async def counted() -> bool:
            found = await dinrail(site, "recorder", "deadletters", "--count")
            return found == (0, "contract: 1\nrefused: 3", "")

        await eventually(counted, READY_S)
        listed = await dinrail(site, "recorder", "deadletters", "--reason", "refused", "--json")
        letters = [json.loads(line) for line in listed[1].splitlines()]
        shown = await dinrail(site, "recorder", "deadletters", str(letters[0]["id"]))
        table = await dinrail(site, "recorder", "deadletters", "--limit", "2")
        refused, none_such = [
            await dinrail(site, "recorder", "deadletters", "--reason", *words)
            for words in (("refused", "--count"), ("damaged",))
        ]
        again = await dinrail(site, "recorder", "deadletters", "--retry")
        await eventually(counted, READY_S)  # they are refused as before
        influx.query('DROP MEASUREMENT "tag"')
        retried = await dinrail(site, "recorder", "deadletters", "--retry", "--reason", "refused")
        await eventually(lambda: len(influx.read("x")) == 3)
        left = await dinrail(site, "recorder", "deadletters", "--count")
        gone = await dinrail(site, "recorder", "deadletters", "--delete")
        none = await dinrail(site, "recorder", "deadletters", "--count", "--json")
        no_letter = await dinrail(site, "recorder", "deadletters", "1", "2")
        both = await dinrail(site, "recorder", "deadletters", "--delete", "--retry")
        wrong = await dinrail(site, "recorder", "deadletters", "--reason", "A b")
    finally:
        recorder.end(signal.SIGKILL)

    assert [json.loads(letter["content"])["samples"][0]["v"] for letter in letters] == [
        {"x": v} for v in (1.5, 2.5, 4.5)
    ]
    assert "field type conflict" in letters[0]["detail"]
    assert '"x":1.5' in shown[1]
    assert len(table[1].splitlines()) == 3
    assert (table[2], refused[1]) == ("there are 2 more: --limit 4 shows all", "refused: 3")
    assert none_such == (0, "nothing is set aside with the reason damaged", "")
    assert again[0] == 1
    assert again[1] == "3 put back; what fails again becomes a new letter"
    assert again[2] == "still break their contract, and stay: 1"
    assert retried[0] == 0
    assert [(t - START, v) for t, v, _ in influx.read("x")] == [(0, 1.5), (1, 2.5), (3, 4.5)]
    assert left[1] == "contract: 1"
    assert gone[1] == "1 thrown away"
    assert json.loads(none[1]) == {"counts": {}}
    assert (both[0], wrong[0]) == (2, 2)
    assert no_letter == (1, "", "no letter 1, 2: put back, thrown away, or never there")
    assert wrong[2].startswith("reason: ")
