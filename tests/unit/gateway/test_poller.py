"""An open device at work, against a device that does what each test says."""

import asyncio
from contextlib import contextmanager
from functools import partial
from random import Random

import pytest

from contracts.v1.device import Circuit
from plugins.api.driver import DeviceError, Reading
from services.runtime.retry import Backoff
from tests.unit.gateway.scripted_device import DeviceOfUnits, ScriptedDevice, ended_with, heard, polling, steep_backoff


async def test_each_group_is_polled_at_its_own_interval():
    device = ScriptedDevice()
    async with polling(device, fast=0.01, slow=30.0) as (_, listener, _task):
        await heard(listener, lambda: device.reads.count("fast") >= 5)

    assert device.reads.count("slow") == 1


class EagerDevice(ScriptedDevice):
    """Answers without waiting, and fails if it is asked again and again with no turn for anybody else between."""

    def __init__(self):
        super().__init__()
        self._asked_in_a_turn = 0

    async def read(self, group):
        if not self._asked_in_a_turn:
            asyncio.get_running_loop().call_soon(self._turn)
        self._asked_in_a_turn += 1
        assert self._asked_in_a_turn < 100, "nobody else gets a turn"
        return await super().read(group)

    def _turn(self):
        self._asked_in_a_turn = 0


async def test_a_group_without_interval_is_polled_again_at_once_and_holds_up_no_other():
    device = EagerDevice()
    async with polling(device, flat_out=0.0, steady=0.02) as (_, listener, task):
        await heard(listener, lambda: device.reads.count("steady") >= 3 or task.done())

        assert not task.done()

    assert device.reads.count("flat_out") > 3 * device.reads.count("steady")


async def test_a_group_that_fails_alone_is_told_and_does_not_end_the_connection():
    device = ScriptedDevice()
    device.answers["dead"] = DeviceError("no answer")
    async with polling(device, dead=0.01, alive=0.01) as (_, listener, task):
        await heard(listener, lambda: device.reads.count("alive") >= 10)

        assert not task.done()

    assert listener.failures == [("dead", "no answer")]
    assert device.reads.count("dead") == 1, "it is tried again only after a wait"


async def test_a_lost_connection_leaves_no_cancellation_counted_on_the_task_that_worked_on_it():
    """Python 3.11.2 (Debian 12) takes every deadline that passes in such a task for a cancellation: a crash."""
    device = ScriptedDevice()
    device.answers["fast"] = DeviceError("gone", lost=True)
    async with polling(device, fast=0.01) as (_, _listener, task):
        assert await ended_with(task) == ["gone"]
        assert task.cancelling() == 0


async def test_a_reading_that_cannot_be_sent_is_a_failed_poll():
    device = ScriptedDevice()
    device.answers["text"] = Reading(1, {"text": "too long"})
    async with polling(device, text=0.01, alive=0.01) as (_, listener, task):
        await heard(listener, lambda: device.reads.count("alive") >= 10)

        assert not task.done()

    assert listener.failures[0] == ("text", "too long")
    assert (False, 0) in listener.polls


async def test_when_every_group_fails_the_connection_is_given_up():
    device = ScriptedDevice()
    device.answers = {"one": DeviceError("no answer"), "two": DeviceError("no answer")}
    async with polling(device, one=0.01, two=0.01) as (_, _listener, task):
        assert await ended_with(task) == ["no answer"]


async def test_a_silent_device_is_given_up_after_two_groups_however_rarely_the_others_are_polled():
    device = ScriptedDevice()
    async with polling(device, fast=0.01, slow=60.0, slower=3600.0) as (_, listener, task):
        await heard(listener, lambda: len(listener.readings) >= 5)
        device.answers = dict.fromkeys(("fast", "slow", "slower"), DeviceError("no answer"))

        assert await ended_with(task) == ["no answer"]

    assert len([one for one in listener.polls if not one[0]]) == 2


async def test_a_lost_connection_is_given_up_at_once():
    device = ScriptedDevice()
    device.answers["fast"] = DeviceError("the line is cut", lost=True)
    async with polling(device, fast=0.01, slow=60.0) as (_, _listener, task):
        assert await ended_with(task) == ["the line is cut"]


class HandClock:
    """Goes on by hand."""

    now = 100.0

    def now_us(self):
        return int(self.now * 1e6)

    def monotonic(self):
        return self.now


async def test_polls_that_fall_due_during_a_long_one_are_counted_as_overruns():
    device, clock = ScriptedDevice(), HandClock()
    device.gate.clear()
    async with polling(device, clock, fast=0.5) as (_, listener, _task):
        async with asyncio.timeout(30):
            await device.asked.wait()
        clock.now += 2.25
        device.gate.set()
        await heard(listener, lambda: listener.polls)

    assert listener.polls[0] == (True, 3), "the slots at 0.5, 1 and 1.5 s; the one at 2 s is polled late"


