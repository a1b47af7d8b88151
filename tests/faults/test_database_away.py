"""A database that is away and then refuses some values, and messages that come twice: each value is in one place."""

import signal
from contextlib import ExitStack
from pathlib import Path

from contracts.v1.frame_codec import SampleStruct
from tests.conftest import Eventually
from tests.histories import BUCKET, Influx
from tests.influx_proxy import influx_proxy
from tests.integration.test_recorder import READY_S, START, RecorderProcess, client, stored_when
from tests.ports import free_port
from tests.real_broker import Broker
from tests.recorder_rig import TOPIC, message
from tests.servers import influxd

FRAMES, VALUES, MIXED = 40, 25, 7


def frame(seq: int) -> bytes:
    """Each seventh frame holds floats, which collide with somebody's text; the others integers."""
    value = float(seq) if seq % MIXED == 0 else seq
    return message(seq, [SampleStruct(t=START + seq, v={f"v{at}": value for at in range(VALUES)})]).payload


async def test_after_an_outage_with_repetitions_and_refusals_each_value_is_stored_or_a_dead_letter(
    broker: Broker, tmp_path: Path, eventually: Eventually
) -> None:
    port = free_port()
    with ExitStack() as stack:
        api = stack.enter_context(influx_proxy(f"http://127.0.0.1:{port}"))
        place = Influx(f"http://127.0.0.1:{port}", api)
        (tmp_path / "token").write_text(place.token)
        store = {"kind": "influxdb", "url": api, "bucket": BUCKET, "token_file": str(tmp_path / "token")}
        store |= {"flush": "50ms", "batch_bytes": 65536}
        recorder = RecorderProcess(tmp_path / "recorder", broker, store=store)
        recorder.start()
        stack.callback(recorder.end, signal.SIGKILL)
        await eventually(recorder.ready, READY_S)
        async with client(broker) as gateway:
            for seq in range(1, FRAMES + 1):
                for _ in range(2):
                    await gateway.publish(TOPIC, frame(seq), qos=1)
        said = await stored_when(broker, FRAMES)
        await eventually(lambda: "store_unavailable" in recorder.log, READY_S)
        assert recorder.held() == FRAMES * VALUES
        recorder.end(signal.SIGKILL)
        stack.enter_context(influxd(tmp_path / "influxd", port=port))
        place.query(f"CREATE DATABASE {BUCKET}")
        place.write(f'tag,tag=other f="text" {START}')
        recorder.start()
        await eventually(recorder.ready, READY_S)
        await eventually(lambda: recorder.held() == 0, READY_S)
        stored = [len(place.read(f"v{at}")) for at in range(VALUES)]
        letters = recorder.letters()

    refused = FRAMES // MIXED
    assert said.epochs[0].have == [(1, FRAMES)]
    assert stored == [FRAMES - refused] * VALUES
    assert letters == {"refused": refused * VALUES}
    assert sum(stored) + sum(letters.values()) == FRAMES * VALUES
