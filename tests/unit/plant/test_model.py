"""The plant's physics: what must hold whatever is done to it, and that each fault does what it says."""

import math
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from examples.plant.filling import LineState
from examples.plant.model import BATCH_BOTTLES, RECIPES, Alarms, Plant
from examples.plant.syrup import WATER_PER_SYRUP
from plugins.functions.vibration.function import vibration

DT = 0.04


@pytest.fixture
def plant() -> Plant:
    return Plant.from_seed(7)


def run(plant: Plant, seconds: float) -> None:
    for _ in range(round(seconds / DT)):
        plant.step(DT)


def run_until(plant: Plant, reached: Callable[[], bool], *, within_s: float) -> None:
    start = plant.elapsed_s
    while not reached():
        assert plant.elapsed_s - start < within_s, f"not reached within {within_s} s of the plant's time"
        plant.step(DT)


NUMBERS = {
    "tank.set_point_pct": (-50, 150),
    "pump.set_point_pct": (-50, 150),
    "conveyor.set_point_m_s": (-1, 2),
    "pasteuriser.set_point_c": (0, 200),
    "pasteuriser.pid.gain": (-1, 100),
    "compressor.set_point_bar": (0, 20),
}
COMMANDS = st.one_of(
    *(st.tuples(st.just(path), st.floats(*limits) | st.floats()) for path, limits in NUMBERS.items()),
    st.tuples(st.just("recipe"), st.sampled_from([*RECIPES, "Lava"])),
    st.tuples(
        st.sampled_from(
            [
                "run",
                "faults.level_stuck",
                "faults.level_broken",
                "faults.temperature_broken",
                "faults.pump_wear",
                "faults.pump_clogged",
                "faults.tank_leak",
                "faults.capper_slip",
            ]
        ),
        st.booleans(),
    ),
)


@settings(max_examples=40, deadline=None)
@example(commands=[(("conveyor.set_point_m_s", 2.2e-309), 1.0)], seed=0)
@given(commands=st.lists(st.tuples(COMMANDS, st.floats(0.01, 30)), max_size=8), seed=st.integers(0, 2**32))
def test_the_balances_close_and_nothing_is_negative_whatever_is_commanded(
    commands: list[tuple[tuple[str, bool | float | str], float]], seed: int
) -> None:
    plant = Plant.from_seed(seed)
    tank, mixer = plant.tank, plant.mixer
    syrup_l, bowl_l = tank.volume_l, mixer.bowl_l
    counters = _counters(plant)

    for (path, value), seconds in commands:
        plant.command(path, value)
        plant.step(seconds)

        spent = tank.drawn_l + tank.leaked_l + tank.overflowed_l
        assert tank.volume_l == pytest.approx(syrup_l + tank.filled_l - spent, abs=1e-6)
        assert mixer.bowl_l == pytest.approx(bowl_l + tank.drawn_l + mixer.water_l - plant.filler.bottled_l, abs=1e-6)
        assert mixer.water_l == pytest.approx(WATER_PER_SYRUP * tank.drawn_l)
        assert 0.0 <= tank.volume_l <= tank.CAPACITY_L
        assert 0.0 <= mixer.bowl_l <= mixer.BOWL_L + 1e-9
        assert plant.pump.flow_l_s >= 0.0
        assert plant.conveyor.speed_m_s >= 0.0
        counted = _counters(plant)
        assert all(now >= before for now, before in zip(counted, counters, strict=True)), "a counter fell"
        counters = counted


def _counters(plant: Plant) -> tuple[float, ...]:
    meter, oven = plant.meter, plant.pasteuriser
    return (
        plant.filler.bottles,
        plant.filler.rejected,
        meter.energy_wh,
        meter.impulses,
        oven.lethality,
        oven.treated_l,
        plant.mixer.water_l,
        plant.pump.running_s,
    )


def test_the_same_seed_gives_the_same_plant_and_another_gives_another() -> None:
    one, same, other = Plant.from_seed(1), Plant.from_seed(1), Plant.from_seed(2)

    for plant in (one, same, other):
        run(plant, 20.0)

    assert one.tank.sensor.value == same.tank.sensor.value
    assert one.filler.volume_ml == same.filler.volume_ml
    assert one.tank.sensor.value != other.tank.sensor.value


