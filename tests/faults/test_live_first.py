"""After an outage of the broker the live frames have the line first, and the backlog follows beside them."""

import signal
from typing import NamedTuple

import aiomqtt
import pytest

from contracts.v1.frame_codec import decode_frame
from plugins.drivers.modbus.simulated_unit import Unit
from plugins.drivers.modbus.simulator import ModbusSimulator
from tests.conftest import Eventually
from tests.faults.site import READY_S, TAGS, FaultSite, account, fault_site
from tests.real_broker import SITE

pytestmark = [pytest.mark.timeout(240), pytest.mark.slow]

BACKLOG = 1000
"""At 1,000 messages a second, the gateway's own bound, it lasts for a second or more, however fast the machine is."""


class Heard(NamedTuple):
    """A frame as it came. live: not out of the journal."""

    live: bool
    seq: int


async def frames_made(site: FaultSite, eventually: Eventually) -> int:
    """How many frames the gateway has made by now; asked again where a busy machine lets it not answer in time."""
    told: list[float] = []
    await eventually(lambda: told.append(site.frames) or told[-1] >= 0, READY_S)
    return int(told[-1])


async def heard_until_whole(client: aiomqtt.Client, owed_from: int) -> list[Heard]:
    """What comes, in its order, until every frame from this number to the newest has come, and some live ones after."""
    heard: list[Heard] = []
    missing: set[int] | None = None
    after = 0
    async for message in client.messages:
        assert isinstance(message.payload, bytes)
        topic = message.topic.value
        one = Heard("/backfill/" not in topic, decode_frame(message.payload, topic=topic).seq)
        heard.append(one)
        if one.live and missing is None:
            missing = set(range(owed_from, one.seq))
        elif missing is not None:
            missing.discard(one.seq)
        after += one.live and missing == set()
        if after == 20:
            break
    return heard


async def test_live_frames_come_before_the_backlog_of_an_outage_and_beside_it_and_nothing_is_missing(
    broker, tmp_path, eventually
):
    unit = Unit()
    for at in range(2 * TAGS):
        unit.holding[at] = at
    async with ModbusSimulator(units={1: unit}) as simulator:
        with fault_site(broker, tmp_path, simulator.port, interval="2ms") as site:
            await eventually(lambda: site.frames >= 20, READY_S)
            broker.kill()
            made = await frames_made(site, eventually)
            await eventually(lambda: site.gateway.metric("backlog") >= BACKLOG, READY_S)
            away = await frames_made(site, eventually)
            assert site.gateway.process is not None
            site.gateway.process.send_signal(signal.SIGSTOP)  # it comes back to a broker at which somebody listens
            broker.start()
            async with aiomqtt.Client("127.0.0.1", broker.port, protocol=aiomqtt.ProtocolVersion.V5) as client:
                await client.subscribe([(f"dinrail/v1/{SITE}/{kind}/#", 1) for kind in ("frame", "backfill/frame")])
                site.gateway.process.send_signal(signal.SIGCONT)
                heard = await heard_until_whole(client, made + 1)
            await eventually(site.settled, READY_S)
            assert site.gateway.stop() == 0
            await eventually(lambda: site.has_all_of(1), READY_S)
            assert site.recorder.stop() == 0
            said = account(site)

    live = [one.seq for one in heard if one.live]
    late = list(dict.fromkeys(one.seq for one in heard if not one.live and made < one.seq < live[0]))
    assert heard[0].live, "what is polled now has the line first"
    assert live[0] > away, "and nothing polled meanwhile comes as if it were live"
    assert live == sorted(set(live)), "in order"
    assert late == list(range(made + 1, live[0])), "in order, and whole"
    assert late[-1] >= away
    begun, ended = heard.index(Heard(False, late[0])), heard.index(Heard(False, late[-1]))
    assert [one for one in heard[begun:ended] if one.live], "and goes on having it while the backlog comes"
    assert said.nowhere() == {}
    assert said.frames_not_stored() == {}
