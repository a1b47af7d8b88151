"""Whatever dies: each message that a gateway made is stored, or in its journal, or lost with a reason, and counted."""

import resource
import shutil
from random import Random

import pytest

from plugins.drivers.modbus.simulated_unit import Unit
from plugins.drivers.modbus.simulator import ModbusSimulator
from tests.faults.site import READY_S, account, fault_site

pytestmark = pytest.mark.timeout(240)

CAP = 1 << 16
BUSY_S = 60.0
"""For hundreds of frames to go all the way: a busy machine makes far fewer of them than are asked for."""


@pytest.fixture
async def plc():
    unit = Unit()
    for at in range(100):
        unit.holding[at] = at
    async with ModbusSimulator(units={1: unit}) as simulator:
        yield simulator


async def frames_from(site, count, eventually):
    """Returns when the gateway's present process has made so many more frames."""
    await eventually(lambda: site.frames >= 0, READY_S)
    before = site.frames
    await eventually(lambda: site.frames >= before + count, READY_S)


async def ended(site, eventually, *, lives):
    """Waits until all is mended, then ends the site's processes in good order and gives the account."""
    await eventually(site.settled, BUSY_S)
    assert site.gateway.stop() == 0
    await eventually(lambda: site.has_all_of(lives), READY_S)
    assert site.recorder.stop() == 0
    return account(site)


def assert_nothing_lost(said):
    assert said.nowhere() == {}
    assert said.frames_not_stored() == {}
    for tag in ("v0", "v19"):
        recorded = [(time, value) for time, value, _ in said.recorded(tag)]
        assert set(said.expected(tag)) <= set(recorded), (
            "of the journal's frames, all are in the history in their place"
        )
        assert len(recorded) == len(set(recorded))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
async def test_whoever_is_killed_and_in_whatever_order_nothing_is_lost(broker, plc, tmp_path, eventually, seed):
    random = Random(seed)
    lives = 1
    with fault_site(broker, tmp_path, plc.port) as site:
        await frames_from(site, 20, eventually)
        for _ in range(5):
            struck = random.sample([broker, site.gateway, site.recorder], random.choice([1, 1, 2, 3]))
            for one in struck:
                one.kill()
            lives += site.gateway in struck
            random.shuffle(struck)
            for one in struck:
                one.start()
            await frames_from(site, random.randint(1, 100), eventually)
        said = await ended(site, eventually, lives=lives)

    assert_nothing_lost(said)


@pytest.mark.slow
async def test_a_long_outage_in_which_the_gateway_is_killed_too_loses_nothing(broker, plc, tmp_path, eventually):
    with fault_site(broker, tmp_path, plc.port) as site:
        await frames_from(site, 50, eventually)
        broker.kill()
        await frames_from(site, 150, eventually)
        site.gateway.kill()
        site.gateway.start()
        await frames_from(site, 100, eventually)
        site.gateway.kill()
        site.gateway.start()
        await frames_from(site, 100, eventually)
        broker.start()
        said = await ended(site, eventually, lives=3)

    assert_nothing_lost(said)
    assert len([key for key in said.made if key[0] == "frame"]) == 3


@pytest.mark.slow
async def test_a_recorder_that_has_lost_its_disk_gets_all_that_the_journal_holds_and_books_the_rest(
    broker, plc, tmp_path, eventually
):
    with fault_site(broker, tmp_path, plc.port, journal_cap_bytes=8 * CAP) as site:
        # Segments of an eighth of the cap are removed as the recorder stores them.
        await eventually(lambda: site.frames > site.gateway.metric("journal_records") + 300, BUSY_S)
        site.recorder.kill()
        shutil.rmtree(site.recorder.data)
        site.recorder.start()
        await eventually(lambda: site.recorder.metric("frames_lost_total", reason="store_replaced") > 0, READY_S)
        said = await ended(site, eventually, lives=1)

    assert said.nowhere() == {}
    assert said.count("store_replaced") > 200
    ((key, missing),) = said.frames_not_stored().items()
    # Events that went out before the recorder was there may have kept the journal's first segment.
    assert max(missing) - min(missing) + 1 == len(missing), "everything that the journal still held is stored"
    # While the recorder started, the journal may have come to its cap.
    assert said.lost["store_replaced"][key] | said.lost.get("cap_bytes", {}).get(key, set()) >= missing


async def test_a_journal_that_reaches_its_cap_drops_the_oldest_and_each_of_them_is_booked(
    broker, plc, tmp_path, eventually
):
    with fault_site(broker, tmp_path, plc.port, journal_cap_bytes=CAP) as site:
        await frames_from(site, 50, eventually)
        broker.kill()
        await eventually(lambda: site.gateway.metric("journal_lost_records_total", reason="cap_bytes") > 100, BUSY_S)
        assert site.gateway.stop() == 0
        then = account(site)
        # With more room nothing more is dropped, however long the way of what is held may take.
        site.gateway.set(journal_cap_bytes=1 << 30)
        site.gateway.start()
        broker.start()
        said = await ended(site, eventually, lives=2)

    (key,) = [key for key in then.made if key[0] == "frame"]
    dropped, held = then.lost["cap_bytes"][key], then.held[key]
    assert held == set(range(max(dropped) + 1, len(then.made[key]) + 1)), "the oldest went, the newest are all there"
    assert then.nowhere() == said.nowhere() == {}
    assert sum(map(len, then.lost["cap_bytes"].values())) == then.counted["cap_bytes"]
    assert said.frames_not_stored() == {key: dropped - said.stored[key]}
    assert said.lost["cap_bytes"][key] == dropped


async def test_with_a_full_disk_polls_go_on_and_what_cannot_be_journalled_is_counted_and_told(
    broker, plc, tmp_path, eventually
):
    with fault_site(broker, tmp_path, plc.port) as site:
        await frames_from(site, 50, eventually)
        process = site.gateway.process.pid
        _, most = resource.prlimit(process, resource.RLIMIT_FSIZE)
        resource.prlimit(process, resource.RLIMIT_FSIZE, (40_000, most))
        await eventually(lambda: site.gateway.metric("journal_lost_records_total", reason="disk_full") > 0, READY_S)
        broker.kill()
        await frames_from(site, 100, eventually)
        await eventually(lambda: "disk_full" in site.gateway.get("health")[1])
        broker.start()
        await frames_from(site, 50, eventually)
        resource.prlimit(process, resource.RLIMIT_FSIZE, (most, most))
        refused = int(site.frames)
        await frames_from(site, 50, eventually)
        said = await ended(site, eventually, lives=1)

    assert said.nowhere() == {}
    (key,) = [key for key in said.made if key[0] == "frame"]
    assert max(said.lost["disk_full"][key]) <= refused, "the disk takes all again"
    assert said.frames_not_stored() == {key: said.lost["disk_full"][key] - said.stored[key]}
    assert said.frames_not_stored()[key]
