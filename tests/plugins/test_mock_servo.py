"""The servo axis stays within its limits, arrives exactly, and its driver keeps every driver's promises that apply."""

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import plugins
from plugins.api.bench import WallClock, device_spec
from plugins.api.driver import Calls, DeviceError
from plugins.api.registry import load_plugin
from plugins.api.soundness import assert_sound, tags_of
from plugins.api.suite import LocalDriverSuite
from plugins.drivers.mock_servo.axis import Axis, braking, travel
from plugins.drivers.mock_servo.driver import DRIVER

SIGNALS = {
    "position": "float64",
    "velocity": "float64",
    "torque": "float64",
    "target": "float64",
    "moving": "bool",
    "homed": "bool",
}
TAGS = {name: {"signal": name, "type": kind, "writable": name == "target"} for name, kind in SIGNALS.items()}
GROUPS = {"all": {"interval": "100ms", "tags": TAGS}}

places = st.floats(-1000, 1000).map(lambda value: round(value, 3))
limits = st.floats(0.5, 500)


@given(start=places, speed=st.floats(-300, 300), target=places, velocity=limits, acceleration=limits)
def test_a_motion_never_exceeds_its_limits_and_arrives_exactly_and_standing(
    start, speed, target, velocity, acceleration
):
    profile = travel(start, speed, target, velocity=velocity, acceleration=acceleration)

    moments = [profile.seconds * step / 200 for step in range(201)]
    motions = [profile.at(moment) for moment in moments]

    assert profile.at(profile.seconds + 1e-6) == (target, 0.0, 0.0)
    assert all(abs(motion.velocity) <= max(velocity, abs(speed)) + 1e-6 for motion in motions)
    assert all(abs(motion.acceleration) <= acceleration + 1e-6 for motion in motions)
    step_s = profile.seconds / 200
    for before, after in pairwise(motions):
        assert abs(after.position - before.position) <= max(velocity, abs(speed)) * step_s + 1e-3, (
            "no jump, the end included"
        )


@given(position=places, speed=st.floats(-300, 300), acceleration=limits)
def test_braking_takes_the_way_that_its_energy_asks_for(position, speed, acceleration):
    profile = braking(position, speed, acceleration=acceleration)

    assert abs(profile.target - position) == pytest.approx(speed * speed / (2 * acceleration), abs=1e-6)
    assert profile.at(profile.seconds).velocity == 0


def test_a_new_target_in_mid_motion_continues_from_the_present_place_and_speed():
    axis = Axis(lowest=0, highest=500, velocity=200, acceleration=1000)
    axis.move_to(400, 0.0)
    before = axis.motion(0.5)

    axis.move_to(100, 0.5)

    after = axis.motion(0.5)
    assert (after.position, after.velocity) == (before.position, before.velocity)
    assert axis.motion(10).position == 100


def test_a_target_outside_the_range_is_refused_and_the_axis_stays():
    axis = Axis(lowest=0, highest=500, velocity=200, acceleration=1000)

    with pytest.raises(ValueError, match="501 mm is outside 0 to 500 mm"):
        axis.move_to(501, 0.0)
    assert axis.remaining_s(0.0) == 0


def spec(**connection):
    return device_spec(DRIVER, connection=connection, groups=GROUPS)


class ServoBench:
    """See plugins.api.bench.LocalBench."""

    driver = DRIVER

    def __init__(self):
        self.device = spec()
        self.written = {"target": 120.0}


class TestMockServo(LocalDriverSuite):
    @pytest.fixture
    def bench(self):
        return ServoBench()


async def test_every_signal_is_read_with_its_declared_type():
    device = spec()
    async with DRIVER.open(device, clock=WallClock()) as servo:
        reading = await servo.read("all")

    assert_sound(reading, tags_of(device.groups[0]))
    assert reading.values == {
        "position": 0.0,
        "velocity": 0.0,
        "torque": 0.0,
        "target": 0.0,
        "moving": False,
        "homed": False,
    }


async def test_the_functions_move_the_axis_and_end_when_it_stands():
    async with DRIVER.open(spec(velocity=10_000, acceleration=1_000_000), clock=WallClock()) as servo:
        assert isinstance(servo, Calls)
        assert await servo.call("move_to", {"position": 120}) == {"position": 120.0}
        assert (await servo.read("all")).values["moving"] is False
        assert await servo.call("read_position", {}) == {"position": 120.0}
        assert await servo.call("home", {}) == {"position": 0.0}
        assert (await servo.read("all")).values["homed"] is True


async def test_a_revised_axis_stays_where_it_is():
    async with DRIVER.open(spec(velocity=10_000, acceleration=1_000_000), clock=WallClock()) as servo:
        await servo.call("move_to", {"position": 120})
        await servo.revise(device_spec(DRIVER, connection={}, groups={"some": {"tags": {"at": TAGS["position"]}}}))

        assert (await servo.read("some")).values == {"at": 120.0}


async def test_stop_brakes_before_the_target():
    async with DRIVER.open(spec(velocity=100, acceleration=10_000), clock=WallClock()) as servo:
        await servo.write("target", 500.0)
        moving = asyncio.create_task(servo.call("stop", {}))

        stopped = await moving

        assert stopped["position"] < 500
        assert (await servo.read("all")).values["target"] == stopped["position"]


@pytest.mark.parametrize(
    ("function", "inputs", "why"),
    [
        ("move_to", {"position": 501}, "outside"),
        ("move_to", {}, "must be a number"),
        ("move_to", {"position": True}, "must be a number"),
        ("fly", {}, "no function"),
    ],
)
async def test_a_call_that_cannot_be_done_is_refused_with_the_reason(function, inputs, why):
    async with DRIVER.open(spec(), clock=WallClock()) as servo:
        with pytest.raises(DeviceError, match=why):
            await servo.call(function, inputs)


@pytest.mark.parametrize(("tag", "value"), [("position", 1.0), ("target", True), ("target", "far"), ("target", 501.0)])
async def test_a_write_that_cannot_be_done_is_refused(tag, value):
    async with DRIVER.open(spec(), clock=WallClock()) as servo:
        with pytest.raises(DeviceError):
            await servo.write(tag, value)


def test_only_the_target_may_be_writable():
    tags = {"speed": {"signal": "velocity", "type": "float64", "writable": True}}
    device = device_spec(DRIVER, connection={}, groups={"all": {"interval": "1s", "tags": tags}})

    (complaint,) = DRIVER.check(device)

    assert complaint.path == ("groups", "all", "tags", "speed", "writable")
    assert "target" in complaint.mend


def test_the_manifest_declares_the_functions_that_the_driver_has():
    plugin = load_plugin(Path(plugins.__file__).parent / "drivers" / "mock_servo")

    assert set(plugin.manifest.functions) == {"home", "move_to", "stop", "read_position"}
