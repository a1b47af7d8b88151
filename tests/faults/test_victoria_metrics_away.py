"""VictoriaMetrics is away, the recorder is killed before and after its return: each frame is there once."""

import json

import pytest
import urllib3

from plugins.drivers.modbus.simulated_unit import Unit
from plugins.drivers.modbus.simulator import ModbusSimulator
from tests.faults.site import DEVICE, READY_S, Account, FaultSite, account, fault_site
from tests.ports import free_port
from tests.servers import victoria_metrics

pytestmark = [pytest.mark.timeout(240), pytest.mark.slow]


def exported(url: str) -> dict[str, list[int]]:
    """The times, in ms, of each tag's values."""
    urllib3.request("GET", f"{url}/internal/force_flush")
    answer = urllib3.request("GET", f"{url}/api/v1/export", fields={"match[]": f'tag_f{{device="{DEVICE}"}}'})
    return {row["metric"]["tag"]: sorted(row["timestamps"]) for row in map(json.loads, answer.data.splitlines())}


async def test_what_waited_for_victoria_metrics_is_all_there_though_the_recorder_was_killed_on_the_way(
    broker, tmp_path, eventually
):
    port = free_port()
    store = {"kind": "influxdb", "url": f"http://127.0.0.1:{port}", "bucket": "any", "quality": "changed"}
    store |= {"flush": "50ms", "batch_bytes": 65536, "lines": 100}
    async with ModbusSimulator(units={1: Unit()}) as plc:
        with fault_site(broker, tmp_path, plc.port, interval="20ms", store=store) as site:
            await eventually(lambda: "store_unavailable" in site.recorder.log, READY_S)
            await eventually(lambda: site.recorder.metric("spool_rows") >= 50, READY_S)
            site.recorder.kill()
            with victoria_metrics(tmp_path / "victoria", port=port) as url:
                site.recorder.start()
                await eventually(lambda: site.recorder.metric("stored_values_total") > 0, READY_S)
                site.recorder.kill()
                site.recorder.start()
                await drained(site, eventually)
                said = account(site)
                # Its answers lag behind what it has taken by a second or so, whatever it is told to flush.
                await eventually(lambda: exported(url) == good_times(said), READY_S)

    assert said.nowhere() == {}
    assert said.frames_not_stored() == {}
    assert len(said.frames) == sum(len(numbers) for key, numbers in said.made.items() if key[0] == "frame")


def good_times(said: Account) -> dict[str, list[int]]:
    """The times, in ms, at which the gateway had a value of each tag."""
    samples = [sample for frame in said.frames.values() for sample in frame.samples]
    return {tag: sorted({one.t // 1000 for one in samples if one.v[tag] is not None}) for tag in samples[0].v}


async def drained(site: FaultSite, eventually) -> None:
    """Ends the site's processes in good order, once nothing waits any more."""
    await eventually(site.settled, READY_S)
    assert site.gateway.stop() == 0
    await eventually(lambda: site.has_all_of(1), READY_S)
    await eventually(lambda: site.recorder.metric("spool_rows") == 0, READY_S)
    assert site.recorder.stop() == 0