def test_a_long_step_takes_the_plant_as_far_as_many_short_ones() -> None:
    long, short = Plant.from_seed(3), Plant.from_seed(3)

    long.step(30.0)
    run(short, 30.0)

    assert long.filler.bottles == pytest.approx(short.filler.bottles, abs=1)
    assert long.tank.volume_l == pytest.approx(short.tank.volume_l, rel=0.01)
    assert long.pasteuriser.temperature_c == pytest.approx(short.pasteuriser.temperature_c, abs=0.1)


def test_the_tank_is_kept_near_its_set_point(plant: Plant) -> None:
    plant.command("tank.set_point_pct", 50.0)
    run(plant, 150.0)

    levels = []
    for _ in range(180):
        run(plant, 1.0)
        levels.append(plant.tank.level_pct)

    assert 45.0 < min(levels) < 48.0
    assert 52.0 < max(levels) < 55.0


def test_the_oven_settles_at_its_set_point_without_much_overshoot(plant: Plant) -> None:
    run(plant, 300.0)
    plant.command("pasteuriser.set_point_c", 78.0)

    hottest = 0.0
    for _ in range(240):
        run(plant, 1.0)
        hottest = max(hottest, plant.pasteuriser.temperature_c)

    assert plant.pasteuriser.temperature_c == pytest.approx(78.0, abs=0.3)
    assert hottest < 79.5


def test_bottles_per_minute_follow_the_conveyor(plant: Plant) -> None:
    plant.command("conveyor.set_point_m_s", 0.4)
    run(plant, 10.0)
    before = plant.filler.bottles

    run(plant, 60.0)

    assert plant.filler.state is LineState.RUNNING
    assert plant.bottles_min == pytest.approx(200.0)
    assert plant.filler.bottles - before == pytest.approx(200, abs=1)


def test_a_stopped_line_comes_to_rest_and_starts_again(plant: Plant) -> None:
    run(plant, 10.0)

    plant.command("run", value=False)
    plant.step(DT)
    assert plant.filler.state is LineState.STOPPING
    run(plant, 10.0)
    bottles = plant.filler.bottles
    run(plant, 10.0)

    assert plant.filler.state is LineState.STOPPED
    assert plant.filler.bottles == bottles
    assert not plant.pump.running
    plant.command("run", value=True)
    run_until(plant, lambda: plant.filler.state is LineState.RUNNING, within_s=10.0)


def test_a_recipe_brings_its_sugar_and_its_bottle(plant: Plant) -> None:
    plant.command("recipe", "Zürich Spritz")
    run(plant, 200.0)

    assert plant.mixer.brix == pytest.approx(6.8, abs=0.1)
    assert plant.filler.volume_ml == pytest.approx(330.0, abs=10.0)
    assert len(plant.filler.last_volumes_ml) == 10


def test_an_unknown_recipe_is_ignored(plant: Plant) -> None:
    plant.command("recipe", "Lava")

    assert plant.recipe == "Lemonade"


@pytest.mark.parametrize("path", list(Plant.LIMITS))
def test_set_points_are_held_to_their_limits_and_keep_their_type(plant: Plant, path: str) -> None:
    low, high = Plant.LIMITS[path]
    kind = type(_at(plant, path))

    plant.command(path, kind(high + 1000))
    assert _at(plant, path) == high
    plant.command(path, kind(low - 1000))
    assert _at(plant, path) == low
    assert isinstance(_at(plant, path), kind)


def test_a_set_point_of_nan_is_ignored(plant: Plant) -> None:
    plant.command("tank.set_point_pct", math.nan)

    assert plant.tank.set_point_pct == 60.0


def _at(plant: Plant, path: str) -> float:
    value: object = plant
    for name in path.split("."):
        value = getattr(value, name)
    assert isinstance(value, int | float)
    return value


def test_a_new_batch_begins_every_thousand_bottles(plant: Plant) -> None:
    assert plant.batch_id == "B000001"

    plant.filler.bottles = BATCH_BOTTLES

    assert plant.batch_id == "B000002"


def test_energy_is_the_sum_of_power(plant: Plant) -> None:
    before, joules = plant.meter.energy_wh, 0.0

    for _ in range(1000):
        plant.step(DT)
        joules += 1000.0 * plant.meter.power_kw * DT

    assert plant.meter.energy_wh - before == pytest.approx(joules / 3600.0, rel=1e-6)
    assert plant.meter.impulses == int(plant.meter.energy_kwh * 1000)


def test_current_times_voltage_is_the_apparent_power(plant: Plant) -> None:
    run(plant, 5.0)

    meter = plant.meter
    apparent_va = sum(phase.voltage_v * phase.current_a for phase in (meter.l1, meter.l2, meter.l3))

    assert abs(meter.power_factor) == pytest.approx(1000.0 * meter.power_kw / apparent_va, rel=1e-6)