async def test_a_question_is_answered_between_polls_and_never_beside_one():
    device = ScriptedDevice()
    async with polling(device, fast=0.005, slow=60.0) as (poller, listener, _task):
        await heard(listener, lambda: listener.readings)

        answers = await asyncio.gather(*(poller.ask(["fast", "slow"]) for _ in range(5)))

    assert [[reading.values for reading in readings] for readings in answers] == [
        [{"fast": 1.0}, {"slow": 1.0}] for _ in range(5)
    ]


async def test_what_follows_a_question_is_done_behind_the_answer_and_before_the_next_poll():
    order = []

    async def work():
        order.append("done")

    async with polling(ScriptedDevice(), fast=60.0) as (poller, listener, _task):
        await heard(listener, lambda: listener.readings)

        await poller.between("fast", work, lambda: order.append("followed"))
        order.append("answered")
        asyncio.get_running_loop().call_soon(order.append, "sent")
        await poller.ask(["fast"])

    assert order == ["done", "answered", "sent", "followed"]


async def test_a_question_to_a_device_that_does_not_answer_is_a_device_error():
    device = ScriptedDevice()
    async with polling(device, fast=60.0, slow=60.0) as (poller, listener, _task):
        await heard(listener, lambda: len(listener.readings) == 2)
        device.answers["fast"] = DeviceError("no answer")

        with pytest.raises(DeviceError, match="no answer"):
            await poller.ask(["fast"])


async def test_a_question_that_waits_when_the_connection_is_lost_is_a_device_error():
    device = ScriptedDevice(pushing=("live",))
    async with polling(device, live=1.0, slow=60.0) as (poller, listener, task):
        await heard(listener, lambda: listener.readings)
        device.gate.clear()
        device.asked.clear()
        question = asyncio.create_task(poller.ask(["slow"]))
        async with asyncio.timeout(30):
            await device.asked.wait()
        await device.pushed.put(DeviceError("connection lost"))

        async with asyncio.timeout(30):
            with pytest.raises(DeviceError, match="connection was lost"):
                await question
        assert await ended_with(task) == ["connection lost"]
        with pytest.raises(DeviceError, match="connection was lost"):
            await poller.ask(["slow"])


async def test_a_subscribed_group_is_followed_and_not_polled():
    device = ScriptedDevice(pushing=("live",))
    async with polling(device, live=0.001, slow=60.0) as (poller, listener, _task):
        await device.pushed.put(Reading(5, {"live": 2.0}))
        await heard(listener, lambda: len(listener.readings) == 2)

        assert poller.subscribed == {"live"}
        assert ("live", Reading(5, {"live": 2.0})) in listener.readings

    assert device.reads == ["slow"]


@pytest.mark.parametrize(
    ("end", "told"), [(DeviceError("server gone"), "server gone"), (None, "the subscription of live has ended")]
)
async def test_a_subscription_that_ends_gives_up_the_connection(end, told):
    device = ScriptedDevice(pushing=("live",))
    async with polling(device, live=1.0) as (_, _listener, task):
        await device.pushed.put(end)

        assert await ended_with(task) == [told]


async def test_a_dead_polled_group_beside_a_living_subscription_does_not_end_the_connection():
    device = ScriptedDevice(pushing=("live",))
    device.answers["slow"] = DeviceError("no answer")
    async with polling(device, live=1.0, slow=0.01) as (_, listener, task):
        await heard(listener, lambda: listener.failures)
        await device.pushed.put(Reading(5, {"live": 2.0}))
        await heard(listener, lambda: listener.readings)

        assert not task.done()


async def test_a_bug_in_the_driver_is_not_taken_for_a_fault_of_the_device():
    device = ScriptedDevice()
    device.answers["fast"] = KeyError("oops")
    async with polling(device, fast=0.01) as (_, listener, task):
        assert await ended_with(task) == ["'oops'"]

    assert listener.failures == []


async def test_a_silent_lane_does_not_hold_up_the_others():
    device = DeviceOfUnits()
    device.gates["dead"] = asyncio.Event()
    async with polling(device, dead_a=0.01, dead_b=0.01, alive_a=0.01, alive_b=0.01) as (_, listener, task):
        await heard(listener, lambda: device.reads.count("alive_b") >= 10)

        assert not task.done()

    assert device.reads.count("dead_a") + device.reads.count("dead_b") == 1


async def test_a_question_to_one_lane_does_not_wait_for_another():
    device = DeviceOfUnits()
    device.gates["dead"] = asyncio.Event()
    async with polling(device, dead_a=0.01, alive_a=60.0) as (poller, _listener, _task):
        async with asyncio.timeout(30):
            assert [reading.values for reading in await poller.ask(["alive_a"])] == [{"alive_a": 1.0}]


