import argparse
import asyncio
from itertools import pairwise

import pytest

from examples.plant.model import Plant
from examples.plant.simulate import FAULTS, LONGEST_GAP_S, drive, fault, parser


def test_every_fault_can_be_switched_on_from_the_command_line() -> None:
    for name, field in FAULTS.items():
        given = f"{name}=7" if field.type is int else name

        assert fault(given) == (field.name, 7 if field.type is int else True)


@pytest.mark.parametrize(
    ("given", "mend"),
    [
        ("tank-leek", "tank-leak"),
        ("silent-s", "silent-s=10"),
        ("silent-s=soon", "silent-s=10"),
        ("drop=3", "write drop"),
    ],
)
def test_a_wrong_fault_is_refused_with_what_would_be_right(given: str, mend: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=mend):
        fault(given)


def test_faults_add_up() -> None:
    options = parser().parse_args(["--fault", "tank-leak", "--fault", "silent-s=3"])

    assert options.fault == [("tank_leak", True), ("silent_s", 3)]


async def test_the_plant_keeps_step_with_the_clock() -> None:
    plant, stop = Plant.from_seed(1), asyncio.Event()
    refreshed: list[tuple[float, float]] = []

    async def refresh(now: float) -> None:
        refreshed.append((now, plant.elapsed_s))
        if len(refreshed) == 5:
            stop.set()

    async with asyncio.timeout(30):
        await drive(plant, refresh, stop)

    for (earlier, before), (later, after) in pairwise(refreshed):
        assert after - before == pytest.approx(min(later - earlier, LONGEST_GAP_S))