def test_a_stuck_level_sensor_lets_the_tank_run_over(plant: Plant) -> None:
    run_until(plant, lambda: plant.tank.valve_pct == 100.0, within_s=120.0)
    plant.command("faults.level_stuck", value=True)
    plant.step(DT)
    shown = plant.tank.sensor.value

    run_until(plant, lambda: plant.tank.overflowed_l > 1.0, within_s=400.0)

    assert plant.tank.sensor.value == shown
    assert plant.alarms & Alarms.TANK_HIGH


def test_a_broken_level_sensor_reads_nan_and_shuts_the_valve(plant: Plant) -> None:
    run_until(plant, lambda: plant.tank.valve_pct == 100.0, within_s=120.0)
    plant.command("faults.level_broken", value=True)
    run(plant, 10.0)

    assert math.isnan(plant.tank.sensor.value)
    assert plant.tank.valve_pct == 0.0
    assert plant.alarms & Alarms.LEVEL_SENSOR
    plant.command("faults.level_broken", value=False)
    plant.step(DT)
    assert plant.tank.sensor.value == pytest.approx(plant.tank.level_pct, abs=0.5)


def test_a_leak_empties_the_tank_and_starves_the_filler(plant: Plant) -> None:
    plant.command("tank.set_point_pct", 20.0)
    plant.command("faults.tank_leak", value=True)
    plant.command("faults.level_broken", value=True)

    run_until(plant, lambda: plant.filler.state is LineState.STARVED, within_s=900.0)

    assert plant.tank.low
    assert plant.tank.leaked_l > 0.0
    assert plant.alarms & Alarms.TANK_LOW
    run(plant, 5.0)
    assert plant.bottles_min == 0.0


def test_a_worn_pump_shakes_and_starves_the_filler_until_it_is_overhauled(plant: Plant) -> None:
    run(plant, 30.0)
    sound = plant.pump.vibration.value
    plant.command("faults.pump_wear", value=True)

    run_until(plant, lambda: plant.filler.state is LineState.STARVED, within_s=1500.0)

    assert plant.pump.vibration.value > 3 * sound
    assert plant.alarms & Alarms.PUMP_VIBRATION
    plant.command("faults.pump_wear", value=False)
    run_until(plant, lambda: plant.filler.state is LineState.RUNNING, within_s=60.0)
    assert plant.pump.wear < 0.01
    assert plant.mixer.bowl_l > 0.9 * plant.filler.ENOUGH_L


def test_the_accelerometer_rings_with_a_worn_bearing_and_swings_with_a_clogged_impeller(plant: Plant) -> None:
    def bands() -> tuple[float, float]:
        """RMS up to 200 Hz, and around the housing's 620 Hz, of the next block."""
        run(plant, 2.5)
        found = vibration(plant.pump.accelerometer.samples, 2048, [10, 200, 450, 850])["band_rms"]
        return found[0], found[2]

    run(plant, 30.0)
    low, high = bands()
    plant.command("faults.pump_clogged", value=True)
    clogged_low, clogged_high = bands()
    plant.command("faults.pump_clogged", value=False)
    plant.command("faults.pump_wear", value=True)
    run(plant, 40.0)
    worn_low, worn_high = bands()

    assert clogged_low > 2 * low > worn_low
    assert worn_high > 2 * high > clogged_high


def test_a_slipping_capper_rejects_bottles(plant: Plant) -> None:
    run(plant, 60.0)
    assert plant.filler.rejected <= 1

    plant.command("faults.capper_slip", value=True)
    run(plant, 60.0)

    assert plant.filler.rejected > 100


def test_a_broken_temperature_sensor_switches_the_heater_off_and_diverts(plant: Plant) -> None:
    run(plant, 200.0)
    assert not plant.pasteuriser.diverting
    treated_l = plant.pasteuriser.treated_l

    plant.command("faults.temperature_broken", value=True)
    run(plant, 30.0)

    assert math.isnan(plant.pasteuriser.sensor.value)
    assert plant.pasteuriser.pid.output == 0.0
    assert plant.pasteuriser.diverting
    assert plant.pasteuriser.treated_l - treated_l < 0.2
    assert plant.alarms & Alarms.TEMPERATURE_SENSOR


def test_a_sound_plant_in_production_has_no_alarm(plant: Plant) -> None:
    run(plant, 300.0)

    assert plant.alarms == Alarms(0)
