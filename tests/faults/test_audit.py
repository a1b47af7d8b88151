"""`dinrail recorder audit` after each fault: every number is exactly what the files of gateway and recorder say."""

import json
import resource
import shutil
import sqlite3
from contextlib import closing
from random import Random
from typing import Any

import aiomqtt
import pytest
import yaml

from plugins.drivers.modbus.simulated_unit import Unit
from plugins.drivers.modbus.simulator import ModbusSimulator
from tests.faults.site import DEVICE, GROUP, READY_S, SITE, Process, account, fault_site
from tests.faults.stepped import step
from tests.integration.test_cli_pipelines import dinrail
from tests.polling import until

pytestmark = pytest.mark.timeout(240)

SETTLED_S = 150.0
"""What an ended epoch has left is offered again once a minute."""
FRAMES = ("frame", DEVICE, GROUP)
RECORDER = {"store": {"kind": "embedded", "flush": "200ms"}}


@pytest.fixture
def unit():
    unit = Unit()
    for at in range(100):
        unit.holding[at] = at
    return unit


@pytest.fixture
async def plc(unit):
    async with ModbusSimulator(units={1: unit}) as simulator:
        yield simulator


@pytest.fixture
def folder(broker, tmp_path):
    """What the command line needs of a site."""
    folder = tmp_path / "site"
    (folder / "secrets").mkdir(parents=True)
    (folder / "secrets" / "viewer.password").write_text("any\n")
    settings = {"site": SITE, "broker": {"host": "127.0.0.1", "port": broker.port}}
    (folder / "dinrail.yaml").write_text(yaml.safe_dump(settings))
    return folder


async def audited(folder, *words) -> dict[str, Any]:
    """What the audit says; empty while it cannot be made. `frames`: the terms of the device's stream."""
    _, out, _ = await dinrail(folder, "recorder", "audit", "--json", *words)
    said = json.loads(out) if out else {}
    for one in said.get("streams", ()):
        if (one["kind"], one["owner"], one["stream"]) == FRAMES:
            said["frames"] = one
    return said


async def more_frames(site, count):
    """Returns when the gateway's present process has made so many more."""
    await until(lambda: site.frames >= 0, READY_S)
    before = site.frames
    await until(lambda: site.frames >= before + count, READY_S)


async def at_rest(unit, folder, *words) -> dict[str, Any]:
    """The audit once the device says nothing more and all that can be mended is: it is proved, and stays as it is."""
    unit.silent = True
    seen: list[dict[str, Any]] = [{}]

    async def rests() -> bool:
        """Whether two audits, one after the other, say the same of the frames."""
        seen.append(await audited(folder, *words))
        frames = seen[-1].get("frames")
        return bool(
            seen[-1].get("proved") and frames == seen[-2].get("frames") and not frames["journal"] + frames["under_way"]
        )

    await until(rests, SETTLED_S)
    return seen[-1]


def assert_exact(site, said):
    """The terms of the frames against what stands in the journal, the marks and the history of both, now killed."""
    site.gateway.kill()
    site.recorder.kill()
    files = account(site)
    frames = said["frames"]
    made = sorted((key[3], seq) for key, numbers in files.made.items() if key[0] == "frame" for seq in numbers)
    del made[frames["produced"] :]  # an empty one every 10 s, also after the audit
    stored = {(key[3], seq) for key, numbers in files.stored.items() if key[0] == "frame" for seq in numbers}
    assert len(made) == frames["produced"] == frames["stored"] + sum(frames["lost"].values())
    assert len(stored.intersection(made)) == frames["stored"] == frames["written"] + frames["spooled"]
    assert files.nowhere() == {}
    assert_events_exact(site, said, files)
    for tag in ("v0", "v19"):
        recorded = [(time, value) for time, value, _ in files.recorded(tag)]
        assert set(files.expected(tag)) <= set(recorded)
        assert len(recorded) == len(set(recorded)) <= frames["stored"]
    return files


def assert_events_exact(site, said, files):
    """Each message of the gateway's events is stored once (one without events has no row); no version is missing."""
    (events,) = [one for one in said["streams"] if (one["kind"], one["owner"]) == ("event", "gateway")]
    with closing(sqlite3.connect(site.recorder.data / "recorder.db")) as database:
        rows = database.execute(
            "SELECT epoch, seq FROM delivery JOIN stream ON stream.id = stream WHERE owner = 'gateway'"
        ).fetchall()
        (incomplete,) = database.execute("SELECT count(*) FROM aggregate WHERE held < last").fetchone()
    stored = {(key[3], seq) for key, some in files.stored.items() if key[:2] == ("event", "gateway") for seq in some}
    assert len(rows) == len(set(rows))
    assert set(rows) <= stored
    assert len(stored) >= events["stored"] == events["written"]
    assert incomplete == 0 or events["journal"] or events["lost"]


