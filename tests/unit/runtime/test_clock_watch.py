"""Steps of the machine's clock, as a service sees them."""

from typing import Any

import pytest
import structlog
from prometheus_client import CollectorRegistry
from structlog.testing import CapturingLogger

from services.runtime.clock_watch import EARLIEST_US, ClockWatch
from services.runtime.health import Health
from services.runtime.metrics import Metrics
from tests.unit.runtime.manual_clock import START_US, ManualClock


class Bench:
    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.told: list[dict[str, Any]] = []
        self.metrics = Metrics(CollectorRegistry())
        self.health = Health(host="127.0.0.1", port=0, registry=self.metrics.registry, clock=clock)
        log = structlog.wrap_logger(CapturingLogger(), processors=[], wrapper_class=structlog.stdlib.BoundLogger)
        self.watch = ClockWatch(clock=clock, health=self.health, metrics=self.metrics, log=log, tell=self.told.append)

    def pass_by(self, seconds: int, *, pace: float = 1.0) -> None:
        """A look every second. pace: of the wall clock."""
        for _ in range(seconds):
            self.clock.advance(1.0)
            self.clock.wall_us += round((pace - 1.0) * 1e6)
            self.watch.look()

    @property
    def steps(self) -> float | None:
        return self.metrics.registry.get_sample_value("dinrail_clock_steps_total")


@pytest.fixture
def bench(clock: ManualClock) -> Bench:
    return Bench(clock)


@pytest.mark.parametrize("by_s", [3600.0, -2.5])
def test_a_step_is_told_once_with_from_to_and_by(bench: Bench, by_s: float) -> None:
    bench.pass_by(5)
    bench.clock.set_wall(bench.clock.wall_us + int(by_s * 1e6))
    bench.pass_by(30)

    to = START_US + 6_000_000 + int(by_s * 1e6)
    assert bench.told == [{"from": START_US + 6_000_000, "to": to, "by_s": by_s, "steps": 1}]
    assert (bench.steps, bench.metrics.registry.get_sample_value("dinrail_clock_step_seconds")) == (1, by_s)


@pytest.mark.parametrize("pace", [1.0, 1.0005, 0.9995, 1.5])
def test_a_clock_that_is_pulled_to_the_right_time_does_not_step(bench: Bench, pace: float) -> None:
    bench.pass_by(7200, pace=pace)

    assert (bench.told, bench.steps) == ([], 0)


def test_a_process_that_stood_still_has_seen_no_step(bench: Bench) -> None:
    bench.pass_by(3)
    bench.clock.advance(500)
    bench.pass_by(3)

    assert bench.told == []


def test_a_clock_that_jumps_all_the_time_is_told_every_ten_seconds_with_the_sum(bench: Bench) -> None:
    for _ in range(61):
        bench.clock.set_wall(bench.clock.wall_us + 5_000_000)
        bench.pass_by(1)

    assert [(one["by_s"], one["steps"]) for one in bench.told] == [(5.0, 1)] + [(50.0, 10)] * 6
    assert bench.steps == 61


def test_a_clock_that_was_never_set_is_told_in_health_until_it_is(bench: Bench) -> None:
    bench.clock.set_wall(90_000_000)
    bench.watch.look()
    part = bench.health.state()["parts"]["clock"]
    assert not part["ok"]
    assert "1970-01-01 00:01 UTC, before 2024: set it" in part["detail"]

    bench.clock.set_wall(EARLIEST_US)
    bench.watch.look()
    assert bench.health.state()["parts"]["clock"]["ok"]
