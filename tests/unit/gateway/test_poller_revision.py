"""A device at work that is told to be another one on the connection that it has: what stays the same goes on."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.api.driver import DeviceError, Reading
from tests.unit.gateway.scripted_device import (
    DeviceOfUnits,
    ScriptedDevice,
    ended_with,
    heard,
    polling,
    spec,
    steep_backoff,
)


class Revisable(ScriptedDevice):
    """Groups named unit_group are of that unit's lane; a revision waits for `may` and does what `error` says."""

    def __init__(self, pushing=()):
        super().__init__(pushing)
        self.log = []
        self.may = asyncio.Event()
        self.may.set()
        self.revising = asyncio.Event()
        self.error = None

    async def subscribe(self, group):
        self.log.append(f"open {group}")
        try:
            async for reading in super().subscribe(group):
                yield reading
        finally:
            self.log.append(f"close {group}")

    async def revise(self, device):
        self.log.append("revise")
        self.revising.set()
        await self.may.wait()
        if self.error:
            raise self.error


class RevisableUnits(DeviceOfUnits):
    async def revise(self, device):
        pass


def nothing():
    pass


async def test_a_group_that_stays_is_polled_on_while_the_device_takes_another_spec():
    device = Revisable()
    device.may.clear()
    async with polling(device, kept=0.01, changed=0.01, gone=0.01) as (poller, listener, _):
        await heard(listener, lambda: {"kept", "changed", "gone"} <= set(device.reads))
        revision = asyncio.create_task(poller.revise(spec(kept=0.01, changed=0.02, new=0.01), nothing))
        await device.revising.wait()
        device.reads.clear()
        await heard(listener, lambda: device.reads.count("kept") >= 10)
        meanwhile = set(device.reads)
        device.may.set()
        await revision
        await heard(listener, lambda: {"changed", "new"} <= set(device.reads))

    assert meanwhile == {"kept"}
    assert "gone" not in device.reads
    assert poller.asked_hz == 100 + 50 + 100
    assert not any(overruns for _, overruns in listener.polls[-20:-10])


async def test_the_groups_that_change_are_told_of_after_their_last_reading_and_before_their_first():
    device = Revisable()
    async with polling(device, kept=0.01, changed=0.01) as (poller, listener, _):
        await heard(listener, lambda: "changed" in device.reads)
        before = []
        await poller.revise(spec(kept=0.01, changed=0.02), lambda: before.extend(listener.readings))
        await heard(listener, lambda: len(listener.readings) > len(before))

    assert listener.readings[: len(before)] == before


async def test_a_silent_part_that_changes_does_not_hold_up_the_polls_of_another():
    device = RevisableUnits()
    device.gates["dead"] = asyncio.Event()
    async with polling(device, dead_a=0.01, alive_a=0.01) as (poller, listener, _):
        await heard(listener, lambda: "dead_a" in device.reads)
        revision = asyncio.create_task(poller.revise(spec(dead_b=0.01, alive_a=0.01), nothing))
        polled = device.reads.count("alive_a")
        await heard(listener, lambda: device.reads.count("alive_a") >= polled + 10)
        assert not revision.done(), "it waits for what is being asked"
        device.gates["dead"].set()
        await revision
        await heard(listener, lambda: "dead_b" in device.reads)


async def test_a_part_without_a_group_is_asked_no_more_and_a_new_one_is():
    device = RevisableUnits()
    async with polling(device, one_a=0.01, two_a=0.01) as (poller, listener, _):
        await heard(listener, lambda: "two_a" in device.reads)
        await poller.revise(spec(one_a=0.01, three_a=0.01), nothing)
        with pytest.raises(DeviceError, match="two_a has just been changed"):
            await poller.ask(["two_a"])
        assert (await poller.ask(["three_a"]))[0].values == {"three_a": 1.0}
        assert poller.lane("three_a") == "three"


async def test_a_question_that_waits_is_refused_if_its_group_has_gone_and_answered_if_not():
    device = Revisable()
    async with polling(device, kept=60.0, gone=60.0) as (poller, listener, _):
        await heard(listener, lambda: len(listener.readings) == 2)
        device.gate.clear()
        device.asked.clear()
        first = asyncio.create_task(poller.ask(["gone"]))
        await device.asked.wait()
        waiting = [asyncio.create_task(poller.ask([group])) for group in ("gone", "kept")]
        revision = asyncio.create_task(poller.revise(spec(kept=60.0), nothing))
        await asyncio.sleep(0)
        device.gate.set()
        results = await asyncio.gather(first, *waiting, revision, return_exceptions=True)

    assert results[0][0].values == {"gone": 1.0}, "it was being answered: the revision waits for it"
    assert str(results[1]) == "the group gone has just been changed"
    assert results[2][0].values == {"kept": 1.0}
    assert results[3] is None