def events_stored(site, kind) -> list[dict[str, Any]]:
    """The data of the recorder's own events of that type that it has stored."""
    with closing(sqlite3.connect(site.recorder.data / "recorder.db")) as database:
        rows = database.execute("SELECT data FROM event WHERE type = ?", (kind,)).fetchall()
    return [json.loads(data) for (data,) in rows]


@pytest.mark.slow
async def test_a_killed_broker_costs_nothing_and_the_gap_it_left_is_told_as_an_event(
    broker, plc, unit, tmp_path, folder
):
    with fault_site(broker, tmp_path, plc.port) as site:
        await more_frames(site, 50)
        site.recorder.kill()
        await more_frames(site, 20)  # they wait at the broker, which has acknowledged them
        broker.kill()
        broker.start()
        site.recorder.start()
        await more_frames(site, 50)
        said = await at_rest(unit, folder)
        await until(lambda: events_stored(site, "gap.found") and events_stored(site, "gap.mended"), READY_S)
        assert said["frames"]["lost"] == {}
        assert_exact(site, said)


@pytest.mark.slow
async def test_a_recorder_killed_twenty_times_at_random_loses_nothing(broker, plc, unit, tmp_path, folder):
    random = Random()
    with fault_site(broker, tmp_path, plc.port) as site:
        await more_frames(site, 20)
        for life in range(20):
            if life % 10 == 0:
                await until(lambda: site.recorder.metric("intake_commits_total") > 0, READY_S)
            await more_frames(site, random.randint(1, 20))
            site.recorder.kill()
            site.recorder.start()
        said = await at_rest(unit, folder)
        assert said["frames"]["lost"] == {}
        assert_exact(site, said)


async def test_a_wiped_disk_of_the_recorder_is_told_to_the_last_frame(broker, plc, unit, tmp_path, folder):
    with fault_site(broker, tmp_path, plc.port, journal_cap_bytes=1 << 19) as site:
        await until(lambda: site.frames > site.gateway.metric("journal_records") + 100, SETTLED_S)
        site.recorder.kill()
        shutil.rmtree(site.recorder.data)
        site.recorder.start()
        await until(lambda: site.recorder.metric("frames_lost_total", reason="store_replaced") > 0, READY_S)
        said = await at_rest(unit, folder)
        lost = said["frames"]["lost"]
        assert lost["store_replaced"] > 0
        assert set(lost) <= {"store_replaced", "cap_bytes"}
        assert_exact(site, said)


@pytest.mark.slow
async def test_a_database_brought_back_from_an_older_copy_is_told_what_it_lacks_also_of_epochs_that_have_ended(
    broker, plc, unit, tmp_path, folder
):
    with fault_site(broker, tmp_path, plc.port, journal_cap_bytes=1 << 19) as site:
        await until(lambda: site.recorder.metric("stored_values_total") > 0, READY_S)
        site.recorder.kill()
        shutil.copytree(site.recorder.data, tmp_path / "copy")
        site.recorder.start()
        await more_frames(site, 30)
        site.gateway.stop()
        site.gateway.start()  # and all that its journal has of the first frames goes, since they are stored
        await until(lambda: site.frames > site.gateway.metric("journal_records") + 100, SETTLED_S)
        site.recorder.kill()
        shutil.rmtree(site.recorder.data)
        (tmp_path / "copy").rename(site.recorder.data)
        site.recorder.start()
        said = await at_rest(unit, folder)
        lost = said["frames"]["lost"]
        assert lost["trimmed"] > 100
        assert set(lost) == {"trimmed"}
        assert_exact(site, said)


