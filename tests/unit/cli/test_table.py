import pytest
from rich.console import Console

from contracts.v1.message import Value
from services.cli.picture import Picture
from services.cli.table import age_text, screen, value_text
from tests.unit.cli.conftest import info


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (True, "true"),
        (False, "false"),
        (12, "12"),
        (0.1, "0.1"),
        (50.20000076293945, "50.2"),
        (1e-9, "1e-09"),
        ("idle", "idle"),
        ([1, 2.5], "[1, 2.5]"),
    ],
)
def test_a_value_reads_as_people_write_it(value: Value, text: str) -> None:
    assert value_text(value) == text


@pytest.mark.parametrize(
    ("age_ms", "text"),
    [
        (0, "0 ms"),
        (-500, "0 ms"),
        (999, "999 ms"),
        (1000, "1.0 s"),
        (59_900, "59.9 s"),
        (60_000, "1 min"),
        (7_200_000, "2 h"),
        (3 * 86_400_000, "3 d"),
    ],
)
def test_an_age_stands_in_its_largest_unit_and_is_never_negative(age_ms: int, text: str) -> None:
    assert age_text(1_000_000, 1_000_000 + age_ms) == text


def shown(of: Picture, height: int) -> list[str]:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(screen(of, height=height))
    return capture.get().rstrip("\n").splitlines()


def test_the_screen_shows_services_devices_and_values(picture: Picture) -> None:
    text = "\n".join(shown(picture, height=40))

    for word in ("gateway gateway", "device plc", "online", "level", "1.5", "bar", "good"):
        assert word in text


def test_a_low_screen_shows_something_of_each_device(picture: Picture) -> None:
    for device in ("axis", "oven"):
        picture.devices[device] = info(*(f"tag-{number}" for number in range(50)), device=device)

    text = "\n".join(shown(picture, height=12))

    for device in ("axis", "oven", "plc"):
        assert f"\n{device} " in text


def test_a_low_screen_says_how_many_values_it_leaves_out(picture: Picture) -> None:
    lines = shown(picture, height=7)

    assert "1 more" in lines[-1]
    assert len(lines) <= 7