async def test_after_five_failures_in_a_row_a_lane_is_probed_by_one_group_at_a_time():
    device = DeviceOfUnits()
    for group in ("dead_a", "dead_b", "dead_c"):
        device.answers[group] = DeviceError("silent")
    intervals = {"dead_a": 0.001, "dead_b": 0.001, "dead_c": 0.001, "alive_a": 0.002}
    async with polling(device, backoff=steep_backoff(0.05), **intervals) as (_, listener, task):
        await heard(listener, lambda: len(listener.failures) == 7)
        probed_at = len(device.reads)
        await heard(listener, lambda: len(device.reads) >= probed_at + 20)

        assert not task.done()

    dead = [group for group in device.reads if group.startswith("dead")]
    assert len(dead) == 6, "two polls, three more after the groups' own waits, one probe, and then silence"


async def test_when_a_lane_answers_its_probe_every_group_of_it_is_polled_again():
    device = DeviceOfUnits()
    groups = ("dead_a", "dead_b", "dead_c")
    for group in groups:
        device.answers[group] = DeviceError("silent")
    intervals = dict.fromkeys(groups, 0.001) | {"alive_a": 0.002}
    async with polling(device, backoff=steep_backoff(0.02), **intervals) as (_, listener, _task):
        await heard(listener, lambda: len(listener.failures) == 6)

        device.answers.clear()  # the circuit is open, and some groups' own waits are an hour long

        await heard(listener, lambda: {group for group, _ in listener.readings} >= set(groups))


@pytest.mark.parametrize("failures", [2, 6])
async def test_when_a_lane_answers_again_its_rare_groups_are_polled_at_once(failures):
    device = DeviceOfUnits()
    groups = ("dead_fast", "dead_rare")
    intervals = {"dead_fast": 0.001, "dead_rare": 3600.0, "alive_a": 0.002}
    backoff = partial(Backoff, first_s=0.01, random=Random(1))
    async with polling(device, backoff=backoff, **intervals) as (_, listener, _task):
        await heard(listener, lambda: {group for group, _ in listener.readings} == set(intervals))
        device.answers = dict.fromkeys(groups, DeviceError("silent"))
        await heard(listener, lambda: len(listener.failures) >= failures)
        assert ("dead_rare", "silent") in listener.failures
        listener.readings.clear()

        device.answers.clear()

        await heard(listener, lambda: {group for group, _ in listener.readings} >= set(groups))


async def test_a_question_that_is_given_up_before_its_turn_is_not_asked():
    device = ScriptedDevice()
    done = []

    async def work():
        done.append(True)

    device.gate.clear()
    async with polling(device, fast=0.01) as (poller, listener, _task):
        await device.asked.wait()
        question = asyncio.create_task(poller.between("fast", work))
        await asyncio.sleep(0)
        question.cancel()
        device.gate.set()
        await heard(listener, lambda: len(listener.readings) >= 2)

    assert question.cancelled()
    assert not done


async def test_a_part_that_does_not_answer_is_sought_at_the_same_pace_however_long_it_is_away():
    device = DeviceOfUnits()
    device.answers["dead_a"] = DeviceError("silent")
    backoff = partial(Backoff, first_s=0.01, silent_s=0.02, most_s=3600.0, factor=1e6, random=Random(1))
    async with polling(device, backoff=backoff, dead_a=0.01, alive_a=0.01) as (poller, listener, _):
        await heard(listener, lambda: device.reads.count("dead_a") >= 20)
        assert poller.circuit is Circuit.OPEN
        del device.answers["dead_a"]
        await heard(listener, lambda: "dead_a" in [group for group, _ in listener.readings])

    assert poller.circuit is Circuit.CLOSED


class Quiet:
    """Counts who has asked for it, and says whether somebody does now."""

    def __init__(self):
        self.asked = self.now = 0

    @contextmanager
    def __call__(self):
        self.asked += 1
        self.now += 1
        try:
            yield
        finally:
            self.now -= 1


class Telling(ScriptedDevice):
    """Notes whether it was quiet when it was asked."""

    def __init__(self, quiet):
        super().__init__()
        self.quiet = quiet
        self.heard = []

    async def read(self, group):
        self.heard.append((group, self.quiet.now))
        return await super().read(group)


@pytest.mark.parametrize(("interval_s", "asks"), [(0.05, True), (0.0, False)])
async def test_a_poll_asks_for_quiet_unless_polls_never_end(interval_s, asks):
    quiet = Quiet()
    device = Telling(quiet)
    async with polling(device, quiet=quiet, fast=interval_s) as (_, listener, _task):
        await heard(listener, lambda: len(listener.readings) >= 2)

    assert {bool(loud) for _, loud in device.heard} == {asks}
    assert bool(quiet.asked) == asks
    assert quiet.now == 0


async def test_a_question_asks_for_quiet_while_the_device_is_busy_with_it():
    quiet = Quiet()
    device = Telling(quiet)
    async with polling(device, quiet=quiet, fast=60.0) as (poller, listener, _task):
        await heard(listener, lambda: listener.readings)
        during = await poller.between("fast", lambda: asyncio.sleep(0, quiet.now))

    assert (during, quiet.now) == (1, 0)