@pytest.mark.slow
async def test_a_full_disk_of_the_recorder_holds_up_the_intake_and_costs_nothing_killed_or_not(
    broker, plc, unit, tmp_path, folder
):
    with fault_site(broker, tmp_path, plc.port) as site:
        await until(lambda: site.recorder.metric("intake_commits_total") > 0, READY_S)
        await disk_full(site)
        await more_frames(site, 100)  # they wait at the broker
        had = had_frames(site)
        status, health = site.recorder.get("health")
        assert (status, "the disk refuses" in health) == (503, True)
        assert set(await audited(folder)) >= {"frames"}, "what is there can be looked at all the same"

        limit_files(site, resource.RLIM_INFINITY)
        await until(lambda: had_frames(site) >= had + 100, READY_S)
        await until(lambda: site.recorder.get("health")[0] == 200, READY_S)

        await disk_full(site)
        await more_frames(site, 50)
        site.recorder.kill()
        site.recorder.start()
        said = await at_rest(unit, folder)
        assert said["frames"]["lost"] == {}
        assert_exact(site, said)


def limit_files(site, most):
    """How long a file of the recorder may become from now on, in bytes."""
    _, hard = resource.prlimit(site.recorder.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(site.recorder.process.pid, resource.RLIMIT_FSIZE, (most, hard))


async def disk_full(site):
    """Returns when the recorder has said that its disk refuses."""
    limit_files(site, 60_000)
    await until(lambda: "the disk refuses" in site.recorder.get("health")[1], READY_S)


def had_frames(site) -> int:
    """How many frames the recorder's marks name."""
    with closing(sqlite3.connect(site.recorder.data / "recorder.db")) as database:
        rows = database.execute("SELECT have FROM mark JOIN stream ON id = stream WHERE kind = 'frame'").fetchall()
    return sum(last - first + 1 for (have,) in rows for first, last in json.loads(have))


async def test_a_gateway_killed_again_and_again_explains_the_frames_of_all_its_lives(
    broker, plc, unit, tmp_path, folder
):
    with fault_site(broker, tmp_path, plc.port) as site:
        for _ in range(3):
            await more_frames(site, 30)
            site.gateway.kill()
            site.gateway.start()
        await more_frames(site, 30)
        said = await at_rest(unit, folder)
        files = assert_exact(site, said)
        assert len({key[3] for key in files.made if key[0] == "frame"}) == 4


@pytest.mark.slow
async def test_clocks_that_are_stepped_back_and_forth_cost_no_number(broker, plc, unit, tmp_path, folder):
    offset = tmp_path / "offset"
    step(offset, 0)
    with fault_site(broker, tmp_path, plc.port) as site:
        for process in (site.gateway, site.recorder):
            process.kill()
            process.module = ["tests.faults.stepped", process.service, str(offset)]
            process.start()
        for seconds in (0, -3600, 86400, -120, 0):
            step(offset, seconds)
            await more_frames(site, 20)
            site.gateway.kill()  # its next epoch must be above the last, whatever the clock says
            site.gateway.start()
        said = await at_rest(unit, folder)
        parts = [await audited(folder, "--until", "2020-01-01"), await audited(folder, "--since", "2020-01-01")]
        assert sum(part["frames"]["stored"] for part in parts) >= said["frames"]["stored"]
        assert parts[0]["frames"]["stored"] == 0
        assert_exact(site, said)


async def test_duplicates_count_once_and_are_told_as_an_event(broker, plc, unit, tmp_path, folder):
    with fault_site(broker, tmp_path, plc.port) as site:
        await until(lambda: site.recorder.metric("intake_commits_total") > 0, READY_S)
        async with aiomqtt.Client("127.0.0.1", broker.port, protocol=aiomqtt.ProtocolVersion.V5) as client:
            await client.subscribe(f"dinrail/v1/{SITE}/frame/#", qos=1)
            heard: list[aiomqtt.Message] = []
            async for message in client.messages:
                heard.append(message)
                if len(heard) == 30:
                    break
            await client.unsubscribe(f"dinrail/v1/{SITE}/frame/#")
            for message in heard:
                await client.publish(str(message.topic), message.payload, qos=1)
        await until(lambda: site.recorder.metric("frame_duplicates_total") >= 30, READY_S)
        await until(lambda: events_stored(site, "duplicates.found"), READY_S)
        said = await at_rest(unit, folder)
        assert said["frames"]["lost"] == {}
        assert_exact(site, said)


@pytest.mark.slow
async def test_the_last_frames_of_a_stream_that_the_broker_lost_are_found_by_the_next_empty_one(
    broker, plc, unit, tmp_path, folder
):
    with fault_site(broker, tmp_path, plc.port) as site:
        await more_frames(site, 30)
        site.recorder.kill()
        await more_frames(site, 30)
        unit.silent = True  # nothing comes after them
        await until(lambda: site.gateway.metric("backlog") == 0, READY_S)
        broker.kill()
        broker.start()
        site.recorder.start()
        said = await at_rest(unit, folder)
        assert said["frames"]["lost"] == {}
        assert_exact(site, said)


@pytest.mark.slow
async def test_of_two_required_recorders_each_gets_all_also_what_came_while_one_was_away(
    broker, plc, unit, tmp_path, folder
):
    required = {"required_recorders": ["recorder", "second"], "journal_cap_bytes": 1 << 20}
    with fault_site(broker, tmp_path, plc.port, **required) as site:
        second = Process("recorder", tmp_path / "second", broker, {"instance": "second", **RECORDER})
        try:
            second.start()
            await more_frames(site, 100)
            second.kill()
            await more_frames(site, 300)
            unit.silent = True  # else the journal goes on growing, to its cap
            await until(lambda: had_frames(site) >= 400, READY_S)
            broker.kill()  # with what it has kept for the second: now the journal alone has it
            broker.start()
            second.start()
            theirs = await at_rest(unit, folder, "--recorder", "second")
            said = await at_rest(unit, folder)  # an empty frame may have come between the two
            for terms in (theirs["frames"], said["frames"]):
                assert (terms["stored"], terms["lost"]) == (terms["produced"], {})
            assert said["frames"]["produced"] >= theirs["frames"]["produced"] >= 400
            assert_exact(site, said)
        finally:
            second.kill()


async def test_a_second_recorder_of_one_name_refuses_and_the_first_notices_nothing(broker, plc, unit, tmp_path, folder):
    with fault_site(broker, tmp_path, plc.port) as site:
        await until(lambda: site.recorder.metric("intake_commits_total") > 0, READY_S)
        rival = Process("recorder", tmp_path / "rival", broker, RECORDER)
        rival.start()
        try:
            await until(lambda: rival.process.poll() is not None, READY_S)
            assert rival.process.returncode == 1
            assert "another recorder named 'recorder' lives" in rival.log
        finally:
            rival.kill()
        assert site.recorder.metric("bus_reconnects_total") == 0
        assert site.recorder.log.count("intake_connected") == 1
        said = await at_rest(unit, folder)
        assert_exact(site, said)


async def test_an_owner_that_does_not_answer_is_named_and_nothing_is_proved_unless_it_is_gone(
    broker, plc, unit, tmp_path, folder
):
    with fault_site(broker, tmp_path, plc.port) as site:
        await more_frames(site, 20)
        await at_rest(unit, folder)

        async def delivered() -> bool:
            """Also what it has told before the recorder listened, which else goes with its journal."""
            return (await audited(folder)).get("total", {}).get("journal") == 0

        await until(delivered, SETTLED_S)
        assert site.gateway.stop() == 0
        code, out, _ = await dinrail(folder, "recorder", "audit")

        assert code == 1
        assert "gateway: is offline" in out
        assert out.endswith("not proved")
        async with aiomqtt.Client("127.0.0.1", broker.port, protocol=aiomqtt.ProtocolVersion.V5) as client:
            await client.publish(f"dinrail/v1/{SITE}/service/gateway/gateway", b"", qos=1, retain=True)
        code, out, _ = await dinrail(folder, "recorder", "audit")
        assert code == 1
        assert "gateway: has streams here, but the broker does not know it" in out
        told: list[tuple[int, str, str]] = []

        async def proved() -> bool:
            """Not while the recorder's own events are under way."""
            told.append(await dinrail(folder, "recorder", "audit", "--without", "gateway"))
            return told[-1][0] == 0

        await until(proved, READY_S)
        assert "gateway: is gone; what it alone knew of is not counted" in told[-1][1]
        assert told[-1][1].endswith("nothing is missing")
        code, _, why = await dinrail(folder, "recorder", "audit", "--without", "recorder")
        assert code == 2
        assert why.endswith("no service of this name keeps silent; those that do: gateway")


async def test_an_audit_of_no_stream_and_one_of_no_time_prove_nothing(broker, plc, unit, tmp_path, folder):
    with fault_site(broker, tmp_path, plc.port) as site:
        await more_frames(site, 20)
        await at_rest(unit, folder)
        code, _, why = await dinrail(folder, "recorder", "audit", "plk/*")
        assert (code, why) == (2, "no stream is called plk/*; without it, `dinrail recorder audit` names them all")
        code, _, why = await dinrail(folder, "recorder", "audit", "--since", "1h", "--until", "2h")
        assert (code, why) == (2, "--since is not before --until")