async def test_subscriptions_that_stay_stay_open_and_others_are_closed_first_and_opened_anew(eventually):
    device = Revisable(pushing=("kept", "changed"))
    async with polling(device, kept=0.5, changed=0.5) as (poller, listener, _):
        await eventually(lambda: len(device.log) == 2)
        await poller.revise(spec(kept=0.5, changed=0.6), nothing)
        await eventually(lambda: len(device.log) == 5)
        device.pushed.put_nowait(Reading(1, {"kept": 2.0}))
        await heard(listener, lambda: listener.readings)
        assert poller.subscribed == {"kept", "changed"}

    assert sorted(device.log[:2]) == ["open changed", "open kept"]
    assert device.log[2:5] == ["close changed", "revise", "open changed"]


async def test_a_new_group_of_a_part_with_an_open_circuit_is_its_next_probe():
    device = RevisableUnits()
    for group in ("dead_a", "dead_b", "dead_c"):
        device.answers[group] = DeviceError("silent")
    intervals = {"dead_a": 0.001, "dead_b": 0.001, "dead_c": 0.001, "alive_a": 0.002}
    async with polling(device, backoff=steep_backoff(0.02), **intervals) as (poller, listener, _):
        await heard(listener, lambda: len(listener.failures) == 7)  # the next probe is an hour away
        await poller.revise(spec(dead_new=0.001, **intervals), nothing)
        await heard(listener, lambda: ("dead_new", Reading(1, {"dead_new": 1.0})) in listener.readings)


@pytest.mark.parametrize("error", [DeviceError("it cannot"), DeviceError("gone", lost=True)])
async def test_a_device_that_cannot_says_so_and_the_caller_decides(error):
    device = Revisable()
    device.error = error
    async with polling(device, kept=0.01, changed=0.01) as (poller, listener, task):
        with pytest.raises(DeviceError, match=str(error)):
            await poller.revise(spec(kept=0.01), nothing)
        polled = device.reads.count("kept")
        await heard(listener, lambda: device.reads.count("kept") > polled + 2)

        assert not task.done()


async def test_a_driver_without_revisions_says_so():
    async with polling(ScriptedDevice(), only=0.01) as (poller, _, __):
        with pytest.raises(DeviceError, match="needs a new connection"):
            await poller.revise(spec(only=0.02), nothing)


async def test_a_bug_in_a_revision_ends_the_connection_and_tells_who_asked():
    device = Revisable()
    device.error = KeyError("no such group")
    async with polling(device, kept=0.01) as (poller, _, task):
        with pytest.raises(DeviceError):
            await poller.revise(spec(kept=0.02), nothing)

        assert await ended_with(task) == ["'no such group'"]


async def test_a_connection_that_is_lost_meanwhile_ends_the_revision():
    device = Revisable()
    device.may.clear()
    async with polling(device, kept=0.01, changed=0.01) as (poller, _, task):
        revision = asyncio.create_task(poller.revise(spec(kept=0.01), nothing))
        await device.revising.wait()
        device.answers["kept"] = DeviceError("gone", lost=True)
        with pytest.raises(DeviceError):
            await revision

        assert await ended_with(task) == ["gone"]


class Strict(DeviceOfUnits):
    """Knows the groups of its present spec only, and is never asked for one that changes while it is revised."""

    def __init__(self):
        super().__init__()
        self.intervals = {}
        self.changing = set()

    def follow(self, device):
        self.intervals = {group.name: group.interval_s for group in device.groups}

    async def revise(self, device):
        after = {group.name: group.interval_s for group in device.groups}
        self.changing = {name for name, interval_s in self.intervals.items() if after.get(name) != interval_s}
        await asyncio.sleep(0)
        self.follow(device)
        self.changing = set()

    async def read(self, group):
        assert group in self.intervals, f"{group} is no group of the device"
        assert group not in self.changing, f"{group} is being changed"
        await asyncio.sleep(0)
        return await super().read(group)


GROUPS = st.dictionaries(st.sampled_from(["a_1", "a_2", "b_1", "b_2", "c_1"]), st.sampled_from([0.0, 0.001, 60.0]))


@given(specs=st.lists(GROUPS.filter(bool), min_size=2, max_size=5), asked=st.sampled_from(["a_1", "b_2"]))
@settings(max_examples=40, deadline=None)
def test_whatever_the_edits_the_device_is_asked_for_its_present_groups_one_at_a_time_in_each_part(specs, asked):
    async def edit():
        device = Strict()
        device.follow(spec(**specs[0]))
        async with polling(device, **specs[0]) as (poller, listener, task):
            for intervals in specs[1:]:
                question = asyncio.create_task(poller.ask([asked]))
                await poller.revise(spec(**intervals), nothing)
                heard_before = len(listener.readings)
                new = intervals.keys() - {group for group, _ in listener.readings}
                await heard(listener, lambda new=new: new <= {group for group, _ in listener.readings})
                (outcome,) = await asyncio.gather(question, return_exceptions=True)
                assert isinstance(outcome, list | DeviceError)
                assert {group for group, _ in listener.readings[heard_before:]} <= intervals.keys()
            assert not task.done()

    asyncio.run(edit())
